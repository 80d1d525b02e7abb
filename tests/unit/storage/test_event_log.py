from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.errors import CorruptRun, DiskError
from ociaudit.storage.event_log import (
    BadBlock,
    FrameCodec,
    LogReader,
    build_block,
    measure_head,
    read_lengths,
    train_dictionary,
)

SAMPLES = [
    b'{"eventId":"%d","eventType":"com.oraclecloud.compute.%d","data":{"x":%d}}' % (n, n % 7, n * n) for n in range(400)
]
TRAINED = train_dictionary(SAMPLES)
frames = st.lists(st.binary(max_size=20), max_size=5)


@given(frames)
def test_a_block_knows_its_frames(parts: list[bytes]) -> None:
    """Lengths and the head's size lead to every frame."""
    block, lengths = build_block(parts)
    assert read_lengths(block) == lengths == list(map(len, parts))
    assert block[measure_head(len(parts)) :] == b"".join(parts)


@given(frames, st.binary(min_size=1, max_size=5), st.data())
def test_a_block_of_another_length_is_refused(parts: list[bytes], more: bytes, data: st.DataObject) -> None:
    """A block that was cut or has something behind it is no block."""
    block, _ = build_block(parts)
    with pytest.raises(BadBlock):
        read_lengths(block[: data.draw(st.integers(0, len(block) - 1))])
    with pytest.raises(BadBlock):
        read_lengths(block + more)


@given(st.binary(max_size=40))
def test_noise_is_no_block_or_adds_up(noise: bytes) -> None:
    """Any bytes, a huge count of frames among them, are refused or add up to themselves."""
    try:
        lengths = read_lengths(noise)
    except BadBlock:
        return
    assert measure_head(len(lengths)) + sum(lengths) == len(noise)


@given(st.binary(min_size=1, max_size=200))
def test_a_frame_is_read_with_and_without_the_dictionary(event: bytes) -> None:
    """Every event survives; frames from before the dictionary are read by a reader that has it."""
    assert TRAINED is not None
    plain, trained = FrameCodec(), FrameCodec(TRAINED)
    assert plain.decompress(plain.compress([event])[0]) == event
    assert trained.decompress(trained.compress([event])[0]) == event
    assert trained.decompress(plain.compress([event])[0]) == event


@given(st.binary(max_size=60))
def test_noise_is_no_frame(noise: bytes) -> None:
    """Bytes that are no frame are a bad block, or a frame by chance, but no other failure."""
    with contextlib.suppress(BadBlock):
        FrameCodec().decompress(noise)


@pytest.mark.parametrize("samples", [[], [b""], [b"", b""], [b"x"], [b"x"] * 400])
def test_samples_that_teach_nothing_give_no_dictionary(samples: list[bytes]) -> None:
    """Too few, too small or too equal samples are no failure."""
    dictionary = train_dictionary(samples)
    assert FrameCodec(dictionary).decompress(FrameCodec(dictionary).compress([b"event"])[0]) == b"event"


pieces = st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.integers(0, 9_000)), min_size=1, max_size=30)


def write_log(path: Path, drawn: list[tuple[bytes, int]]) -> list[tuple[int, int]]:
    """Write events as frames with so many random bytes before each, and return (offset, length) of each frame."""
    noise = random.Random(1)
    log, targets = b"", []
    for event, gap in drawn:
        (frame,) = FrameCodec().compress([event])
        log += noise.randbytes(gap)
        targets.append((len(log), len(frame)))
        log += frame
    path.touch(0o600)
    path.write_bytes(log)
    return targets


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces, st.randoms(use_true_random=False))
def test_many_are_read_as_one_by_one(tmp_path: Path, drawn: list[tuple[bytes, int]], dice: random.Random) -> None:
    """In whatever order, however far apart, and however often they are asked for."""
    path = tmp_path / "log"
    targets = write_log(path, drawn)
    chosen = dice.choices(range(len(drawn)), k=dice.randrange(2 * len(drawn)))
    reader = LogReader(path, FrameCodec())
    offsets, lengths = [targets[number][0] for number in chosen], [targets[number][1] for number in chosen]
    assert reader.read_many(offsets, lengths) == [drawn[number][0] for number in chosen]
    assert list(map(reader.read, offsets, lengths)) == [drawn[number][0] for number in chosen]
    reader.close()


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_the_damaged_one_among_many_is_named(tmp_path: Path, damaged: int) -> None:
    """A changed byte, or one that is missing at the end, is refused with its place."""
    path = tmp_path / "log"
    targets = write_log(path, [(b"%d" % number * 50, 0) for number in range(3)])
    data = bytearray(path.read_bytes())
    data[targets[damaged][0] + targets[damaged][1] - 1] ^= 1
    path.write_bytes(data)
    reader = LogReader(path, FrameCodec())
    offsets, lengths = zip(*targets, strict=True)
    with pytest.raises(CorruptRun, match=f"at byte {targets[damaged][0]}:"):
        reader.read_many(offsets, lengths)
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptRun, match="at byte"):
        reader.read_many(offsets[2:], lengths[2:])
    reader.close()


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The error is the disk's, with the file's name."""
    path = tmp_path / "log"
    targets = write_log(path, [(b"event", 0)])
    reader = LogReader(path, FrameCodec())
    os.close(reader._descriptor)
    with pytest.raises(DiskError, match="log"):
        reader.read_many([targets[0][0]], [targets[0][1]])
