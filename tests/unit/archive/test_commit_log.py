"""An archive's chain of commits: created, appended to, recovered, refused when damaged, and verified."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ociaudit.archive.commit import Head, validate_commit
from ociaudit.archive.commit_log import (
    CHECKPOINT_INTERVAL,
    ArchiveFolder,
    ChainFault,
    CommitLog,
    create_archive,
    is_archive,
    lock_archive,
    read_header,
    verify_chain,
)
from ociaudit.errors import CorruptRun, DiskError, OciAuditError, UsageError, find_exit_status
from ociaudit.storage.manifest import sign_bytes
from support.archives import NOW, TENANCY, make_commit, make_key, make_segment, write_archive

IS_ROOT = os.geteuid() == 0


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_tree(path: Path) -> dict[str, bytes | None]:
    """Return every name below a folder, with the bytes of the files; links are not followed."""
    return {
        each.relative_to(path).as_posix(): each.read_bytes() if each.is_file() and not each.is_symlink() else None
        for each in sorted(path.rglob("*"))
    }


def put_commit(folder: ArchiveFolder, data: bytes, sequence: int) -> None:
    """Write a commit's file as another program would."""
    folder.commit_path(sequence).write_bytes(data)


def set_head(path: Path, sequence: int) -> None:
    """Make HEAD name a commit that exists."""
    folder = ArchiveFolder(path)
    folder.head_path.write_bytes(msgspec.json.encode(Head(sequence, hash_file(folder.commit_path(sequence)))))


# Creating


@pytest.mark.parametrize("exists", [False, True])
def test_an_archive_is_created_with_nothing_in_it(tmp_path: Path, *, exists: bool) -> None:
    """A new or an empty folder becomes a private archive whose header says whose it is, and which has no commit."""
    path = tmp_path / "archive"
    if exists:
        path.mkdir()
        path.chmod(0o755)
    assert not is_archive(path)
    header = create_archive(path, tenancy=TENANCY, now=NOW)
    assert is_archive(path)
    assert (header.tenancy, header.created_at) == (TENANCY, "2026-03-01T12:30:15Z")
    assert re.fullmatch("[0-9a-f]{32}", header.id)
    assert read_header(path) == (header, hash_file(path / "archive.json"))
    log = CommitLog.open(path)
    assert (log.head, log.next_sequence, log.previous) == (None, 1, hash_file(path / "archive.json"))
    assert list(log.read_commits()) == []
    assert {each.stat().st_mode & 0o777 for each in [path, *path.iterdir()] if each.is_dir()} == {0o700}
    assert (path / "archive.json").stat().st_mode & 0o777 == 0o600
    assert verify_chain(path).faults == ()


def test_creating_again_keeps_the_archive(tmp_path: Path) -> None:
    """An archive of this tenancy stays as it is, and one of another tenancy is refused by name."""
    write_archive(tmp_path, 2)
    before = list_tree(tmp_path)
    assert create_archive(tmp_path, tenancy=TENANCY, now=NOW) == read_header(tmp_path)[0]
    with pytest.raises(UsageError, match=f"another tenancy, {TENANCY}"):
        create_archive(tmp_path, tenancy="ocid1.tenancy.oc1..other", now=NOW)
    assert list_tree(tmp_path) == before


def put_file(path: Path) -> None:
    """Put a file there."""
    path.write_text("theirs")


def put_foreign_folder(path: Path) -> None:
    """Put somebody else's folder there."""
    path.mkdir()
    (path / "notes.txt").write_text("theirs")


def put_link_to_nothing(path: Path) -> None:
    """Put a dangling link there."""
    path.symlink_to(path.parent / "nowhere")


def put_inside_an_archive(path: Path) -> None:
    """Make the folder around it an archive."""
    write_archive(path.parent, 1)


def put_around_an_archive(path: Path) -> None:
    """Put a folder there that has an archive in it."""
    path.mkdir()
    write_archive(path / "inner", 1)


def remove_parent(path: Path) -> None:
    """Remove the folder around it."""
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (put_file, "is not a folder"),
        (put_foreign_folder, r"contains other files, for example notes\.txt"),
        (put_link_to_nothing, "is not a folder"),
        (put_inside_an_archive, "is inside the archive"),
        (put_around_an_archive, "contains other files, for example inner"),
        (remove_parent, "does not exist"),
    ],
)
def test_an_archive_is_not_created_where_something_else_is(
    tmp_path: Path, prepare: Callable[[Path], None], message: str
) -> None:
    """A file, a foreign folder, an archive around or inside, or no parent: exit 2 says so, and nothing changes."""
    path = tmp_path / "parent" / "archive"
    path.parent.mkdir()
    prepare(path)
    before = list_tree(tmp_path)
    with pytest.raises(UsageError, match=message):
        create_archive(path, tenancy=TENANCY, now=NOW)
    assert list_tree(tmp_path) == before
    assert not is_archive(path)


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_no_write_permission_is_said(tmp_path: Path) -> None:
    """A folder without write permission is a disk error that names it."""
    path = tmp_path / "archive"
    path.mkdir(mode=0o500)
    with pytest.raises(DiskError, match="Permission denied"):
        create_archive(path / "deeper", tenancy=TENANCY, now=NOW)


@pytest.mark.parametrize("left", ["commits/000000000001.json", "HEAD", "events/event_date=2026-02-28"])
def test_an_archive_without_its_header_is_not_created_again(tmp_path: Path, left: str) -> None:
    """Commits, HEAD or events without archive.json are a damaged archive, exit 6, and stay."""
    write_archive(tmp_path, 1)
    (tmp_path / "events/event_date=2026-02-28").mkdir()
    (tmp_path / "archive.json").unlink()
    for name in {"commits/000000000001.json", "HEAD", "events/event_date=2026-02-28"} - {left}:
        gone = tmp_path / name
        if gone.is_dir():
            gone.rmdir()
        else:
            gone.unlink()
    before = list_tree(tmp_path)
    with pytest.raises(CorruptRun, match=re.escape(left.partition("/")[0])):
        create_archive(tmp_path, tenancy=TENANCY, now=NOW)
    assert list_tree(tmp_path) == before


# Reading and appending


def test_commits_read_back_in_order(tmp_path: Path) -> None:
    """What is appended reads back from any commit on, by a reader that opens the archive afterwards."""
    written = write_archive(tmp_path, 5)
    log = CommitLog.open(tmp_path)
    assert log.head == written.head == Head(5, hash_file(log.folder.commit_path(5)))
    commits = list(log.read_commits())
    assert [commit.sequence for commit in commits] == [1, 2, 3, 4, 5]
    assert [commit.added for commit in commits] == [(make_segment(number),) for number in range(1, 6)]
    for since in range(1, 8):
        assert list(log.read_commits(since)) == commits[since - 1 :]


def test_a_reader_keeps_its_view(tmp_path: Path) -> None:
    """A log that was opened before an append still ends where it did."""
    writer = write_archive(tmp_path, 2)
    reader = CommitLog.open(tmp_path)
    writer.append(make_commit(writer))
    assert [commit.sequence for commit in reader.read_commits()] == [1, 2]
    assert [commit.sequence for commit in CommitLog.open(tmp_path).read_commits()] == [1, 2, 3]


def test_a_commit_states_its_format(tmp_path: Path) -> None:
    """A commit's file names its format and leaves out what is empty."""
    log = write_archive(tmp_path, 1)
    stated = msgspec.json.decode(log.folder.commit_path(1).read_bytes())
    assert stated["schema"] == "oci-audit-commit/1"
    assert "gaps" not in stated


def test_a_commit_that_does_not_follow_is_not_written(tmp_path: Path) -> None:
    """A commit with another sequence, or after another commit, is refused before anything is written."""
    log = write_archive(tmp_path, 2)
    before = list_tree(tmp_path)
    good = make_commit(log)
    for change in ({"sequence": 2}, {"sequence": 4}, {"previous": "0" * 64}):
        with pytest.raises(OciAuditError, match="does not follow"):
            log.append(msgspec.structs.replace(good, **change))
    assert list_tree(tmp_path) == before


def test_two_writers_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """A second writer without the lock is refused its commit, and the first writer's stays."""
    first = write_archive(tmp_path, 1)
    second = CommitLog.open(tmp_path)
    first.append(make_commit(first, reason="the first writer's"))
    before = list_tree(tmp_path)
    with pytest.raises(UsageError, match="another process has written commit 2"):
        second.append(make_commit(second, reason="the second writer's"))
    assert list_tree(tmp_path) == before
    assert [commit.reason for commit in CommitLog.open(tmp_path).read_commits()] == ["", "the first writer's"]


def test_the_same_commit_again_is_acknowledged(tmp_path: Path) -> None:
    """A writer that repeats its commit, because it did not learn that it succeeded, gets the same head."""
    first = write_archive(tmp_path, 1)
    again = CommitLog.open(tmp_path)
    commit = make_commit(first)
    assert first.append(commit) == again.append(commit)
    assert verify_chain(tmp_path).faults == ()


def test_an_old_commit_again_does_not_move_head_back(tmp_path: Path) -> None:
    """A writer that repeats a commit after others have followed is refused, and HEAD stays at the newest."""
    first = write_archive(tmp_path, 1)
    again = CommitLog.open(tmp_path)
    commit = make_commit(first)
    first.append(commit)
    head = first.append(make_commit(first))
    before = list_tree(tmp_path)
    with pytest.raises(UsageError, match="another process"):
        again.append(commit)
    assert list_tree(tmp_path) == before
    assert CommitLog.open(tmp_path).head == head


def test_a_commit_after_one_that_head_lacks_makes_head_name_that_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAD never lacks two commits, even if the disk fails for HEAD twice and nothing was recovered in between."""
    log = write_archive(tmp_path, 1)
    replace, failed = os.replace, []

    def fail(source: Path, target: Path) -> None:
        if target.name == "HEAD" and len(failed) < 2:
            failed.append(target)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    for sequence in (2, 2, 3):
        log = CommitLog.open(tmp_path)
        with contextlib.suppress(DiskError):
            log.append(make_commit(log))
        assert verify_chain(tmp_path).faults == ()
        head = CommitLog.open(tmp_path).head
        assert head is not None
        assert head.sequence == sequence
    assert len(failed) == 2


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    """While one process holds the lock, another is refused it, and gets it afterwards; readers need none."""
    write_archive(tmp_path, 1)
    with lock_archive(tmp_path) as is_held:
        assert is_held()
        assert CommitLog.open(tmp_path).head is not None
        code = (
            "import sys, pathlib\n"
            "from ociaudit.archive.commit_log import lock_archive\n"
            "from ociaudit.errors import UsageError\n"
            "try:\n    with lock_archive(pathlib.Path(sys.argv[1])): print('held')\n"
            "except UsageError as error: print(error)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert refused == f"another oci-audit process is writing to {tmp_path}\n"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"


def test_only_an_archive_is_locked(tmp_path: Path) -> None:
    """A folder that is not an archive is refused without a lock file left in it."""
    with pytest.raises(UsageError, match="is not an archive"), lock_archive(tmp_path):
        pass
    with pytest.raises(UsageError, match="is not an archive"):
        CommitLog.open(tmp_path)
    assert list_tree(tmp_path) == {}


# HEAD and chain


@pytest.mark.parametrize("missing", [1, 2, 5])
def test_a_head_that_is_behind_is_rolled_forward(tmp_path: Path, missing: int) -> None:
    """Commits that HEAD does not name yet count for a reader, and the writer's recovery makes HEAD name the last."""
    for count in (5, 6):
        path = tmp_path / str(count)
        log = write_archive(path, count)
        if count == missing:
            log.folder.head_path.unlink()
        else:
            set_head(path, count - missing)
        before = list_tree(path)
        reader = CommitLog.open(path)
        assert reader.head == log.head
        assert len(list(reader.read_commits())) == count
        found = [fault.path for fault in verify_chain(path).faults]
        assert found == (["HEAD"] if count == missing else [])  # without HEAD, the end could be missing, too
        assert list_tree(path) == before
        assert reader.recover() == ()
        assert msgspec.json.decode(log.folder.head_path.read_bytes(), type=Head) == log.head


def leave_a_hole_behind_head(path: Path) -> None:
    """HEAD lacks three commits, and the second of them is gone."""
    set_head(path, 2)
    (path / "commits/000000000004.json").unlink()


def break_the_chain_behind_head(path: Path) -> None:
    """HEAD lacks three commits, and the second of them does not follow the first."""
    set_head(path, 2)
    change_byte(path / "commits/000000000003.json")


def make_head_ahead(path: Path) -> None:
    """The newest commit is gone."""
    (path / "commits/000000000005.json").unlink()


def make_head_name_another(path: Path) -> None:
    """HEAD names a digest that no commit has."""
    (path / "HEAD").write_bytes(msgspec.json.encode(Head(5, "0" * 64)))


def empty_head(path: Path) -> None:
    """HEAD is empty."""
    (path / "HEAD").write_bytes(b"")


def make_head_zero(path: Path) -> None:
    """HEAD names commit 0."""
    (path / "HEAD").write_bytes(msgspec.json.encode(Head(0, "0" * 64)))


def change_newest(path: Path) -> None:
    """The newest commit is changed."""
    file = path / "commits/000000000005.json"
    file.write_bytes(file.read_bytes().replace(b'"run 5"', b'"run X"'))


def tear_newest(path: Path) -> None:
    """The newest commit is truncated."""
    file = path / "commits/000000000005.json"
    file.write_bytes(file.read_bytes()[:40])


def add_foreign_commit(path: Path) -> None:
    """A commit is copied to the next name."""
    shutil.copy(path / "commits/000000000005.json", path / "commits/000000000006.json")


def add_commit_of_another_chain(path: Path) -> None:
    """A next commit follows another one."""
    file = path / "commits/000000000005.json"
    data = file.read_bytes().replace(b'"sequence":5', b'"sequence":6')
    (path / "commits/000000000006.json").write_bytes(data)


def leave_a_hole_after_head(path: Path) -> None:
    """A commit comes after one that is missing."""
    shutil.copy(path / "commits/000000000005.json", path / "commits/000000000007.json")


def link_newest(path: Path) -> None:
    """The newest commit is a link to its bytes."""
    file = path / "commits/000000000005.json"
    file.rename(path.parent / "elsewhere")
    file.symlink_to(path.parent / "elsewhere")


def link_head(path: Path) -> None:
    """HEAD is a link to its bytes."""
    (path / "HEAD").rename(path.parent / "elsewhere")
    (path / "HEAD").symlink_to(path.parent / "elsewhere")


def link_header(path: Path) -> None:
    """The header is a link to its bytes."""
    (path / "archive.json").rename(path.parent / "elsewhere")
    (path / "archive.json").symlink_to(path.parent / "elsewhere")


def link_commits(path: Path) -> None:
    """The commits are elsewhere, behind a link."""
    (path / "commits").rename(path.parent / "elsewhere")
    (path / "commits").symlink_to(path.parent / "elsewhere")


def link_events(path: Path) -> None:
    """The segments are elsewhere, behind a link."""
    (path / "events").rename(path.parent / "elsewhere")
    (path / "events").symlink_to(path.parent / "elsewhere")


def link_work(path: Path) -> None:
    """The run directory is a link out of the archive."""
    (path / "work").symlink_to(path.parent)


def make_newest_a_pipe(path: Path) -> None:
    """The newest commit is a pipe, which a reader would wait for."""
    (path / "commits/000000000005.json").unlink()
    os.mkfifo(path / "commits/000000000005.json")


def make_newest_a_folder(path: Path) -> None:
    """The newest commit is a folder."""
    (path / "commits/000000000005.json").unlink()
    (path / "commits/000000000005.json").mkdir()


def make_head_a_folder(path: Path) -> None:
    """HEAD is a folder."""
    (path / "HEAD").unlink()
    (path / "HEAD").mkdir()


DAMAGES = [
    (leave_a_hole_behind_head, "commit 4 is missing, but there is a commit 5"),
    (break_the_chain_behind_head, r"000000000004\.json does not follow commit 3"),
    (make_head_ahead, "HEAD names commit 5, which does not exist"),
    (make_head_name_another, "commit 5 is not the one that .*HEAD names"),
    (empty_head, "HEAD is damaged"),
    (make_head_zero, "HEAD names no commit"),
    (change_newest, "commit 5 is not the one that .*HEAD names"),
    (tear_newest, r"000000000005\.json is damaged"),
    (add_foreign_commit, r"000000000006\.json holds commit 5"),
    (add_commit_of_another_chain, r"000000000006\.json does not follow"),
    (leave_a_hole_after_head, "commit 6 is missing, but there is a commit 7"),
    (link_newest, r"000000000005\.json is not a file but a link"),
    (link_head, "HEAD is not a file but a link"),
    (link_header, r"archive\.json is not a file but a link"),
    (link_commits, "commits is a link"),
    (link_events, "events is a link"),
    (link_work, "work is a link"),
    (make_newest_a_folder, r"000000000005\.json is not a file but a link or something else"),
    (make_head_a_folder, "HEAD is not a file but a link or something else"),
    (make_newest_a_pipe, r"000000000005\.json is not a file but a link or something else"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_damage_is_refused_by_name_and_nothing_deleted(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    """HEAD and chain that disagree, holes, links: exit 6 names the file; reader, writer and recovery change nothing."""
    path = tmp_path / "archive"
    log = write_archive(path, 5)
    (path / "events/event_date=2026-02-28").mkdir()
    (path / make_segment(99).path).write_bytes(b"an orphan")
    damage(path)
    before = list_tree(tmp_path)
    with pytest.raises(CorruptRun, match=message) as caught:
        CommitLog.open(path)
    assert find_exit_status(caught.value) == 6
    if damage is not link_header:
        with pytest.raises(CorruptRun, match=message):
            log.recover(known=[])
    assert list_tree(tmp_path) == before


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_a_changed_commit_is_found_when_it_is_read(tmp_path: Path, sequence: int) -> None:
    """A commit that was changed is refused before it is yielded, although opening does not read it."""
    log = write_archive(tmp_path, 4)
    path = log.folder.commit_path(sequence)
    path.write_bytes(path.read_bytes().replace(b'"reason":""', b"").replace(b'"run ', b'"RUN '))
    read = []
    with pytest.raises(CorruptRun, match=f"commit {sequence} is not the one that commit {sequence + 1} follows"):
        read.extend(commit.sequence for commit in CommitLog.open(tmp_path).read_commits())
    assert read == list(range(1, sequence))
    log.folder.commit_path(sequence).unlink()
    with pytest.raises(CorruptRun, match=f"commit {sequence} is missing"):
        list(CommitLog.open(tmp_path).read_commits())


def test_another_header_does_not_fit_the_chain(tmp_path: Path) -> None:
    """An archive.json that was exchanged is noticed with the first commit."""
    log = write_archive(tmp_path, 2)
    header = msgspec.structs.replace(log.header, tenancy="ocid1.tenancy.oc1..other")
    log.folder.header_path.write_bytes(msgspec.json.encode(header))
    with pytest.raises(CorruptRun, match=r"archive\.json is not the one that commit 1 follows"):
        list(CommitLog.open(tmp_path).read_commits())
    assert [fault.path for fault in verify_chain(tmp_path).faults] == ["archive.json"]


@pytest.mark.parametrize("name", ["archive.json", "commits/000000000003.json"])
def test_a_newer_format_is_named(tmp_path: Path, name: str) -> None:
    """A file in the format of a newer version is exit 6 with that format, for readers, writers and verify."""
    write_archive(tmp_path, 3)
    path = tmp_path / name
    path.write_bytes(re.sub(rb"(oci-audit-[a-z]+)/1", rb"\1/2", path.read_bytes()))
    for use in (CommitLog.open, verify_chain):
        with pytest.raises(CorruptRun, match=r"has the format oci-audit-[a-z]+/2, which is newer") as caught:
            use(tmp_path)
        assert caught.value.hint == "update oci-audit"


# What a killed writer leaves


def plant(path: Path, *names: str) -> None:
    """Write files into an archive."""
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"left")


def test_recovery_removes_what_was_never_committed(tmp_path: Path) -> None:
    """Temporary files, segments that no commit names, and the next commit's signature and ids go; the rest stays."""
    write_archive(tmp_path, 2)
    live, replaced, orphan = (make_segment(number).path for number in (1, 2, 3))
    unknown = make_segment(4, "unknown").path
    leftovers = [
        ".HEAD.partial",
        ".archive.json.x8_3kq2z.partial",
        "commits/.000000000003.json.abcd1234.partial",
        "commits/.000000000003.json.sig.partial",
        "commits/000000000003.json.sig",
        "checkpoints/.000000000002.json.partial",
        "tail/.000000000003.ids.partial",
        "tail/000000000003.ids",
        orphan,
        unknown,
        f"events/event_date=2026-02-28/.{orphan[-40:]}.partial",
        f"replaced/{orphan.removeprefix('events/')}",
    ]
    kept = [
        live,
        f"replaced/{replaced.removeprefix('events/')}",
        "tail/000000000002.ids",
        "commits/000000000002.json.sig",
        "commits/notes.txt",
        "commits/000000000004.json.sig",
        "events/readme.txt",
        "events/event_date=2026-02-28/theirs.parquet",
        f"events/event_date=2026/{orphan[-40:]}",
        "events/event_date=2026-02-28/_delta_log",
        "work/plan.json",
        "work/.plan.json.partial",
        "tail/cursor",
    ]
    plant(tmp_path, *leftovers, *kept)
    before = list_tree(tmp_path)
    assert sorted(CommitLog.open(tmp_path).recover(known=[live, replaced])) == sorted(leftovers)
    after = list_tree(tmp_path)
    assert {name: data for name, data in before.items() if name not in leftovers} == after


def test_recovery_without_the_segments_leaves_them(tmp_path: Path) -> None:
    """A recovery that was not given the segments removes temporary files alone."""
    write_archive(tmp_path, 1)
    plant(tmp_path, make_segment(9).path, "tail/000000000002.ids", ".HEAD.partial")
    assert CommitLog.open(tmp_path).recover() == (".HEAD.partial",)
    assert (tmp_path / make_segment(9).path).exists()


def test_recovery_follows_no_link(tmp_path: Path) -> None:
    """Links that have the names of leftovers are neither followed nor removed, nor is what they lead to."""
    path, elsewhere = tmp_path / "archive", tmp_path / "elsewhere"
    write_archive(path, 1)
    elsewhere.mkdir()
    segment = make_segment(5).path
    (elsewhere / Path(segment).name).write_bytes(b"theirs")
    (path / "events/event_date=2026-02-28").symlink_to(elsewhere)
    (path / "events/event_date=2026-02-27").mkdir()
    (path / "events/event_date=2026-02-27" / Path(segment).name).symlink_to(elsewhere / Path(segment).name)
    (path / "commits/.000000000002.json.abcd1234.partial").symlink_to(elsewhere / Path(segment).name)
    before = list_tree(tmp_path)
    assert CommitLog.open(path).recover(known=[]) == ()
    assert list_tree(tmp_path) == before


def test_a_linked_lock_is_not_written_through(tmp_path: Path) -> None:
    """A lock that is a link is refused, and the mode of what it leads to stays."""
    path, elsewhere = tmp_path / "archive", tmp_path / "elsewhere"
    write_archive(path, 1)
    elsewhere.write_text("theirs")
    elsewhere.chmod(0o644)
    (path / "lock").symlink_to(elsewhere)
    with pytest.raises(DiskError, match="lock"), lock_archive(path):
        pass
    assert elsewhere.stat().st_mode & 0o777 == 0o644


def test_recovery_makes_missing_folders(tmp_path: Path) -> None:
    """A copy without the empty folders opens, and recovery makes them again."""
    write_archive(tmp_path, 1)
    for name in ("events", "replaced", "tail", "checkpoints"):
        (tmp_path / name).rmdir()
    assert verify_chain(tmp_path).faults == ()
    log = CommitLog.open(tmp_path)
    assert log.read_checkpoint() is None
    log.recover(known=[])
    log.append(make_commit(log))
    log.write_checkpoint(b"state")
    assert (tmp_path / "events").stat().st_mode & 0o777 == 0o700


# Crafted commits


HOSTILE_PATHS = [
    "/etc/passwd",
    "../../etc/passwd",
    "events/../../../etc/passwd",
    "events/event_date=2026-02-28/../../archive.json",
    "events/event_date=2026-02-28/../event_date=2026-02-27/0123456789abcdef0123456789abcdef.parquet",
    "commits/000000000001.json",
    "HEAD",
    "",
    "events/event_date=2026-02-30/0123456789abcdef0123456789abcdef.parquet",
    "events/event_date=2026-2-28/0123456789abcdef0123456789abcdef.parquet",
    "events/event_date=2026-02-28/0123456789ABCDEF0123456789ABCDEF.parquet",
    "events/event_date=2026-02-28/0123456789abcdef0123456789abcdef.parquet\n",
    "events/event_date=2026-02-28/0123456789abcdef0123456789abcdef.parquet/x",
    "events/event_date=\u0662\u0660\u0662\u0666-02-28/0123456789abcdef0123456789abcdef.parquet",
    "events//event_date=2026-02-28/0123456789abcdef0123456789abcdef.parquet",
    "replaced/event_date=2026-02-28/0123456789abcdef0123456789abcdef.parquet",
    "events/event_date=2026-02-28/\x000123456789abcdef0123456789abcdef.parquet",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
@pytest.mark.parametrize("field", ["added", "replaced"])
def test_a_crafted_path_is_refused(tmp_path: Path, path: str, field: str) -> None:
    """A path that is not a segment's is exit 6 with commit and path, when it is written and when it is read."""
    log = write_archive(tmp_path, 1)
    entry = msgspec.structs.replace(make_segment(1), path=path)
    crafted = msgspec.structs.replace(make_commit(log), **{field: (entry if field == "added" else path,)})
    before = list_tree(tmp_path)
    with pytest.raises(CorruptRun, match=f"commit 2 .*{re.escape(repr(path))}"):
        log.append(crafted)
    assert list_tree(tmp_path) == before
    put_commit(log.folder, msgspec.json.encode(crafted), 2)
    with pytest.raises(CorruptRun, match=rf"000000000002\.json .*{re.escape(repr(path))}"):
        CommitLog.open(tmp_path)
    with pytest.raises(CorruptRun):
        log.folder.segment_path(path)
    with pytest.raises(CorruptRun):
        log.folder.replaced_path(path)


def test_the_paths_of_segments_are_those_of_their_commits(tmp_path: Path) -> None:
    """A valid path leads below events, and below replaced once the segment is replaced."""
    folder = ArchiveFolder(tmp_path)
    for date in ("2026-02-28", "unknown"):
        path = make_segment(1, date).path
        assert folder.segment_path(path) == tmp_path / path
        assert folder.replaced_path(path) == tmp_path / path.replace("events/", "replaced/")


GOOD = make_segment(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence": 0}, "its sequence is 0"),
        ({"previous": "abc"}, "does not name the commit before"),
        ({"key_fingerprint": "SHA256:x"}, "names a key"),
        ({"added": (GOOD, GOOD)}, "twice"),
        ({"added": (GOOD,), "replaced": (GOOD.path,)}, "twice"),
        ({"added": (msgspec.structs.replace(GOOD, date="2026-02-27"),)}, "do not match its path"),
        ({"added": (msgspec.structs.replace(GOOD, rows_sha256="0" * 64),)}, "do not match its path"),
        ({"added": (msgspec.structs.replace(GOOD, rows_sha256=GOOD.rows_sha256[:32]),)}, "do not match its path"),
        ({"added": (msgspec.structs.replace(GOOD, sha256="x" * 64),)}, "do not match its path"),
        ({"added": (msgspec.structs.replace(GOOD, rows=0),)}, "0 rows"),
        ({"added": (msgspec.structs.replace(GOOD, size_bytes=-1),)}, "-1 bytes"),
    ],
)
def test_a_commit_that_cannot_be_ours_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """Counts, dates and digests that oci-audit never writes are exit 6."""
    log = write_archive(tmp_path, 1)
    commit = make_commit(log, added=[GOOD])
    validate_commit(commit)
    with pytest.raises(CorruptRun, match=message):
        validate_commit(msgspec.structs.replace(commit, **changes))


# Checkpoints


def test_the_newest_checkpoint_is_read(tmp_path: Path) -> None:
    """A checkpoint reads back with its commit until a newer one is written; two are kept."""
    log = write_archive(tmp_path, 1)
    assert log.read_checkpoint() is None
    for number in range(2, 6):
        log.append(make_commit(log))
        log.write_checkpoint(b"state \n\x00 %d" % number)
        found = CommitLog.open(tmp_path).read_checkpoint()
        assert found is not None
        assert (found.sequence, found.digest, found.data) == (number, log.previous, b"state \n\x00 %d" % number)
    assert sorted(path.name for path in log.folder.checkpoints.iterdir()) == ["000000000004.json", "000000000005.json"]


def damage_checkpoint(path: Path) -> None:
    """Change a byte of its data."""
    path.write_bytes(path.read_bytes()[:-1] + b"X")


def empty_checkpoint(path: Path) -> None:
    """Leave it empty."""
    path.write_bytes(b"")


def replace_digest(path: Path) -> None:
    """Make it that of another chain."""
    path.write_bytes(re.sub(rb'"digest":"[0-9a-f]+"', b'"digest":"' + b"0" * 64 + b'"', path.read_bytes()))


def replace_format(path: Path) -> None:
    """Give it a newer format."""
    path.write_bytes(path.read_bytes().replace(b"checkpoint/1", b"checkpoint/2"))


def link_checkpoint(path: Path) -> None:
    """Make it a link to its bytes."""
    path.rename(path.parents[1] / "elsewhere")
    path.symlink_to(path.parents[1] / "elsewhere")


def rename_checkpoint(path: Path) -> None:
    """Give it the name of another commit."""
    path.rename(path.with_name("000000000005.json"))


@pytest.mark.parametrize(
    "damage",
    [damage_checkpoint, empty_checkpoint, replace_digest, replace_format, link_checkpoint, rename_checkpoint],
)
def test_a_bad_checkpoint_is_passed_over(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A checkpoint that is damaged, foreign or newer does not count; the one before it does."""
    log = write_archive(tmp_path, 3)
    log.write_checkpoint(b"three")
    log.append(make_commit(log))
    log.write_checkpoint(b"four")
    log.append(make_commit(log))
    damage(log.folder.checkpoint_path(4))
    found = CommitLog.open(tmp_path).read_checkpoint()
    assert found is not None
    assert (found.sequence, found.data) == (3, b"three")
    assert verify_chain(tmp_path).faults == ()


def test_a_checkpoint_after_the_head_does_not_count(tmp_path: Path) -> None:
    """A checkpoint of commits that the view does not have is not read."""
    writer = write_archive(tmp_path, 1)
    reader = CommitLog.open(tmp_path)
    writer.append(make_commit(writer))
    writer.write_checkpoint(b"two")
    assert reader.read_checkpoint() is None


def test_a_checkpoint_is_due_now_and_then(tmp_path: Path, quick_disk: None) -> None:
    """After the interval without a checkpoint one is due, and after it is written no more."""
    log = write_archive(tmp_path, CHECKPOINT_INTERVAL - 1)
    assert not log.is_checkpoint_due()
    log.append(make_commit(log))
    assert log.is_checkpoint_due()
    log.write_checkpoint(b"state")
    assert not log.is_checkpoint_due()


def test_opening_reads_few_files_however_many_commits_there_are(
    tmp_path: Path, quick_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening reads as many files of 10 commits as of 130, and the state at most one interval of commits more."""
    paths = {count: tmp_path / str(count) for count in (10, 130)}
    for count, path in paths.items():
        log = write_archive(path, 0)
        for _ in range(count):
            log.append(make_commit(log))
            if log.is_checkpoint_due():
                log.write_checkpoint(b"state")
    opened, listed = [], []
    open_file, scandir = os.open, os.scandir
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **options: opened.append(path) or open_file(path, *rest, **options)
    )
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or scandir(path))
    counts = []
    for path in paths.values():
        opened.clear()
        log = CommitLog.open(path)
        counts.append(len(opened))
        checkpoint = log.read_checkpoint()
        list(log.read_commits(checkpoint.sequence + 1 if checkpoint else 1))
        assert counts[-1] < len(opened) <= counts[-1] + CHECKPOINT_INTERVAL + 3
    assert counts[0] == counts[1] > 0
    assert set(listed) == {"checkpoints"}


# Signatures


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two SSH keys."""
    folder = tmp_path_factory.mktemp("keys")
    return make_key(folder / "key"), make_key(folder / "other")


def test_a_signed_archive_stays_signed(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """The first commit names the key; a writer without it or with another is exit 2, and nothing is written."""
    key, other = keys
    log = write_archive(tmp_path, 2, signing_key=key)
    fingerprint = log.key_fingerprint
    assert fingerprint is not None
    assert fingerprint.startswith("SHA256:")
    assert [commit.key_fingerprint for commit in log.read_commits()] == [fingerprint, None]
    before = list_tree(tmp_path)
    for wrong, message in ((None, "no key is named"), (other, "other is the key SHA256:")):
        with pytest.raises(UsageError, match=message):
            CommitLog.open(tmp_path).append(make_commit(log), signing_key=wrong)
    assert list_tree(tmp_path) == before
    log.append(make_commit(log), signing_key=key)
    facts = verify_chain(tmp_path, signer=key.with_suffix(".pub"))
    assert (facts.faults, facts.is_anchored, facts.key_fingerprint) == ((), True, fingerprint)
    facts = verify_chain(tmp_path)
    assert (facts.faults, facts.is_anchored) == ((), False)
    facts = verify_chain(tmp_path, signer=other.with_suffix(".pub"))
    assert [fault.path for fault in facts.faults] == [f"commits/{number:012}.json.sig" for number in (1, 2, 3)]
    assert not facts.is_anchored


def test_an_unsigned_archive_stays_unsigned(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """A key for an archive that began without one is exit 2, and an expected signer is a fault."""
    log = write_archive(tmp_path, 1)
    with pytest.raises(UsageError, match="is not signed"):
        log.append(make_commit(log), signing_key=keys[0])
    assert verify_chain(tmp_path, signer=keys[0].with_suffix(".pub")).faults == (
        ChainFault("archive.json", "the archive is not signed"),
    )


def test_a_missing_changed_or_exchanged_signature_is_found(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """Verify names each commit without its own good signature."""
    log = write_archive(tmp_path, 4, signing_key=keys[0])
    signatures = [tmp_path / f"commits/{number:012}.json.sig" for number in range(1, 5)]
    signatures[0].unlink()
    shutil.copy(signatures[3], signatures[1])
    signatures[2].write_text("nothing")
    facts = verify_chain(tmp_path, signer=keys[0].with_suffix(".pub"))
    assert [(fault.path, fault.problem.partition(":")[0]) for fault in facts.faults] == [
        ("commits/000000000001.json", "has no signature"),
        ("commits/000000000002.json.sig", "is not a good signature"),
        ("commits/000000000003.json.sig", "is not a good signature"),
    ]
    assert not facts.is_anchored
    assert verify_chain(tmp_path, signer=keys[0].with_suffix(".pub"), since=4).is_anchored
    assert log.head is not None


def test_a_signature_of_a_manifest_does_not_sign_a_commit(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """A signature by the right key that was made for a manifest does not count."""
    log = write_archive(tmp_path, 1, signing_key=keys[0])
    path = log.folder.commit_path(1)
    sign_bytes(path.read_bytes(), keys[0], path.with_name(path.name + ".sig"))
    assert [fault.path for fault in verify_chain(tmp_path).faults] == ["commits/000000000001.json.sig"]


# Verifying


def change_byte(path: Path) -> None:
    """Change a digit in a text of a commit, so that it still parses."""
    data = path.read_bytes()
    assert b"12:31:00Z" in data
    path.write_bytes(data.replace(b"12:31:00Z", b"12:31:01Z"))


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_changed_byte_is_found(tmp_path: Path, number: int) -> None:
    """A changed byte is reported for the commit that has it, and for no other."""
    log = write_archive(tmp_path, 5)
    change_byte(log.folder.commit_path(number))
    assert [fault.path for fault in verify_chain(tmp_path).faults] == [f"commits/{number:012}.json"]


def test_everything_wrong_is_named_at_once(tmp_path: Path) -> None:
    """Two changed commits, a missing one, a torn one and a surplus file are all reported; HEAD may be behind."""
    log = write_archive(tmp_path, 12)
    for number in (2, 9):
        change_byte(log.folder.commit_path(number))
    log.folder.commit_path(5).unlink()
    log.folder.commit_path(7).write_bytes(b"{")
    plant(tmp_path, "commits/extra.json")
    set_head(tmp_path, 10)
    facts = verify_chain(tmp_path)
    assert {fault.path: fault.problem.partition(":")[0] for fault in facts.faults} == {
        "commits/000000000002.json": "was changed, or exchanged",
        "commits/000000000005.json": "commit 5 is missing",
        "commits/000000000007.json": f"{log.folder.commit_path(7)} is damaged",
        "commits/000000000009.json": "was changed, or exchanged",
        "commits/extra.json": "does not belong to the archive",
    }
    assert len(facts.faults) == 5


def test_two_exchanged_commits_are_found(tmp_path: Path) -> None:
    """Commits that have swapped their names are both reported."""
    log = write_archive(tmp_path, 5)
    second, third = log.folder.commit_path(2), log.folder.commit_path(3)
    data = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(data)
    assert {fault.path for fault in verify_chain(tmp_path).faults} >= {f"commits/{each:012}.json" for each in (2, 3)}


def test_a_rollback_is_found_with_an_anchor_alone(tmp_path: Path) -> None:
    """An archive whose end and HEAD were removed together verifies, but not against an anchor kept elsewhere."""
    log = write_archive(tmp_path, 5)
    anchors = {number: Head(number, hash_file(log.folder.commit_path(number))) for number in range(1, 6)}
    for anchor in anchors.values():
        facts = verify_chain(tmp_path, expect=anchor, since=5)
        assert (facts.faults, facts.is_anchored) == ((), True)
    log.folder.commit_path(5).unlink()
    assert [fault.path for fault in verify_chain(tmp_path).faults] == ["HEAD"]
    set_head(tmp_path, 4)
    facts = verify_chain(tmp_path)
    assert (facts.faults, facts.is_anchored, facts.head) == ((), False, anchors[4])
    facts = verify_chain(tmp_path, expect=anchors[5])
    assert [fault.problem for fault in facts.faults] == [
        "the newest commit is 4, but the anchor is commit 5: the archive was rolled back"
    ]
    assert not facts.is_anchored
    facts = verify_chain(tmp_path, expect=Head(3, anchors[2].digest))
    assert [fault.path for fault in facts.faults] == ["commits/000000000003.json"]


def test_a_quick_check_reads_the_newest_commits_alone(tmp_path: Path) -> None:
    """`since` leaves out earlier commits, but not their names."""
    log = write_archive(tmp_path, 6)
    change_byte(log.folder.commit_path(2))
    facts = verify_chain(tmp_path, since=4)
    assert (facts.faults, facts.checked) == ((), 3)
    change_byte(log.folder.commit_path(3))
    assert [fault.path for fault in verify_chain(tmp_path, since=4).faults] == ["commits/000000000003.json"]
    log.folder.commit_path(2).unlink()
    assert len(verify_chain(tmp_path, since=5).faults) == 1


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_verify_finds_what_opening_refuses(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    """Whatever a reader refuses is a fault for verify too, or refused with the same words."""
    path = tmp_path / "archive"
    write_archive(path, 5)
    damage(path)
    try:
        is_found = bool(verify_chain(path).faults)
    except CorruptRun as error:
        is_found = re.search(message, str(error)) is not None
    assert is_found


# Disks that fail


CALLS = ("open", "write", "close", "fchmod", "chmod", "mkdir", "fsync", "fdatasync", "link", "replace", "unlink")


def is_from_atomic_io() -> bool:
    """Return whether the wrapped call comes from atomic_io, directly or through pathlib or tempfile."""
    frame = sys._getframe(2)
    names = []
    while frame is not None and len(names) < 5 and "/archive/" not in frame.f_code.co_filename:
        names.append(Path(frame.f_code.co_filename).name)
        frame = frame.f_back
    return "atomic_io.py" in names


class FailingDisk:
    """Makes the n-th call that changes the disk fail, before or after it has done its work."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, code: int, *, is_after: bool = False) -> None:
        self.calls: list[str] = []
        self.has_failed = False
        for name in CALLS:
            function = getattr(os, name)

            def wrapper(
                *arguments: object, _function: Callable[..., object] = function, _name: str = name, **options: object
            ) -> object:
                if not is_from_atomic_io():
                    return _function(*arguments, **options)
                self.calls.append(_name)
                is_chosen = len(self.calls) == number
                self.has_failed |= is_chosen
                if is_chosen and not is_after:
                    raise OSError(code, os.strerror(code))
                result = _function(*arguments, **options)
                if is_chosen:
                    raise OSError(code, os.strerror(code))
                return result

            patch.setattr(os, name, wrapper)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_call_loses_nothing(tmp_path: Path, code: int, *, is_after: bool) -> None:
    """Whichever call fails while a commit is appended, what was acknowledged stays, and the next attempt succeeds."""
    met: set[str] = set()
    for number in range(1, 200):
        path = tmp_path / str(number)
        log = write_archive(path, 2)
        commit = make_commit(log)
        acknowledged = log.head
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, number, code, is_after=is_after)
            with contextlib.suppress(DiskError):  # any other error fails the test
                acknowledged = log.append(commit)
        if not disk.has_failed:
            break
        met.add(disk.calls[number - 1])
        reader = CommitLog.open(path)
        assert reader.head is not None
        assert acknowledged is not None
        assert reader.head.sequence >= acknowledged.sequence
        assert verify_chain(path).faults == ()
        writer = CommitLog.open(path)
        writer.recover(known=[])
        if writer.next_sequence == 3:
            writer.append(commit)
        assert [each.run_id for each in CommitLog.open(path).read_commits()] == ["run 1", "run 2", "run 3"]
        assert not [name for name in list_tree(path) if name.endswith(".partial")]
    else:
        pytest.fail("every call failed")
    assert met >= {"write", "link", "fsync", "replace", "unlink"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_call_leaves_an_archive_that_can_be_created(tmp_path: Path, code: int) -> None:
    """Whichever call fails while an archive is created, the next attempt succeeds."""
    for number in range(1, 200):
        path = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, number, code)
            with contextlib.suppress(DiskError):  # any other error fails the test
                create_archive(path, tenancy=TENANCY, now=NOW)
        if not disk.has_failed:
            break
        create_archive(path, tenancy=TENANCY, now=NOW)
        CommitLog.open(path).recover()
        assert sorted(each.name for each in path.iterdir()) == [
            "archive.json",
            "checkpoints",
            "commits",
            "events",
            "replaced",
            "tail",
        ]
    assert number > 15


@pytest.mark.parametrize("code", [errno.EIO, errno.EEXIST, errno.EPERM, errno.ESTALE])
def test_a_lost_answer_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A link that was made but reported as failed, as network file systems do, is an acknowledged commit."""
    log = write_archive(tmp_path, 1)
    link = os.link
    lost = []

    def lose_answer(source: Path, target: Path) -> None:
        link(source, target)
        lost.append(target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", lose_answer)
    head = log.append(make_commit(log))
    assert lost == [log.folder.commit_path(2)]
    assert CommitLog.open(tmp_path).head == head
    assert verify_chain(tmp_path).faults == ()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where hard links are impossible the archive is not created: exit 5 names the folder and what to choose."""
    refused = []

    def refuse(_source: Path, target: Path) -> None:
        refused.append(target.name)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "archive"
    with pytest.raises(DiskError, match=f"file system of {path} has no hard links") as caught:
        create_archive(path, tenancy=TENANCY, now=NOW)
    assert "ext4" in caught.value.hint
    assert refused == ["archive.json"]
    assert not is_archive(path)
    assert not [name for name in list_tree(path) if name.endswith(".partial")]
