"""One request and its undisturbed answer, as the faults see them.

Owns: what a fault may look at and use.
Must not: apply a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ociaudit_emulator.answer import Answer, Page
from ociaudit_emulator.event_source import RawEvent
from ociaudit_emulator.paging import TokenCodec
from ociaudit_emulator.routing import Call

MAX_SECONDS = 10**8


class FaultRequestError(Exception):
    """A scripted fault that cannot be understood; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, the answer it would get, and what a fault needs to make another one.

    `page` is None for answers without pages; `read_elsewhere` gives events of the same place
    from outside the request's window.
    """

    call: Call
    answer: Answer
    page: Page | None
    codec: TokenCodec
    is_gzip_accepted: bool
    read_elsewhere: Callable[[int], Sequence[RawEvent]]


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """The options of one scripted fault, read with defaults."""

    kind: str
    values: Mapping[str, object]

    def read_number(self, name: str, default: float) -> float:
        """Read a number that is not negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            message = f"option {name} of '{self.kind}' is {value!r}; it must be a number from 0"
            raise FaultRequestError(message)
        return value

    def read_any_number(self, name: str, default: float) -> float:
        """Read a number, which may be negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_SECONDS:
            message = (
                f"option {name} of '{self.kind}' is {value!r}; it must be a number from -{MAX_SECONDS} to {MAX_SECONDS}"
            )
            raise FaultRequestError(message)
        return value

    def read_count(self, name: str, default: int) -> int:
        """Read a whole number that is not negative."""
        return int(self.read_number(name, default))

    def read_text(self, name: str, default: str) -> str:
        """Read a text."""
        return str(self.values.get(name, default))

    def read_choice(self, name: str, choices: Sequence[str]) -> str:
        """Read one of a few texts; the first is the default."""
        value = self.read_text(name, choices[0])
        if value not in choices:
            message = f"option {name} of '{self.kind}' is {value!r}; it is one of {', '.join(choices)}"
            raise FaultRequestError(message)
        return value

    def read_flag(self, name: str) -> bool:
        """Read a yes or no; no by default."""
        return bool(self.values.get(name, False))

    def read_headers(self) -> dict[str, str]:
        """Read headers to send."""
        headers = self.values.get("headers", {})
        if not isinstance(headers, dict):
            message = f"option headers of '{self.kind}' must be a JSON object of texts"
            raise FaultRequestError(message)
        return {str(name): str(value) for name, value in headers.items()}
