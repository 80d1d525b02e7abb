from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.errors import CorruptRun, DiskError
from ociaudit.storage.merge import (
    BadBlock,
    FrameCodec,
    LogReader,
    build_block,
    measure_header,
    read_lengths,
    train_dictionary,
)

SAMPLES = [
    b'{"eventId":"%d","eventType":"com.oraclecloud.compute.%d","data":{"x":%d}}' % (n, n % 7, n * n) for n in range(400)
]
TRAINED = train_dictionary(SAMPLES)
frames = st.lists(st.binary(max_size=20), max_size=5)


@given(frames)
def test_a_block_holds_its_frames(parts: list[bytes]) -> None:
    """The lengths and the size of the header lead to every frame."""
    block, lengths = build_block(parts)
    assert read_lengths(block) == lengths == list(map(len, parts))
    assert block[measure_header(len(parts)) :] == b"".join(parts)


@given(frames, st.binary(min_size=1, max_size=5), st.data())
def test_a_block_of_another_length_is_rejected(parts: list[bytes], more: bytes, data: st.DataObject) -> None:
    """A truncated block, and one with bytes after it, is a bad block."""
    block, _ = build_block(parts)
    with pytest.raises(BadBlock):
        read_lengths(block[: data.draw(st.integers(0, len(block) - 1))])
    with pytest.raises(BadBlock):
        read_lengths(block + more)


@given(st.binary(max_size=40))
def test_noise_is_a_bad_block_or_adds_up(noise: bytes) -> None:
    """Any bytes, with a huge count of frames too, are rejected or add up to their length."""
    try:
        lengths = read_lengths(noise)
    except BadBlock:
        return
    assert measure_header(len(lengths)) + sum(lengths) == len(noise)


@given(st.binary(min_size=1, max_size=200))
def test_a_frame_is_read_with_and_without_the_dictionary(event: bytes) -> None:
    """Every event is read back; a reader with the dictionary also reads frames from before it."""
    assert TRAINED is not None
    plain, trained = FrameCodec(), FrameCodec(TRAINED)
    assert plain.decompress(plain.compress([event])[0]) == event
    assert trained.decompress(trained.compress([event])[0]) == event
    assert trained.decompress(plain.compress([event])[0]) == event


@given(st.binary(max_size=60))
def test_noise_is_a_bad_frame(noise: bytes) -> None:
    """Bytes that are not a frame are a bad block or, by coincidence, a frame; nothing else fails."""
    with contextlib.suppress(BadBlock):
        FrameCodec().decompress(noise)


@pytest.mark.parametrize("samples", [[], [b""], [b"", b""], [b"x"], [b"x"] * 400])
def test_unsuitable_samples_give_no_dictionary(samples: list[bytes]) -> None:
    """Too few, too small or too uniform samples are not an error."""
    dictionary = train_dictionary(samples)
    assert FrameCodec(dictionary).decompress(FrameCodec(dictionary).compress([b"event"])[0]) == b"event"


spaced_events = st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.integers(0, 9_000)), min_size=1, max_size=30)


def write_log(path: Path, drawn: list[tuple[bytes, int]]) -> list[tuple[int, int]]:
    """Write events as frames with the given number of random bytes before each; return (offset, length) of each."""
    noise = random.Random(1)
    log, locations = b"", []
    for event, gap in drawn:
        (frame,) = FrameCodec().compress([event])
        log += noise.randbytes(gap)
        locations.append((len(log), len(frame)))
        log += frame
    path.touch(0o600)
    path.write_bytes(log)
    return locations


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spaced_events, st.randoms(use_true_random=False))
def test_many_events_are_read_as_one_by_one(
    tmp_path: Path, drawn: list[tuple[bytes, int]], randomness: random.Random
) -> None:
    """Reading many returns the same as reading each, in any order, at any distance and with repetitions."""
    path = tmp_path / "log"
    locations = write_log(path, drawn)
    chosen = randomness.choices(range(len(drawn)), k=randomness.randrange(2 * len(drawn)))
    reader = LogReader(path, FrameCodec())
    offsets, lengths = [locations[number][0] for number in chosen], [locations[number][1] for number in chosen]
    assert reader.read_many(offsets, lengths) == [drawn[number][0] for number in chosen]
    assert list(map(reader.read, offsets, lengths)) == [drawn[number][0] for number in chosen]
    reader.close()


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_the_damaged_frame_among_many_is_named(tmp_path: Path, damaged: int) -> None:
    """A changed byte, or one that is missing at the end, is an error with the offset of its frame."""
    path = tmp_path / "log"
    locations = write_log(path, [(b"%d" % number * 50, 0) for number in range(3)])
    data = bytearray(path.read_bytes())
    data[locations[damaged][0] + locations[damaged][1] - 1] ^= 1
    path.write_bytes(data)
    reader = LogReader(path, FrameCodec())
    offsets, lengths = zip(*locations, strict=True)
    with pytest.raises(CorruptRun, match=f"at byte {locations[damaged][0]}:"):
        reader.read_many(offsets, lengths)
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptRun, match="at byte"):
        reader.read_many(offsets[2:], lengths[2:])
    reader.close()


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A read that fails is a disk error with the name of the file."""
    path = tmp_path / "log"
    locations = write_log(path, [(b"event", 0)])
    reader = LogReader(path, FrameCodec())
    os.close(reader._descriptor)
    with pytest.raises(DiskError, match="log"):
        reader.read_many([locations[0][0]], [locations[0][1]])
