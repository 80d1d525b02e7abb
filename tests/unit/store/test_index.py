import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.store.index import SUFFIX_BYTES, OrderIndex, split_location
from support.drawn_shards import make_event

batches = st.lists(
    st.tuples(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 3), st.integers(0, 1000)), max_size=12
)


@given(batches, st.integers(1, 40))
def test_the_order_is_that_of_sorting_everything(pages: list[tuple[list[int], int, int]], max_entries: int) -> None:
    """However few entries fit in memory, all come out once, ascending, and lead to where they stand."""
    with tempfile.TemporaryDirectory() as folder:
        index = OrderIndex(Path(folder), max_entries=max_entries)
        expected: list[tuple[bytes, tuple[int, int, int]]] = []
        for numbers, origin, offset in pages:
            events = [make_event(number) for number in numbers]
            index.add(events, origin=origin, offset=offset, lengths=[10 + number for number in numbers])
            position = offset
            for event, number in zip(events, numbers, strict=True):
                expected.append((event.order, (origin, position, 10 + number)))
                position += 10 + number
        assert len(index) == len(expected)
        for _ in range(2):  # it may be read again
            found = [(entry[:-SUFFIX_BYTES], split_location(entry)) for entry in index.iterate()]
            assert found == sorted(expected)
        parts = sorted(Path(folder).iterdir())
        assert all(part.stat().st_mode & 0o777 == 0o600 for part in parts)
        if len(expected) > max_entries + 6:
            assert parts


def test_what_an_earlier_process_left_is_overwritten(tmp_path: Path) -> None:
    """Part files of a killed process do not come into the order of the next."""
    for number in (1, 2):
        index = OrderIndex(tmp_path, max_entries=1)
        index.add([make_event(number)], origin=0, offset=number, lengths=[1])
        assert [split_location(entry)[1] for entry in index.iterate()] == [number]
