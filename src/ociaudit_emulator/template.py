"""Events in quantity: an event's text is made once, and its varying values are put in by position.

Owns: the text with gaps.
Must not: know what the values mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ociaudit_emulator.event_shape import FILL_NAMES, Fill, JsonObject

_MARK = re.compile(r"@@(\w+)@@")
MARKED_FILL = Fill(**{name: f"@@{name}@@" for name in FILL_NAMES})


class Template:
    """An event's JSON text in which the marked values are gaps."""

    def __init__(self, event: JsonObject) -> None:
        """Keep the text of an event that was shaped with MARKED_FILL."""
        text = write_compact(event).decode().replace("%", "%%")
        self._text = _MARK.sub(r"%(\1)s", text)

    def render(self, values: Mapping[str, str]) -> bytes:
        """Put the values into the gaps; they are the contents of JSON strings already."""
        return (self._text % values).encode()


def write_compact(event: JsonObject) -> bytes:
    """Write an event without white space, in UTF-8."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
