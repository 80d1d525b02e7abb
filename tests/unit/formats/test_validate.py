import io
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from ociaudit.formats.json_reader import BadArray
from ociaudit.formats.validate import count_csv_rows, count_rows, read_lines
from support.forms import write_form
from support.json_bodies import OBJECTS

texts = st.lists(st.text(alphabet='}"\r\n,a', max_size=6), max_size=5)
sizes = st.integers(1, 50)


def split(data: bytes, size: int) -> list[bytes]:
    """Bytes in pieces."""
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(OBJECTS, max_size=5), sizes)
def test_lines_are_read_back(objects: list[str], size: int) -> None:
    """Every event with the byte at which it stands, however the file comes in pieces."""
    raws = [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]
    data = write_form("ndjson", raws)
    batches = list(read_lines(split(data, size)))
    assert [event.raw for batch in batches for event in batch.events] == raws
    for batch in batches:
        for event, offset in zip(batch.events, batch.offsets, strict=True):
            assert data[offset:].startswith(event.raw + b"\n")


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"{}\n{}", 3),
        (b"{}\n{\n", 3),
        (b"{}\n\n{}\n", 3),
        (b"{}\n[]\n", 3),
        (b"{}\n{},{}\n", 3),
        (b"{},\n{}\n", 0),
        (b"{}\n {}\n", 3),
        (b"[\n{}\n]\n", 0),
        (b"x", 0),
    ],
)
def test_what_is_no_line_is_found(data: bytes, offset: int) -> None:
    """The byte at which the bad line begins is named."""
    with pytest.raises(BadArray) as caught:
        list(read_lines([data]))
    assert caught.value.offset == offset


@given(texts, sizes)
def test_rows_of_csv_are_counted(names: list[str], size: int) -> None:
    """Whatever stands in the cells, a row counts once, however the file comes in pieces; a cut table is none."""
    raws = [b'{"data":{"eventName":%b}}' % text_to_json(name) for name in names]
    data = write_form("csv", raws)
    assert count_csv_rows(split(data, size)) == len(names)
    with pytest.raises(BadArray):
        count_csv_rows(split(data[:-1], size))


def text_to_json(text: str) -> bytes:
    """A text as JSON."""
    return b'"' + b"".join(b"\\u%04x" % ord(sign) for sign in text) + b'"'


@pytest.mark.parametrize("data", [b"", b"event_time\r\n", b"[\n]\n"])
def test_another_table_is_refused(data: bytes) -> None:
    """A table begins with our head."""
    with pytest.raises(BadArray, match="head"):
        count_csv_rows([data] if data else [])


def test_rows_of_parquet_are_counted() -> None:
    """The number of rows is the file's own; what is no Parquet file is refused."""
    for data, count in ((write_form("parquet", [b"{}"] * 7), 7), (write_form("parquet", []), 0)):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            assert count_rows(iter([data]), file, is_csv=False) == count
            file.truncate(len(data) // 2)
            with pytest.raises(BadArray, match="Parquet"):
                count_rows(iter([data]), file, is_csv=False)
    assert count_rows([write_form("csv", [b"{}"])], io.BytesIO(), is_csv=True) == 1
