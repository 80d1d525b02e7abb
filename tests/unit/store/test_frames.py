import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.store.frames import BadBlock, FrameCodec, build_block, measure_head, read_lengths, train_dictionary

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
