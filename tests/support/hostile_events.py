"""Events whose texts are hostile to CSV readers, spreadsheets, SQL and JSON, and the rows that tables make of them."""

from __future__ import annotations

import json

from ociaudit.events.columns import COLUMNS, read_row
from ociaudit.formats.base import Record
from ociaudit.formats.csv import FORMULA_SIGNS
from ociaudit.planning.shard import Target

HOSTILE_TEXTS = [
    "nul\0 inside",
    "\0",
    "=cmd|'/c calc'!A1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'already",
    'say "x"',
    '"\r\n',
    '}"\r\n',
    "a,b;c",
    "line\nbreak\r\nand more",
    "\u2028\x85\x0b\x0c",
    "\x1b[31mred\x07",
    "\u202egnp.exe",
    "<script>alert(1)</script>",
    "'; DROP TABLE events; --",
    "NULL",
    "null",
    "NaN",
    "true",
    "007",
    "1e5",
    "2025-12-01T00:00:00Z",
    "",
    " ",
    "é日😀",
    "x" * 40_000,
]


def make_event(number: int, text: str) -> dict[str, object]:
    """Return an event with a text in every field whose content a caller can choose."""
    return {
        "eventType": text,
        "eventId": f"{number}",
        "eventTime": f"2025-12-01T00:00:{number:02}.123456Z",
        "source": text,
        "data": {
            "eventName": text,
            "compartmentName": text,
            "resourceName": text,
            "freeformTags": {text: text},
            "identity": {"principalName": text, "userAgent": text, "ipAddress": f"10.0.0.{number}, {text}"},
            "request": {"action": "GET", "path": text, "headers": {"User-Agent": [text]}},
            "response": {"status": "404" if number % 2 else None, "responseTime": "no time", "message": text},
            "additionalDetails": {"n": 1, text: None},
        },
    }


RAWS = [json.dumps(make_event(at, text), ensure_ascii=at % 2 == 0).encode() for at, text in enumerate(HOSTILE_TEXTS)]
RAWS += [b"{}", rb'{"eventId":"half","data":{"eventName":"\ud800 half a pair","freeformTags":{"\udfff":"\\"}}}']
ORIGINS = [Target("us-ashburn-1", "ocid1.compartment.oc1..a") if at % 3 else None for at in range(len(RAWS))]
ROWS = [read_row(Record(raw, origin)) for raw, origin in zip(RAWS, ORIGINS, strict=True)]
NAMES = [column.name for column in COLUMNS]
TEXTS = [column.name for column in COLUMNS if column.kind in {"text", "json"}]


def defuse(value: object) -> object:
    """Return the value of a cell in CSV, where a text never begins a formula."""
    return "'" + value if isinstance(value, str) and value[:1] in FORMULA_SIGNS else value


def expect_column(name: str, *, is_defused: bool) -> list[object]:
    """Return the values of a column."""
    values: list[object] = [row[NAMES.index(name)] for row in ROWS]
    return list(map(defuse, values)) if is_defused else values
