"""What is written in any form is read back: to the byte where the form keeps bytes, else field for field."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from ociaudit.events.field_naming import SHAPES, Shape, choose_shape
from ociaudit.formats.base import EventEncoder, Record
from ociaudit.formats.compression import COMPRESSION_NAMES, CompressionName, make_compressor
from ociaudit.formats.reader import open_records
from ociaudit.formats.registry import FORMAT_NAMES, FormatName, make_format
from ociaudit.planning.shard import Target
from support.json_bodies import OBJECTS

FIRST = b'{"eventType":"x"}'
TARGETS = st.none() | st.builds(
    Target, st.sampled_from(["r", 'a"\\b', "é\u2028"]), st.sampled_from(["c", "c=1", '"origin"'])
)
RECORDS = st.lists(st.tuples(OBJECTS, TARGETS), max_size=3)
SPELLINGS = st.builds(EventEncoder, st.sampled_from(SHAPES), st.booleans())


def write(
    records: list[Record], path: Path, file_format: FormatName, compression: CompressionName, spelling: EventEncoder
) -> None:
    """Write records into a file."""
    layout = make_format(file_format, spelling, scratch=path.parent)
    compressor = make_compressor(compression)
    pieces = [layout.begin(), layout.write([one.raw for one in records], [one.origin for one in records])]
    pieces += layout.finish()
    layout.close()
    path.write_bytes(b"".join([*map(compressor.compress, pieces), compressor.flush()]))


def apply(raw: bytes, shape: Shape) -> bytes:
    """Spell an event, which need not be in the API's spelling for that."""
    return choose_shape(shape)(raw)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, st.sampled_from(FORMAT_NAMES), st.sampled_from(COMPRESSION_NAMES), SPELLINGS)
def test_what_was_written_is_read(
    drawn: list[tuple[str, Target | None]], file_format: FormatName, compression: CompressionName, spelling: EventEncoder
) -> None:
    """Every format, compression and spelling: the same events in the same order, with the origins that the file has."""
    if file_format == "parquet":
        compression = "none"
    raws = [FIRST, *(parse_page(f"[{text}]".encode())[0].raw for text, _ in drawn)]
    records = [Record(raw, target) for raw, target in zip(raws, [None, *(target for _, target in drawn)], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(records, path, file_format, compression, spelling)
        with open_records(path) as source:
            found = [record for batch in source for record in batch]
    has_origin = spelling.with_origin or file_format in {"csv", "parquet"}
    assert [record.origin for record in found] == [record.origin if has_origin else None for record in records]
    if spelling.shape == "api":
        assert [record.raw for record in found] == raws
    else:
        assert [apply(record.raw, spelling.shape) for record in found] == [apply(raw, spelling.shape) for raw in raws]
