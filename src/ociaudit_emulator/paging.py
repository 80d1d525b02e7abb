"""Pages and their tokens.

Owns: how many events a page holds, the order inside it, and tokens bound to their question.
Must not: know what is being paged.

Invariants:
- a token tells nothing and fits one question only: any other question gets a 400 for it;
- the union of a question's pages does not depend on the size of the pages;
- sizes and orders depend on the question and the seed alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ociaudit_emulator.behaviour import PageSize
from ociaudit_emulator.chance import draw_number
from ociaudit_emulator.event_source import START, RawEvent
from ociaudit_emulator.service_error import ServiceError, invalid_parameter

_LAYOUT = struct.Struct(">16sqI?")
_CHECK_BYTES = 12


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where in the answers to one question a page begins."""

    question: str
    position: int = START
    page_number: int = 0
    is_looping: bool = False


class TokenCodec:
    """Turns cursors into opaque tokens and back."""

    def __init__(self, seed: int) -> None:
        """Derive the key that protects tokens from the seed."""
        self._key = hashlib.blake2b(f"page-tokens {seed}".encode(), digest_size=32).digest()

    def encode(self, cursor: Cursor) -> str:
        """Make the token that leads to a cursor's page."""
        content = _LAYOUT.pack(self._bind(cursor.question), cursor.position, cursor.page_number, cursor.is_looping)
        return base64.urlsafe_b64encode(self._check(content) + content).decode().rstrip("=")

    def decode(self, token: str, question: str) -> Cursor:
        """Read a token that was sent with a question.

        Raises: ServiceError (400) for a token that is garbled or of another question.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError) as error:
            raise _unreadable() from error
        check, content = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if len(content) != _LAYOUT.size or check != self._check(content):
            raise _unreadable()
        bound, position, page_number, is_looping = _LAYOUT.unpack(content)
        if bound != self._bind(question):
            message = "The page token belongs to another compartment, region or time range."
            raise invalid_parameter(message)
        return Cursor(question, position, page_number, is_looping)

    def _bind(self, question: str) -> bytes:
        """Shorten a question to the bytes that tie a token to it."""
        return hashlib.blake2b(question.encode(), digest_size=16, key=self._key).digest()

    def _check(self, content: bytes) -> bytes:
        """Compute the bytes that show a token was made here."""
        return hashlib.blake2b(content, digest_size=_CHECK_BYTES, key=self._key).digest()


def _unreadable() -> ServiceError:
    """Make the 400 for something that is no token of this service."""
    return ServiceError(400, "PaginationTokenFormat", "The page token cannot be read.")


def choose_page_size(size: PageSize, cursor: Cursor) -> int:
    """Choose how many events a page holds: the same page always the same number."""
    spread = size.largest - size.smallest
    if spread == 0:
        return size.smallest
    return size.smallest + draw_number("page-size", cursor.question, cursor.page_number) % (spread + 1)


def shuffle_page(events: Sequence[RawEvent], cursor: Cursor) -> list[RawEvent]:
    """Put a page's events out of order: the same page always into the same order."""
    shuffled = list(events)
    order = random.Random(f"{cursor.question} {cursor.position}")
    order.shuffle(shuffled)
    return shuffled


def join_page(events: Sequence[RawEvent]) -> bytes:
    """Write events as the JSON array that is a page's body, the events' bytes untouched."""
    if not events:
        return b"[]"
    # One join and no concatenation: pages are large, and each copy of one costs.
    pieces: list[RawEvent] = [b","] * (2 * len(events) + 1)
    pieces[0], pieces[1::2], pieces[-1] = b"[", events, b"]"
    return b"".join(pieces)
