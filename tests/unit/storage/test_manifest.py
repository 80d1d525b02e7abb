import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ociaudit.errors import CorruptRun, DiskError
from ociaudit.planning.shard import Target, Window
from ociaudit.storage.manifest import (
    CoveredTarget,
    EventTimes,
    FileEntry,
    GapEntry,
    Manifest,
    Principal,
    ProvisionalEntry,
    Range,
    Scope,
    Tool,
    Totals,
    decode_manifest,
    encode_manifest,
    has_own_digest,
    load_manifest,
)
from ociaudit.storage.run_dir import ExportArguments

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FORGED = '"digest": "' + "0" * 64 + '"'


def make_manifest(text: str = "x") -> Manifest:
    """Make a manifest with a text in every field that a server or a user may fill."""
    return Manifest(
        complete=False,
        tool=Tool("oci-audit", "0"),
        arguments=ExportArguments(start=text, end="now", profile=text, event_types=(text, FORGED)),
        asked_by=Principal(text, text, None),
        range=Range("a", "b"),
        event_times=EventTimes(None, None, 0, 0),
        scope=Scope((text,), (text,), (), (), (text,), None, reaches_beyond_retention=False),
        totals=Totals(**dict.fromkeys(Totals.__struct_fields__, 0)),
        conflicting_ids=(text, FORGED),
        coverage=(),
        gaps=(GapEntry(text, text, "a", "b", "failed", FORGED, None),),
        waived_gaps=(),
        provisional=(),
        output=FileEntry(text, 1, "2" * 64),
        ledger=FileEntry(text, 1, "3" * 64),
        clock_skew_seconds=0.5,
        started_at="a",
        finished_at="b",
    )


def blank(data: bytes, digest: str) -> bytes:
    """Replace the last digest by zeros."""
    before, _, after = data.rpartition(digest.encode())
    return before + b"0" * 64 + after


@given(texts)
def test_a_manifest_states_its_own_digest(text: str) -> None:
    """The digest is that of the bytes with zeros in its place, and the manifest is read back."""
    manifest = make_manifest(text)
    data, digest = encode_manifest(manifest)
    assert has_own_digest(data)
    assert hashlib.sha256(blank(data, digest)).hexdigest() == digest
    assert decode_manifest(data, where="here") == replace(manifest, digest=digest)
    assert json.loads(data)["digest"] == digest
    assert encode_manifest(replace(manifest, digest="f" * 64)) == (data, digest)


def test_every_changed_byte_is_noticed() -> None:
    """After a change of any byte the digest does not match any more."""
    data, _ = encode_manifest(make_manifest())
    for position in range(len(data)):
        for change in (1, 2, 32, 128):
            changed = data[:position] + bytes([data[position] ^ change]) + data[position + 1 :]
            assert not has_own_digest(changed), changed[position - 10 : position + 10]


@given(st.data())
def test_a_shorter_or_longer_manifest_is_noticed(data: st.DataObject) -> None:
    """Bytes that are removed or added anywhere are noticed."""
    good, _ = encode_manifest(make_manifest())
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start + 1, len(good)))
    assert not has_own_digest(good[:start] + good[end:])
    more = data.draw(st.binary(min_size=1, max_size=5) | st.just(b"\n" + FORGED.encode()))
    assert not has_own_digest(good[:start] + more + good[start:])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null", b'{"digest": "' + b"0" * 64 + b'"}'])
def test_other_bytes_are_a_corrupt_manifest(data: bytes) -> None:
    """Bytes that are not a manifest do not match a digest, and decoding them is an error that names the file."""
    assert not has_own_digest(data)
    with pytest.raises(CorruptRun, match="the-file is not a manifest"):
        decode_manifest(data, where="the-file")


def test_a_manifest_is_loaded_with_its_bytes(tmp_path: Path) -> None:
    """A loaded manifest has the bytes of its file, a changed digest shows, and a missing file is None."""
    path = tmp_path / "a.json.manifest.json"
    assert load_manifest(path) is None
    data, _ = encode_manifest(make_manifest())
    path.write_bytes(data)
    found = load_manifest(path)
    assert found is not None
    assert (found.manifest, found.data, found.has_own_digest) == (decode_manifest(data, where="here"), data, True)
    path.write_bytes(data.replace(b'"failed"', b'"denied"'))
    changed = load_manifest(path)
    assert changed is not None
    assert not changed.has_own_digest


def test_a_file_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    """A file that is not a manifest is corrupt, one that cannot be read is a disk error; both are named."""
    (tmp_path / "other.json").write_bytes(b"{}")
    with pytest.raises(CorruptRun, match=r"other\.json is not a manifest"):
        load_manifest(tmp_path / "other.json")
    with pytest.raises(DiskError, match=str(tmp_path)):
        load_manifest(tmp_path)


def test_times_are_read_as_windows() -> None:
    """The range, a gap, a provisional shard and a covered target return their times as windows in minutes."""
    start, end = "1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z"
    target = Target("r", "c")
    gap = GapEntry("r", "c", start, end, "failed", "why", None)
    provisional = ProvisionalEntry("r", "c", start, end, end)
    covered = CoveredTarget("r", "c", ((start, end),))
    assert replace(make_manifest(), range=Range(start, end)).window == gap.window == provisional.window == Window(0, 60)
    assert gap.target == provisional.target == covered.target == target
    assert covered.coverage.windows == (Window(0, 60),)
    for unreadable in (make_manifest(), GapEntry("r", "c", "a", "b", "failed", "why", None)):
        with pytest.raises(ValueError, match="a"):
            _ = unreadable.window


def test_a_manifest_of_another_version_is_corrupt() -> None:
    """A manifest in another format than the one that this version writes is rejected."""
    data, _ = encode_manifest(make_manifest())
    with pytest.raises(CorruptRun):
        decode_manifest(data.replace(b"oci-audit-manifest/1", b"oci-audit-manifest/2"), where="here")
