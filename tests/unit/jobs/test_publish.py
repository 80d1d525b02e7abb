import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.errors import DiskError
from ociaudit.formats.compression import Plain, choose_compressor
from ociaudit.formats.json_array import JsonArray
from ociaudit.jobs import publish
from ociaudit.jobs.publish import WrittenFile, write_events


def write(
    events: list[bytes], *, path: Path | None = None, failing_after: int | None = None
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
        reshape=None,
        event_format=JsonArray(),
        compressor=choose_compressor(path),
        write=take,
        on_written=told.append,
    )
    return b"".join(pieces), written, told


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**9).map(lambda number: b'{"n":%d}' % number), max_size=30), st.integers(1, 12))
def test_bytes_do_not_depend_on_the_size_of_chunks(events: list[bytes], size: int) -> None:
    """Plain and compressed, the file is the same in whatever chunks it was made, and so are size and hash."""
    with pytest.MonkeyPatch.context() as patch:
        for path in (None, Path("a.json.gz")):
            patch.setattr(publish, "_EVENTS_PER_CHUNK", 10_000)
            whole, said, _ = write(events, path=path)
            patch.setattr(publish, "_EVENTS_PER_CHUNK", size)
            data, written, told = write(events, path=path)
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
            reshape=None,
            event_format=JsonArray(),
            compressor=Plain(),
            write=lambda _: None,
            on_written=lambda _: None,
        )


def test_events_are_reshaped_on_their_way() -> None:
    """A shape is applied to each event."""
    pieces: list[bytes] = []
    write_events(
        [(b"a", 0), (b"b", 1)],
        reshape=bytes.upper,
        event_format=JsonArray(),
        compressor=Plain(),
        write=pieces.append,
        on_written=lambda _: None,
    )
    assert b"".join(pieces) == b"[\nA,\nB\n]\n"
