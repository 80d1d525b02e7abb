"""Verification of an archive: a sound one passes, and every kind of tampering is found and named."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import pytest

from ociaudit.archive.commit import Commit, Head, encode_commit
from ociaudit.archive.commit_log import ArchiveFolder, CommitLog
from ociaudit.archive.reader import load_state
from ociaudit.cli.verify_command import describe_archive_verification
from ociaudit.errors import CorruptRun, ExitCode, UsageError
from ociaudit.operations.verify import ArchiveVerification, verify_archive
from ociaudit.planning.shard import Target
from ociaudit.storage.manifest import name_signature
from ociaudit.storage.verdict import VerdictKind
from support.archives import REGIONS, TENANCY, build_archive, make_event, make_key

TARGET = Target(REGIONS[0], TENANCY)
DAYS = (26, 27, 28)
BATCHES = [
    [(make_event(f"2026-02-{day}T{hour:02}:00:00Z", day * 100 + hour), TARGET) for day in DAYS for hour in hours]
    for hours in (range(8), range(8, 16), range(16, 24))
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of three commits with nine segments, a checkpoint and record ids."""
    path = tmp_path_factory.mktemp("sound") / "archive"
    build_archive(path, BATCHES)
    return path


@pytest.fixture
def archive(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound archive."""
    return Path(shutil.copytree(sound, tmp_path / "archive"))


def list_files(path: Path) -> list[str]:
    """Return the files of an archive."""
    return sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())


def head_of(path: Path) -> Head:
    """Return the newest commit."""
    head = CommitLog.open(path).head
    assert head is not None
    return head


def assert_found(path: Path, *names: str, expect: Head | None = None) -> ArchiveVerification:
    """Insist that a verification names one of these files as altered."""
    result = verify_archive(path, expect=expect)
    assert result.verdict.kind is VerdictKind.ALTERED
    assert result.verdict.exit_code == ExitCode.ALTERED
    found = {problem.file for problem in result.problems}
    assert found & set(names), result.problems
    return result


def test_a_sound_archive_is_consistent(archive: Path) -> None:
    """Nothing is wrong; without an anchor that is said, and the newest commit is one."""
    result = verify_archive(archive)
    assert not result.problems
    assert not result.notes
    assert (result.segments, result.chain.checked) == (9, 3)
    assert result.verdict.kind is VerdictKind.COMPLETE
    assert not result.verdict.is_anchored
    assert verify_archive(archive, expect=head_of(archive)).verdict.is_anchored
    shutil.rmtree(archive / "checkpoints")
    shutil.rmtree(archive / "tail")
    assert verify_archive(archive).is_consistent


def test_a_changed_byte_anywhere_is_found(archive: Path) -> None:
    """Of every file, a bit flipped at the beginning, in the middle and at the end is found, and the file named."""
    names = list_files(archive)
    assert len(names) >= 3 + 9 + 3 + 2
    for name in names:
        path = archive / name
        data = path.read_bytes()
        for position in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            found = list_problems(archive)
            assert any(name in text for text in found), (name, position, found)
        path.write_bytes(data)
    assert verify_archive(archive).is_consistent


def test_a_deleted_file_is_found(archive: Path) -> None:
    """Of every file that the archive needs, its absence is found and named; checkpoints and record ids may go."""
    for name in list_files(archive):
        data = (archive / name).read_bytes()
        (archive / name).unlink()
        if name == "archive.json":
            with pytest.raises(UsageError, match="not an archive"):
                verify_archive(archive)
        elif name.startswith(("checkpoints", "tail")):
            assert verify_archive(archive).is_consistent
        else:
            # Without the newest commit it is HEAD that names one which does not exist.
            assert_found(archive, name, *(["HEAD"] if name.endswith("03.json") else []))
        (archive / name).write_bytes(data)


def list_problems(path: Path) -> list[str]:
    """Return all that a verification finds, each with the name of its file."""
    try:
        return [f"{problem.file}: {problem.text}" for problem in verify_archive(path).problems]
    except CorruptRun as error:
        return [str(error)]


def list_segments(path: Path, day: int) -> list[str]:
    """Return the segments of a day."""
    return [name for name in list_files(path) if f"02-{day}/" in name]


def swap(archive: Path, one: str, other: str) -> None:
    """Exchange two files."""
    data = (archive / one).read_bytes()
    (archive / one).write_bytes((archive / other).read_bytes())
    (archive / other).write_bytes(data)


def swap_segments(archive: Path) -> list[str]:
    """Exchange two segments of one day."""
    one, other, _ = list_segments(archive, 26)
    swap(archive, one, other)
    return [one]


def move_segment(archive: Path) -> list[str]:
    """Move a segment to another day."""
    name = list_segments(archive, 26)[0]
    goal = name.replace("02-26", "02-27")
    (archive / name).rename(archive / goal)
    return [name]


def rewrite_segment(archive: Path) -> list[str]:
    """Write a segment without its last row, as a valid Parquet file of the same name."""
    name = list_segments(archive, 27)[1]
    other = archive.parent / "other.parquet"
    source = f"read_parquet('{archive / name}', hive_partitioning = false)"
    duckdb.execute(f"COPY (SELECT * FROM {source} LIMIT 7) TO '{other}' (FORMAT parquet)")
    (archive / name).write_bytes(other.read_bytes())
    return [name]


def link_segment(archive: Path) -> list[str]:
    """Replace a segment with a link to the same bytes elsewhere."""
    name = list_segments(archive, 27)[0]
    elsewhere = archive.parent / "elsewhere.parquet"
    (archive / name).rename(elsewhere)
    (archive / name).symlink_to(elsewhere)
    return [name]


def add_segment(archive: Path) -> list[str]:
    """Put a copy of a segment beside it, under a name that a segment may have."""
    name = list_segments(archive, 28)[0]
    copy = f"{name.rpartition('/')[0]}/{'0' * 32}.parquet"
    shutil.copy(archive / name, archive / copy)
    return [copy]


def add_file(archive: Path) -> list[str]:
    """Put something into a new folder of events/."""
    (archive / "events" / "event_date=2026-01-01").mkdir()
    (archive / "events" / "event_date=2026-01-01" / "x.parquet").write_bytes(b"x")
    return ["events/event_date=2026-01-01/x.parquet"]


def link_folder(archive: Path) -> list[str]:
    """Put a link to a folder of segments into events/."""
    (archive / "events" / "event_date=2026-01-01").symlink_to(archive / "events" / "event_date=2026-02-26")
    return ["events/event_date=2026-01-01"]


def drop_middle_commit(archive: Path) -> list[str]:
    """Remove a commit in the middle."""
    (archive / "commits" / "000000000002.json").unlink()
    return ["commits/000000000002.json"]


def drop_last_commit(archive: Path) -> list[str]:
    """Remove the newest commit."""
    (archive / "commits" / "000000000003.json").unlink()
    return ["HEAD"]


def swap_commits(archive: Path) -> list[str]:
    """Exchange two commits."""
    swap(archive, "commits/000000000001.json", "commits/000000000002.json")
    return ["commits/000000000001.json", "commits/000000000002.json"]


def point_head_elsewhere(archive: Path) -> list[str]:
    """Let HEAD name another digest."""
    (archive / "HEAD").write_bytes(msgspec.json.encode(Head(3, "0" * 64)) + b"\n")
    return ["HEAD", "commits/000000000003.json"]


def add_commit_file(archive: Path) -> list[str]:
    """Put something among the commits."""
    (archive / "commits" / "note.json").write_bytes(b"{}")
    return ["commits/note.json"]


def forge_checkpoint(archive: Path) -> list[str]:
    """Let the checkpoint, with right digests, state another archive."""
    log = CommitLog.open(archive)
    state = load_state(log)
    state.segments.pop(next(iter(state.segments)))
    log.write_checkpoint(state.encode())
    return ["checkpoints/000000000003.json"]


def forge_record_ids(archive: Path) -> list[str]:
    """Exchange the record ids of two commits."""
    swap(archive, "tail/000000000001.ids", "tail/000000000002.ids")
    data = (archive / "tail" / "000000000003.ids").read_bytes()
    (archive / "tail" / "000000000003.ids").write_bytes(data[:-1] + b"?")
    return ["tail/000000000003.ids"]


@pytest.mark.parametrize(
    "tamper",
    [
        swap_segments,
        move_segment,
        rewrite_segment,
        link_segment,
        add_segment,
        add_file,
        link_folder,
        drop_middle_commit,
        drop_last_commit,
        swap_commits,
        point_head_elsewhere,
        add_commit_file,
        forge_checkpoint,
        forge_record_ids,
    ],
)
def test_tampering_is_found(archive: Path, tamper: Callable[[Path], list[str]]) -> None:
    """What was tampered with is named."""
    before = list_files(archive)
    names = tamper(archive)
    assert before != list_files(archive) or names
    assert_found(archive, *names)


def rewrite_chain(archive: Path, change: Callable[[Commit], Commit]) -> None:
    """Change every commit and let each name the new digest of the one before, as who owns the folder could."""
    log = CommitLog.open(archive)
    folder, commits = ArchiveFolder(archive), list(log.read_commits())
    previous = commits[0].previous
    for commit in commits:
        data = encode_commit(msgspec.structs.replace(change(commit), previous=previous))
        folder.commit_path(commit.sequence).write_bytes(data)
        previous = hashlib.sha256(data).hexdigest()
    folder.head_path.write_bytes(msgspec.json.encode(Head(commits[-1].sequence, previous)) + b"\n")
    shutil.rmtree(folder.checkpoints)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("received", 7, "received is not the sum"), ("added", 23, "its segments change the number of rows")],
)
def test_counts_that_do_not_add_up_are_found(archive: Path, field: str, value: int, words: str) -> None:
    """A chain that is written again with other counts contradicts itself."""
    rewrite_chain(
        archive,
        lambda one: msgspec.structs.replace(one, counts=msgspec.structs.replace(one.counts, **{field: value})),
    )
    result = assert_found(archive, "commits/000000000001.json")
    assert any(words in problem.text for problem in result.problems)


def test_coverage_of_minutes_that_were_not_over_is_found(archive: Path) -> None:
    """A commit cannot state that it covers what lies after its own present."""
    rewrite_chain(archive, lambda one: msgspec.structs.replace(one, now=one.end - 10))
    assert_found(archive, "commits/000000000002.json")


def test_a_rollback_is_found_by_an_anchor_alone(archive: Path) -> None:
    """An older state of the whole archive is consistent; the anchor of the newest commit shows that it is old."""
    anchor = head_of(archive)
    drop_last_commit(archive)
    previous = msgspec.json.decode((archive / "commits" / "000000000002.json").read_bytes())
    for name in list_files(archive):
        if name.startswith(("checkpoints", "tail/000000000003")):
            (archive / name).unlink()
    digest = hashlib.sha256((archive / "commits" / "000000000002.json").read_bytes()).hexdigest()
    (archive / "HEAD").write_bytes(msgspec.json.encode(Head(2, digest)) + b"\n")
    live = {entry["path"] for entry in previous["added"]}
    first = msgspec.json.decode((archive / "commits" / "000000000001.json").read_bytes())
    live |= {entry["path"] for entry in first["added"]}
    for name in list_files(archive):
        if name.startswith("events/") and name not in live:
            (archive / name).unlink()
    result = verify_archive(archive)
    assert result.is_consistent
    assert not result.verdict.is_anchored
    assert_found(archive, "HEAD", expect=anchor)


def test_a_quick_check_begins_at_its_commit(archive: Path) -> None:
    """With `since`, older segments are not read, newer ones are, and what was not checked is said."""
    commit = msgspec.json.decode((archive / "commits" / "000000000003.json").read_bytes(), type=Commit)
    new = {entry.path for entry in commit.added}
    old = next(name for name in list_files(archive) if name.startswith("events/") and name not in new)
    (archive / old).write_bytes(b"x" * (archive / old).stat().st_size)
    result = verify_archive(archive, since=3)
    assert result.is_consistent, result.problems
    assert result.segments == 3
    assert "commits before 3" in " ".join(result.notes)
    path = archive / min(new)
    path.write_bytes(b"x" * path.stat().st_size)
    assert {problem.file for problem in verify_archive(archive, since=3).problems} == {min(new)}
    with pytest.raises(UsageError, match="no commit 4"):
        verify_archive(archive, since=4)
    with pytest.raises(UsageError, match=r"there is no commit 99 .* the newest is 3"):
        verify_archive(archive, since=99)


def test_what_a_killed_sync_leaves_is_a_note(archive: Path) -> None:
    """A segment that no commit names yet, beside the run directory of a sync, is not tampering."""
    name = add_segment(archive)[0]
    (archive / "work").mkdir()
    result = verify_archive(archive)
    assert result.is_consistent, result.problems
    assert name in " ".join(result.notes)


def test_a_signature_vouches_only_with_the_signer(tmp_path: Path) -> None:
    """With the expected signer the archive is anchored; another signer, or a missing signature, is found."""
    key, other = make_key(tmp_path / "key"), make_key(tmp_path / "other")
    build_archive(tmp_path / "archive", BATCHES[:2], signing_key=key)
    archive = tmp_path / "archive"
    alone = verify_archive(archive)
    assert alone.is_consistent
    assert not alone.verdict.is_anchored
    trusted = verify_archive(archive, signer=key.with_suffix(".pub"))
    assert trusted.is_consistent
    assert trusted.verdict.is_anchored
    assert any("a rollback to an older one would not be noticed" in note for note in trusted.notes)
    stranger = verify_archive(archive, signer=other.with_suffix(".pub"))
    assert not stranger.is_consistent
    assert any("NOT SIGNED AS EXPECTED" in line for line in describe_archive_verification(stranger, archive))
    name_signature(archive / "commits" / "000000000002.json").unlink()
    assert_found(archive, "commits/000000000002.json")
