import json

from hypothesis import example, given
from hypothesis import strategies as st

from ociaudit.events.event import cut_event_id, encode_instant, encode_order, read_order
from ociaudit.events.fields import UNREADABLE_INSTANT
from ociaudit.events.page import read_event

instants = st.integers(0, 2**70) | st.integers(0, 3)
ids = st.text(st.characters() | st.characters(categories=["Cs"])) | st.text("\0\x01a\xff\ud800\udfff\ue000", max_size=4)


def list_code_points(text: str) -> list[int]:
    """The order that is meant: by code points."""
    return list(map(ord, text))


@given(instants, ids, instants, ids)
@example(0, "a", 0, "a\0")
@example(0, "a\0", 0, "a\x01")
@example(0, "\udfff", 0, "\ue000")
@example(0, "\uffff", 0, "\U00010000")
def test_encoded_orders_compare_like_the_pairs(instant: int, event_id: str, other: int, other_id: str) -> None:
    """Bytes compare as (instant, code points of the id) does, for any id at all."""
    left, right = encode_order(instant, event_id), encode_order(other, other_id)
    pair, other_pair = (instant, list_code_points(event_id)), (other, list_code_points(other_id))
    assert (left < right, left == right) == (pair < other_pair, pair == other_pair)


@given(ids, ids, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_no_order_is_the_beginning_of_another(event_id: str, other_id: str, suffix: bytes, other: bytes) -> None:
    """What is appended to an order decides only between equal ones."""
    left, right = encode_order(7, event_id), encode_order(7, other_id)
    if left != right:
        assert (left + suffix < right + other) == (left < right)


@given(instants, ids)
def test_an_order_gives_back_what_it_was_made_of(instant: int, event_id: str) -> None:
    """Decoding is the inverse of encoding, and an id is seen exactly when there is one."""
    order = encode_order(instant, event_id)
    assert read_order(order) == (instant, event_id)
    assert bool(cut_event_id(order)) == bool(event_id)


@given(instants, ids, instants)
def test_an_instant_bounds_its_events(instant: int, event_id: str, bound: int) -> None:
    """The bytes of an instant are below every event of it and above every event before it."""
    assert (encode_order(instant, event_id) >= encode_instant(bound)) == (instant >= bound)


@given(st.none() | st.integers() | st.text(max_size=5), st.none() | st.booleans() | st.text(max_size=5))
def test_an_event_without_time_or_id_sorts_first_and_is_kept(time: object, event_id: object) -> None:
    """A missing or unreadable time and a missing id sort before all others."""
    event = read_event(json.dumps({"eventTime": time, "eventId": event_id}).encode())
    assert read_order(event.order) == (UNREADABLE_INSTANT, event_id if isinstance(event_id, str) else "")
    assert event.order < read_event(b'{"eventTime":"0001-01-01T00:00:00Z"}').order
