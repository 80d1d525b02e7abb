"""Hypothesis strategies for JSON as a hostile server may write it: text whose every byte is known."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

WHITE_SPACE = st.sampled_from(["", "", "", " ", "\n", "\r\n", "\t", "\r", "  \n\t"])
SPACES = st.lists(WHITE_SPACE, max_size=12)

_FRAGMENTS = (
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=0x20), min_size=1, max_size=6
    )
    | st.sampled_from(["\\n", "\\\\", '\\"', "\\/", "\\u0041", "\\u0000", "\\r", "\\u2028", "{[,]}:", "\u2028", "\x7f"])
    | st.sampled_from(["\\ud800", "\\udc00", "\\ud83d\\ude00", "\\udfff\\ud800", "\\uD8aB"])
)
STRINGS = st.lists(_FRAGMENTS, max_size=4).map(lambda fragments: '"' + "".join(fragments) + '"')
NUMBERS = st.integers().map(str) | st.sampled_from(
    ["-0", "0.10", "1e999", "-1.5E-400", "7" * 5000, "12345678901234567890"]
)
_LEAVES = st.sampled_from(["null", "true", "false"]) | NUMBERS | STRINGS
_KNOWN = ["eventTime", "eventId", "eventType", "data", "eventName", "compartmentId", "event\\u0049d"]
_NAMES = st.sampled_from([f'"{name}"' for name in _KNOWN]) | STRINGS


def _write_array(items: Sequence[tuple[str, str, str]], inside: str) -> str:
    return "[" + (",".join(before + item + after for before, item, after in items) or inside) + "]"


def _write_object(members: Sequence[tuple[str, str, str, str, str, str]], inside: str) -> str:
    return "{" + (",".join(a + name + b + ":" + c + value + d for a, name, b, c, value, d in members) or inside) + "}"


def _arrays(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(WHITE_SPACE, inner, WHITE_SPACE), max_size=3)
    return st.builds(_write_array, items, WHITE_SPACE)


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(WHITE_SPACE, _NAMES, WHITE_SPACE, WHITE_SPACE, inner, WHITE_SPACE)
    return st.builds(_write_object, st.lists(member, max_size=4), WHITE_SPACE)


VALUES = st.recursive(_LEAVES, lambda inner: _arrays(inner) | _objects(inner), max_leaves=8)
OBJECTS = _objects(VALUES)


def write_body(objects: Sequence[str], spaces: Sequence[str]) -> str:
    """Return a page's body: the objects in an array, with the given whitespace between the tokens, in turn."""
    gaps = iter(spaces)
    inside = [next(gaps, "") + each + next(gaps, "") for each in objects]
    return next(gaps, "") + "[" + (",".join(inside) or next(gaps, "")) + "]" + next(gaps, "")
