import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.archive.inputs import open_inputs
from ociaudit.errors import UnreadableInput
from ociaudit.operations.diff import FieldChange, compare_inputs, compare_records

SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
)
RECORDS = st.dictionaries(st.text("abc", min_size=1, max_size=2), VALUES, max_size=4)


def compare(old: Any, new: Any) -> list[tuple[str, str | None, str | None]]:
    """Return the fields that differ between two values."""
    changes = compare_records(json.dumps(old).encode(), json.dumps(new).encode())
    return [(each.path, each.old, each.new) for each in changes]


def test_a_field_is_named_by_its_path() -> None:
    """A changed, an added and a removed field have their JSON path, and both values as JSON."""
    old = {"data": {"identity": {"ipAddress": "10.0.0.1"}, "tags": [1, 2]}, "gone": None}
    new = {"data": {"identity": {"ipAddress": "10.0.0.2"}, "tags": [1, 3, 4]}, "more": True}
    assert compare(old, new) == [
        ("data.identity.ipAddress", '"10.0.0.1"', '"10.0.0.2"'),
        ("data.tags[1]", "2", "3"),
        ("data.tags[2]", None, "4"),
        ("gone", "null", None),
        ("more", None, "true"),
    ]


def test_the_text_of_a_number_counts_and_the_order_of_keys_does_not() -> None:
    """`1.0` and `1.00` differ, `true` and `1` differ, and an object with its keys in another order is the same."""
    assert compare_records(b'{"a": 1.0, "b": {"c": true}}', b'{"b": {"c": 1}, "a": 1.00}') == (
        FieldChange("a", "1.0", "1.00"),
        FieldChange("b.c", "true", "1"),
    )
    assert compare_records(b'{"a": 1, "b": 2}', b'{"b":2,"a":1}') == ()


@given(RECORDS, RECORDS)
def test_fields_differ_exactly_where_the_values_do(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Two records have a field that differs if their JSON values differ, and only then."""
    is_same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert (compare(old, new) == []) is is_same


def test_what_is_shown_is_bounded() -> None:
    """A record with thousands of changed fields, with long values, or nested very deeply has a bounded answer."""
    many = compare({str(number): 0 for number in range(5_000)}, {})
    assert len(many) == 200
    ((_, old, _),) = compare({"a": "x" * 10_000}, {"a": 1})
    assert old is not None
    assert len(old) == 200
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    assert len(compare_records(deep, b"{}")) == 1


def write_nested(folder: Path, depth: int) -> tuple[Path, Path]:
    """Write an event with lists inside each other in two files that differ in white space alone."""
    event = b'[{"eventId": "e", "eventTime": "2025-06-02T00:00:00.000Z",%b"data": {"a": %b}}]'
    paths = (folder / "a.json", folder / "b.json")
    for path, space in zip(paths, (b"", b" \t"), strict=True):
        path.write_bytes(event % (space, b"[" * depth + b"]" * depth))
    return paths


def test_nesting_is_compared_or_refused(tmp_path: Path) -> None:
    """White space means nothing at any depth that can be read; at any other the file is refused by name."""
    outcomes = []
    for depth in (1, 500, *range(900, 1_000, 9), 50_000):
        try:
            outcomes.append(compare_inputs(*open_inputs(write_nested(tmp_path, depth))).is_same)
        except UnreadableInput as error:
            outcomes.append(str(error))
    assert outcomes[:2] == [True, True]
    assert "a.json: an object is nested too deeply" in str(outcomes[-1])
    assert all(one is True or "nested too deeply" in str(one) for one in outcomes)
