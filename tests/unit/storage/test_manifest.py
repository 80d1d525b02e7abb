import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ociaudit.errors import CorruptRun
from ociaudit.storage.manifest import (
    EventTimes,
    FileEntry,
    GapEntry,
    Manifest,
    Principal,
    Range,
    Scope,
    Tool,
    Totals,
    decode_manifest,
    encode_manifest,
    has_own_digest,
)
from ociaudit.storage.run_dir import ExportArguments

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FORGED = '"digest": "' + "0" * 64 + '"'


def make_manifest(text: str = "x") -> Manifest:
    """Make a manifest in which a text stands wherever a server or a person may write one."""
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
    """Put zeros in the place of the last digest."""
    before, _, after = data.rpartition(digest.encode())
    return before + b"0" * 64 + after


@given(texts)
def test_a_manifest_states_its_own_digest(text: str) -> None:
    """The digest is that of the bytes with zeros in its place, and the manifest reads back."""
    manifest = make_manifest(text)
    data, digest = encode_manifest(manifest)
    assert has_own_digest(data)
    assert hashlib.sha256(blank(data, digest)).hexdigest() == digest
    assert decode_manifest(data, where="here") == replace(manifest, digest=digest)
    assert json.loads(data)["digest"] == digest
    assert encode_manifest(replace(manifest, digest="f" * 64)) == (data, digest)


def test_every_changed_byte_is_noticed() -> None:
    """At every byte and for several changes the digest fits no more."""
    data, _ = encode_manifest(make_manifest())
    for target in range(len(data)):
        for change in (1, 2, 32, 128):
            changed = data[:target] + bytes([data[target] ^ change]) + data[target + 1 :]
            assert not has_own_digest(changed), changed[target - 10 : target + 10]


@given(st.data())
def test_a_cut_or_longer_manifest_is_noticed(data: st.DataObject) -> None:
    """Bytes taken away or added anywhere are noticed."""
    good, _ = encode_manifest(make_manifest())
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start + 1, len(good)))
    assert not has_own_digest(good[:start] + good[end:])
    more = data.draw(st.binary(min_size=1, max_size=5) | st.just(b"\n" + FORGED.encode()))
    assert not has_own_digest(good[:start] + more + good[start:])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null", b'{"digest": "' + b"0" * 64 + b'"}'])
def test_what_is_no_manifest_is_corrupt(data: bytes) -> None:
    """Other bytes have no digest of their own, and reading them ends as exit 6 that names the file."""
    assert not has_own_digest(data)
    with pytest.raises(CorruptRun, match="the-file is not a manifest"):
        decode_manifest(data, where="the-file")


def test_a_manifest_of_another_version_is_corrupt() -> None:
    """Only the form that this version writes is read."""
    data, _ = encode_manifest(make_manifest())
    with pytest.raises(CorruptRun):
        decode_manifest(data.replace(b"oci-audit-manifest/1", b"oci-audit-manifest/2"), where="here")
