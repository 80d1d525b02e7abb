"""Chance that is the same in every process: draws made by hashing names.

Owns: the one way in which a seed becomes bytes, numbers and OCIDs.
Must not: use `random`, `hash()` or a clock.
"""

from __future__ import annotations

import base64
import hashlib

DRAW_BYTES = 64


def draw_bytes(*names: object) -> bytes:
    """Draw 64 bytes that depend on the names alone."""
    text = "\x1f".join(map(str, names))
    return hashlib.blake2b(text.encode(), digest_size=DRAW_BYTES).digest()


def draw_number(*names: object) -> int:
    """Draw a number below 2**64 that depends on the names alone."""
    return int.from_bytes(draw_bytes(*names)[:8], "big")


def draw_fraction(*names: object) -> float:
    """Draw a number in [0, 1) that depends on the names alone."""
    return (draw_number(*names) >> 11) / (1 << 53)


def make_ocid(kind: str, *names: object, region_key: str = "") -> str:
    """Make a well-formed OCID: its last part has 60 characters of `a-z2-7`."""
    unique = base64.b32encode(draw_bytes("ocid", kind, *names)).decode().lower()[:56]
    return f"ocid1.{kind}.oc1.{region_key}.aaaa{unique}"


def make_hex(length: int, *names: object) -> str:
    """Make a string of hexadecimal digits, at most 128 of them."""
    return draw_bytes("hex", *names).hex()[:length]
