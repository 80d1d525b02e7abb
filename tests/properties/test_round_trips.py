"""Every format is read back as it was written: byte for byte where it keeps the bytes, else field for field."""

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
ENCODERS = st.builds(EventEncoder, st.sampled_from(SHAPES), st.booleans())


def write(
    records: list[Record], path: Path, file_format: FormatName, compression: CompressionName, encoder: EventEncoder
) -> None:
    """Write records into a file."""
    writer = make_format(file_format, encoder, scratch=path.parent)
    compressor = make_compressor(compression)
    pieces = [writer.begin(), writer.write([one.raw for one in records], [one.origin for one in records])]
    pieces += writer.finish()
    writer.close()
    path.write_bytes(b"".join([*map(compressor.compress, pieces), compressor.flush()]))


def convert(raw: bytes, shape: Shape) -> bytes:
    """Return an event in a shape; the event itself may be in any shape."""
    return choose_shape(shape)(raw)


def make_event(text: str) -> bytes:
    """Return an event that holds a JSON object among its members: without a type, a reader may see a page in it."""
    return parse_page(b'[{"eventType":"x","request":%b}]' % text.encode())[0].raw


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, st.sampled_from(FORMAT_NAMES), st.sampled_from(COMPRESSION_NAMES), ENCODERS)
def test_written_events_are_read_back(
    drawn: list[tuple[str, Target | None]],
    file_format: FormatName,
    compression: CompressionName,
    encoder: EventEncoder,
) -> None:
    """Every format, compression and shape is read back as the same events in order, with their origins."""
    if file_format == "parquet":
        compression = "none"
    raws = [FIRST, *(make_event(text) for text, _ in drawn)]
    records = [Record(raw, target) for raw, target in zip(raws, [None, *(target for _, target in drawn)], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(records, path, file_format, compression, encoder)
        with open_records(path) as source:
            found = [record for batch in source for record in batch]
    has_origin = encoder.with_origin or file_format in {"csv", "parquet"}
    assert [record.origin for record in found] == [record.origin if has_origin else None for record in records]
    if encoder.shape == "api":
        assert [record.raw for record in found] == raws
    else:
        assert [convert(record.raw, encoder.shape) for record in found] == [convert(raw, encoder.shape) for raw in raws]
