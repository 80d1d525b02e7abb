"""An archive's chain of commits: created, appended to, recovered, refused when damaged, and verified."""

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

from ociaudit.archive.commit import ArchiveHeader, Commit, Head, SegmentEntry, validate_commit
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
    path.write_text("theirs")


def put_foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("theirs")


def put_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def put_inside_an_archive(path: Path) -> None:
    write_archive(path.parent, 1)


def put_around_an_archive(path: Path) -> None:
    path.mkdir()
    write_archive(path / "inner", 1)


def remove_parent(path: Path) -> None:
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
        gone.rmdir() if gone.is_dir() else gone.unlink()
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


def test_head_one_behind_is_rolled_forward(tmp_path: Path) -> None:
    """A commit that HEAD does not name yet counts for a reader, and the writer's recovery makes HEAD name it."""
    for count in (1, 2, 5):
        path = tmp_path / str(count)
        log = write_archive(path, count)
        if count == 1:
            log.folder.head_path.unlink()
        else:
            set_head(path, count - 1)
        before = list_tree(path)
        reader = CommitLog.open(path)
        assert reader.head == log.head
        assert len(list(reader.read_commits())) == count
        assert verify_chain(path).faults == ()
        assert list_tree(path) == before
        assert reader.recover() == ()
        assert msgspec.json.decode(log.folder.head_path.read_bytes(), type=Head) == log.head


def make_head_two_behind(path: Path) -> None:
    set_head(path, 3)


def remove_head(path: Path) -> None:
    (path / "HEAD").unlink()


def make_head_ahead(path: Path) -> None:
    (path / "commits/000000000005.json").unlink()


def make_head_name_another(path: Path) -> None:
    (path / "HEAD").write_bytes(msgspec.json.encode(Head(5, "0" * 64)))


def empty_head(path: Path) -> None:
    (path / "HEAD").write_bytes(b"")


def make_head_zero(path: Path) -> None:
    (path / "HEAD").write_bytes(msgspec.json.encode(Head(0, "0" * 64)))


def change_newest(path: Path) -> None:
    file = path / "commits/000000000005.json"
    file.write_bytes(file.read_bytes().replace(b'"run 5"', b'"run X"'))


def tear_newest(path: Path) -> None:
    file = path / "commits/000000000005.json"
    file.write_bytes(file.read_bytes()[:40])


def add_foreign_commit(path: Path) -> None:
    shutil.copy(path / "commits/000000000005.json", path / "commits/000000000006.json")


def add_commit_of_another_chain(path: Path) -> None:
    file = path / "commits/000000000005.json"
    data = file.read_bytes().replace(b'"sequence":5', b'"sequence":6')
    (path / "commits/000000000006.json").write_bytes(data)


def leave_a_hole_after_head(path: Path) -> None:
    shutil.copy(path / "commits/000000000005.json", path / "commits/000000000007.json")


def link_newest(path: Path) -> None:
    file = path / "commits/000000000005.json"
    file.rename(path.parent / "elsewhere")
    file.symlink_to(path.parent / "elsewhere")


def link_head(path: Path) -> None:
    (path / "HEAD").rename(path.parent / "elsewhere")
    (path / "HEAD").symlink_to(path.parent / "elsewhere")


def link_header(path: Path) -> None:
    (path / "archive.json").rename(path.parent / "elsewhere")
    (path / "archive.json").symlink_to(path.parent / "elsewhere")


def link_commits(path: Path) -> None:
    (path / "commits").rename(path.parent / "elsewhere")
    (path / "commits").symlink_to(path.parent / "elsewhere")


def link_events(path: Path) -> None:
    (path / "events").rename(path.parent / "elsewhere")
    (path / "events").symlink_to(path.parent / "elsewhere")


def link_work(path: Path) -> None:
    (path / "work").symlink_to(path.parent)


def make_newest_a_pipe(path: Path) -> None:
    (path / "commits/000000000005.json").unlink()
    os.mkfifo(path / "commits/000000000005.json")


DAMAGES = [
    (make_head_two_behind, "HEAD names commit 3, but there is a commit 5"),
    (remove_head, "HEAD does not exist, but there is a commit 2"),
    (make_head_ahead, "HEAD names commit 5, which does not exist"),
    (make_head_name_another, "commit 5 is not the one that .*HEAD names"),
    (empty_head, "HEAD is damaged"),
    (make_head_zero, "HEAD names no commit"),
    (change_newest, "commit 5 is not the one that .*HEAD names"),
    (tear_newest, r"000000000005\.json is damaged"),
    (add_foreign_commit, r"000000000006\.json holds commit 5"),
    (add_commit_of_another_chain, r"000000000006\.json does not follow"),
    (leave_a_hole_after_head, "HEAD names commit 5, but there is a commit 7"),
    (link_newest, r"000000000005\.json is not a file but a link"),
    (link_head, "HEAD is not a file but a link"),
    (link_header, r"archive\.json is not a file but a link"),
    (link_commits, "commits is a link"),
    (link_events, "events is a link"),
    (link_work, "work is a link"),
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
