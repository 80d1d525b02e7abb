"""Promise 10: a reader takes every event in the input, or refuses the input."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.errors import UnreadableInput
from ociaudit.formats.reader import open_records

EVENTS = st.sampled_from(["api", "sdk", "cli", "cloudevents", "wrapped", "searched"])
NAMES = st.sampled_from(["data", "results", "items", "events", "data", "results"])
SIBLINGS = st.sampled_from(['"summary":{"resultCount":1}', '"opc-next-page":null', '"fields":["a","b"]', '"n":1e5'])
BETWEEN = st.sampled_from(["\n", "\r\n", "", " ", "\n\ufeff", "\n\n"])


@st.composite
def pages(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> tuple[str, Any]:
    """Draw the members of a page: lists of what is inside, whose names may repeat, among other members."""
    lists = draw(st.lists(st.tuples(NAMES, st.lists(inner, max_size=3)), min_size=1, max_size=3))
    return ("page", [*lists, *draw(st.lists(SIBLINGS, max_size=2))])


TREES = st.recursive(
    EVENTS,
    lambda inner: st.one_of(pages(inner), st.tuples(st.just("array"), st.lists(inner, max_size=3))),
    max_leaves=12,
)


def write_event(kind: str, number: int) -> str:
    """Return an event in the naming of a tool."""
    key = f"id-{number}"
    cloud = {"type": "T", "specversion": "1.0", "id": key, "time": "2025-12-01T00:00:00Z", "data": {"eventName": "é"}}
    events: dict[str, Any] = {
        "api": {"eventType": "T", "eventId": key, "data": {"eventName": "é", "results": [1]}},
        "sdk": {"event_type": "T", "event_id": key},
        "cli": {"event-type": "T", "event-id": key},
        "cloudevents": cloud,
        "wrapped": {"datetime": 1, "logContent": cloud, "regionId": "r"},
        "searched": {"data": {"datetime": 1, "logContent": cloud}},
    }
    return json.dumps(events[kind], ensure_ascii=number % 2 == 0, indent=number % 3 or None)


def write(tree: Any, numbers: Iterator[int]) -> str:
    """Return a tree as JSON; each event takes the next number as its id."""
    if isinstance(tree, str):
        return write_event(tree, next(numbers))
    kind, parts = tree
    if kind == "array":
        return f"[{', '.join([write(part, numbers) for part in parts])}]"
    members = []
    for part in parts:
        if isinstance(part, str):
            members.append(part)
        else:
            name, inner = part
            members.append(f'"{name}": [{", ".join([write(one, numbers) for one in inner])}]')
    return "{" + ",".join(members) + "}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees=st.lists(TREES, min_size=1, max_size=5), between=BETWEEN, padding=st.sampled_from([0, 0, 0, 300_000]))
def test_every_event_of_any_mix_of_documents_is_read_or_the_input_is_refused(
    trees: list[Any], between: str, padding: int, tmp_path: Path
) -> None:
    """Events in pages, arrays and lines, nested and one behind the other, are each read once, or exit 6."""
    numbers = itertools.count()
    text = between.join([" " * padding + write(tree, numbers) for tree in trees])
    count = next(numbers)
    path = tmp_path / "mixed"
    path.write_text(text, encoding="utf-8")
    try:
        with open_records(path) as source:
            found = [json.loads(record.raw) for batch in source for record in batch]
    except UnreadableInput:
        assert not count or not is_plain(trees)
        return
    assert sorted(one["eventId"] for one in found if "eventId" in one) == sorted(f"id-{n}" for n in range(count))


def is_plain(trees: list[Any]) -> bool:
    """Return whether nothing in the trees is a reason to refuse them."""
    return all(map(is_readable, trees))


def is_readable(tree: Any) -> bool:
    """Return whether a tree must be read: an event, an array, or a page."""
    return isinstance(tree, str) or all(
        is_readable(part) for part in (tree[1] if tree[0] == "array" else [one for _, one in list_lists(tree)])
    )


def list_lists(tree: Any) -> list[tuple[str, Any]]:
    """Return what is inside of a page, with the names of the lists."""
    return [(part[0], one) for part in tree[1] if not isinstance(part, str) for one in part[1]]
