import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit_emulator.http import ApiError, Cursor, TokenCodec, choose_page_size, join_page, shuffle_page
from ociaudit_emulator.settings import PageSize
from support.emulated_service import EmulatedService

CURSORS = st.builds(Cursor, st.text(), st.integers(-1, 2**63 - 1), st.integers(0, 2**32 - 1), st.booleans())
WINDOW = ("2025-12-01T00:00:00Z", "2025-12-03T00:00:00Z")


@given(CURSORS, st.integers())
def test_a_token_decodes_to_its_cursor(cursor, seed):
    """A token decoded with its own query is the cursor that was encoded."""
    codec = TokenCodec(seed)
    assert codec.decode(codec.encode(cursor), cursor.query) == cursor


@given(CURSORS, st.text())
def test_a_token_of_another_query_is_rejected(cursor, query):
    """A token decoded with any other query is a 400."""
    codec = TokenCodec(1)
    if query == cursor.query:
        return
    with pytest.raises(ApiError) as rejection:
        codec.decode(codec.encode(cursor), query)
    assert rejection.value.status == 400


@given(st.text(max_size=120))
def test_any_other_text_is_not_a_token(text):
    """Any text that is not a token is a 400."""
    with pytest.raises(ApiError) as rejection:
        TokenCodec(1).decode(text, "query")
    assert rejection.value.code == "PaginationTokenFormat"


def test_a_token_of_another_seed_is_rejected():
    """Emulators with different seeds reject each other's tokens."""
    token = TokenCodec(1).encode(Cursor("query"))
    with pytest.raises(ApiError):
        TokenCodec(2).decode(token, "query")


@given(st.integers(0, 1000))
def test_variable_page_sizes_stay_in_their_range_and_repeat(number):
    """The size of a page is in the range, and is the same each time."""
    size, cursor = PageSize(50, 150), Cursor("query", 7, number)
    assert 50 <= choose_page_size(size, cursor) <= 150
    assert choose_page_size(size, cursor) == choose_page_size(size, cursor)


def test_variable_page_sizes_vary():
    """A variable page size takes many values."""
    sizes = {choose_page_size(PageSize(50, 150), Cursor("query", 7, number)) for number in range(200)}
    assert len(sizes) > 50


@given(st.lists(st.binary(), unique=True))
def test_a_shuffled_page_holds_the_same_events(events):
    """Shuffling changes only the order, and gives the same order each time."""
    cursor = Cursor("query", 3)
    assert sorted(shuffle_page(events, cursor)) == sorted(events)
    assert shuffle_page(events, cursor) == shuffle_page(events, cursor)


@given(st.lists(st.sampled_from([b"{}", b'{"a":1}', b"{\n}"])))
def test_a_body_is_the_events_as_an_array(events):
    """A page's body is the events' bytes between brackets, with commas."""
    assert join_page(events) == b"[" + b",".join(events) + b"]"


@pytest.mark.parametrize("size", [PageSize(1, 1), PageSize(7, 7), PageSize(500, 500), PageSize(3, 90)])
def test_no_page_size_changes_what_is_served(service, size):
    """Pages of 1, 7, 500 and a variable number of events hold the same events as pages of 100."""
    sized = EmulatedService(page_size=size)
    root = service.tenancy.id
    assert sorted(sized.list_all_events(root, *WINDOW)) == sorted(service.list_all_events(root, *WINDOW))


def test_pages_follow_the_order_of_processing(service):
    """Events are shuffled within a page, while the pages themselves are in processing order."""
    plain = EmulatedService(is_shuffling=False)
    root = service.tenancy.id
    shuffled_pages, plain_pages = (one.list_pages(root, *WINDOW) for one in (service, plain))
    assert shuffled_pages != plain_pages
    assert [sorted(page) for page in shuffled_pages] == [sorted(page) for page in plain_pages]
