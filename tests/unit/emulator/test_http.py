import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit_emulator.http import ApiError, Cursor, TokenCodec, choose_page_size, join_page, shuffle_page
from ociaudit_emulator.settings import PageSize
from support.emulated_service import EmulatedService

CURSORS = st.builds(Cursor, st.text(), st.integers(-1, 2**63 - 1), st.integers(0, 2**32 - 1), st.booleans())
WINDOW = ("2025-12-01T00:00:00Z", "2025-12-03T00:00:00Z")


@given(CURSORS, st.integers())
def test_a_token_gives_back_its_cursor(cursor, seed):
    """A token read with its own question is the cursor that it was made from."""
    codec = TokenCodec(seed)
    assert codec.decode(codec.encode(cursor), cursor.query) == cursor


@given(CURSORS, st.text())
def test_a_token_read_with_another_question_is_refused(cursor, query):
    """A token read with any other question is a 400."""
    codec = TokenCodec(1)
    if query == cursor.query:
        return
    with pytest.raises(ApiError) as refused:
        codec.decode(codec.encode(cursor), query)
    assert refused.value.status == 400


@given(st.text(max_size=120))
def test_anything_else_is_no_token(text):
    """A text that was not made here is a 400, whatever it is."""
    with pytest.raises(ApiError) as refused:
        TokenCodec(1).decode(text, "question")
    assert refused.value.code == "PaginationTokenFormat"


def test_a_token_of_another_seed_is_refused():
    """Emulators of other seeds do not take each other's tokens."""
    token = TokenCodec(1).encode(Cursor("question"))
    with pytest.raises(ApiError):
        TokenCodec(2).decode(token, "question")


@given(st.integers(0, 1000))
def test_varying_sizes_stay_in_their_range_and_repeat(number):
    """The size of a page lies in the range and is the same whenever it is asked for."""
    size, cursor = PageSize(50, 150), Cursor("question", 7, number)
    assert 50 <= choose_page_size(size, cursor) <= 150
    assert choose_page_size(size, cursor) == choose_page_size(size, cursor)


def test_varying_sizes_vary():
    """A varying page size takes many values."""
    sizes = {choose_page_size(PageSize(50, 150), Cursor("question", 7, number)) for number in range(200)}
    assert len(sizes) > 50


@given(st.lists(st.binary(), unique=True))
def test_a_shuffled_page_holds_the_same_events(events):
    """Shuffling changes nothing but the order, and gives the same order again."""
    cursor = Cursor("question", 3)
    assert sorted(shuffle_page(events, cursor)) == sorted(events)
    assert shuffle_page(events, cursor) == shuffle_page(events, cursor)


@given(st.lists(st.sampled_from([b"{}", b'{"a":1}', b"{\n}"])))
def test_a_body_is_the_events_and_nothing_else(events):
    """A page's body is the events' bytes between brackets, with commas."""
    assert join_page(events) == b"[" + b",".join(events) + b"]"


@pytest.mark.parametrize("size", [PageSize(1, 1), PageSize(7, 7), PageSize(500, 500), PageSize(3, 90)])
def test_no_page_size_changes_what_is_served(service, size):
    """Pages of 1, 7, 500 and of varying sizes hold the same events as pages of 100."""
    sized = EmulatedService(page_size=size)
    root = service.tenancy.id
    assert sorted(sized.list_all_events(root, *WINDOW)) == sorted(service.list_all_events(root, *WINDOW))


def test_pages_follow_the_order_of_processing(service):
    """Events are shuffled inside a page, while the pages themselves go forward in time."""
    plain = EmulatedService(is_shuffling=False)
    root = service.tenancy.id
    shuffled_pages, plain_pages = (one.list_pages(root, *WINDOW) for one in (service, plain))
    assert shuffled_pages != plain_pages
    assert [sorted(page) for page in shuffled_pages] == [sorted(page) for page in plain_pages]
