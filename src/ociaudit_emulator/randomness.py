"""Randomness that is the same in every process: bytes, numbers and OCIDs from hashes of names.

Nothing here uses `random`, `hash()` or a clock.
"""

from __future__ import annotations

import base64
import hashlib

_DRAWN_BYTES = 64


def draw_bytes(*names: object) -> bytes:
    """Return 64 bytes that depend only on the names."""
    text = "\x1f".join(map(str, names))
    return hashlib.blake2b(text.encode(), digest_size=_DRAWN_BYTES).digest()


def draw_number(*names: object) -> int:
    """Return a number below 2**64 that depends only on the names."""
    return int.from_bytes(draw_bytes(*names)[:8], "big")


def make_ocid(kind: str, *names: object, region_key: str = "") -> str:
    """Return a well-formed OCID: its last part has 60 characters of `a-z2-7`."""
    unique = base64.b32encode(draw_bytes("ocid", kind, *names)).decode().lower()[:56]
    return f"ocid1.{kind}.oc1.{region_key}.aaaa{unique}"


def make_hex(length: int, *names: object) -> str:
    """Return a string of hexadecimal digits, at most 128 of them."""
    return draw_bytes("hex", *names).hex()[:length]
