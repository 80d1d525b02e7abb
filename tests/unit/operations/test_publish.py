import hashlib
import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.errors import DiskError
from ociaudit.formats.base import EventEncoder
from ociaudit.formats.compression import NoCompression, make_compressor
from ociaudit.formats.json import JsonArray, Ndjson
from ociaudit.operations import publish
from ociaudit.operations.publish import WrittenFile, write_events
from ociaudit.planning.shard import Target


def write(
    events: list[bytes], *, compression: str = "none", failing_after: int | None = None
) -> tuple[bytes, WrittenFile, list[int]]:
    """Write events and return the bytes, what was said of them, and the steps that were told."""
    pieces: list[bytes] = []
    told: list[int] = []

    def take(data: bytes) -> None:
        if failing_after is not None and len(pieces) >= failing_after:
            raise DiskError("full")
        pieces.append(data)

    written = write_events(
        ((event, 0) for event in events),
        locate=lambda _: None,
        event_format=JsonArray(),
        compressor=make_compressor(compression),
        write=take,
        on_written=told.append,
    )
    return b"".join(pieces), written, told


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**9).map(lambda number: b'{"n":%d}' % number), max_size=30), st.integers(1, 12))
def test_bytes_do_not_depend_on_the_size_of_chunks(events: list[bytes], size: int) -> None:
    """Plain and compressed, the file is the same in whatever chunks it was made, and so are size and hash."""
    with pytest.MonkeyPatch.context() as patch:
        for compression in ("none", "gz", "zst"):
            patch.setattr(publish, "_EVENTS_PER_CHUNK", 10_000)
            whole, said, _ = write(events, compression=compression)
            patch.setattr(publish, "_EVENTS_PER_CHUNK", size)
            data, written, told = write(events, compression=compression)
            assert (data, written) == (whole, said)
            assert (written.size_bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            assert sum(told) == len(events)


def test_a_refused_write_ends_the_pass() -> None:
    """The error of the disk comes out, wherever it happens, and no thread is left."""
    before = threading.active_count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "_EVENTS_PER_CHUNK", 1)
        for failing_after in range(6):
            with pytest.raises(DiskError):
                write([b"{}"] * 4, failing_after=failing_after)
    assert threading.active_count() == before


def test_an_error_of_the_events_ends_the_pass() -> None:
    """What cannot be read is no shorter file."""

    def break_off() -> object:
        yield b"{}", 0
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        write_events(
            break_off(),
            locate=lambda _: None,
            event_format=JsonArray(),
            compressor=NoCompression(),
            write=lambda _: None,
            on_written=lambda _: None,
        )


def test_an_event_goes_with_its_origin() -> None:
    """What stands beside an event is looked up, and reaches the format as the event's origin."""
    pieces: list[bytes] = []
    write_events(
        [(b'{"a":1}', 0), (b"{}", 1), (b"{}", 2)],
        locate=[Target("r", "c"), Target("r", "d"), None].__getitem__,
        event_format=Ndjson(EventEncoder(with_origin=True)),
        compressor=NoCompression(),
        write=pieces.append,
        on_written=lambda _: None,
    )
    assert [json.loads(line).get("origin") for line in b"".join(pieces).splitlines()] == [
        {"region": "r", "compartment": "c"},
        {"region": "r", "compartment": "d"},
        None,
    ]


class HoldingFormat(JsonArray):
    """A format that notes when it is told to give back what it holds."""

    closed = 0

    def close(self) -> None:
        """Note it."""
        self.closed += 1


@pytest.mark.parametrize("failing_after", [None, 0, 1, 2])
def test_a_format_gives_back_what_it_holds(failing_after: int | None) -> None:
    """It is closed once, whether all was written or the disk refused."""
    layout = HoldingFormat()
    done: list[bytes] = []

    def take(data: bytes) -> None:
        if len(done) == failing_after:
            raise DiskError("full")
        done.append(data)

    def write_one() -> None:
        write_events(
            [(b"{}", None)],
            locate=lambda _: None,
            event_format=layout,
            compressor=NoCompression(),
            write=take,
            on_written=lambda _: None,
        )

    if failing_after is None:
        write_one()
    else:
        with pytest.raises(DiskError):
            write_one()
    assert layout.closed == 1
