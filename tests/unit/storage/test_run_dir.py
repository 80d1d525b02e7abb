import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.planning.shard import Window
from ociaudit.storage.run_dir import ExportArguments, RunDirectory, RunPlan, identify_plan
from support.drawn_shards import HERE, THERE

_UNNAMED = RunPlan(
    arguments=ExportArguments(start="7d", end="now", profile="DEFAULT", event_types=("a|b",)),
    tenancy=HERE.compartment,
    window=Window(0, 60),
    targets=(HERE, THERE),
    listed_compartments=None,
    started_at="2025-12-01T00:00:00Z",
)
PLAN = msgspec.structs.replace(_UNNAMED, id=identify_plan(_UNNAMED))


def test_a_plan_survives(tmp_path: Path) -> None:
    """What was written is read back, and the file is private."""
    run_directory = RunDirectory(tmp_path)
    assert run_directory.read_plan() is None
    run_directory.write_plan(PLAN)
    assert run_directory.read_plan() == PLAN
    assert run_directory.plan_path.stat().st_mode & 0o777 == 0o600


@given(st.integers(0, 800), st.integers(1, 255))
def test_a_changed_plan_is_noticed(position: int, change: int) -> None:
    """A changed byte is an error, or changes nothing of the plan except the window."""
    with tempfile.TemporaryDirectory() as name:
        run_directory = RunDirectory(Path(name))
        run_directory.write_plan(PLAN)
        data = bytearray(run_directory.plan_path.read_bytes())
        data[position % len(data)] ^= change
        run_directory.plan_path.write_bytes(data)
        try:
            found = run_directory.read_plan()
        except CorruptRun:
            return
        assert found is not None
        assert msgspec.structs.replace(found, window=PLAN.window) == PLAN


def test_a_plan_is_identified_by_everything_but_its_window() -> None:
    """The id stays the same when the window changes, and only then."""
    assert identify_plan(msgspec.structs.replace(PLAN, window=Window(0, 99))) == PLAN.id
    for change in ({"tenancy": "x"}, {"targets": (HERE,)}, {"may_replace": True}, {"started_at": "x"}):
        assert identify_plan(msgspec.structs.replace(PLAN, **change)) != PLAN.id


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_other_bytes_are_a_corrupt_plan(tmp_path: Path, data: bytes) -> None:
    """Bytes that are not a plan are an error that names the file."""
    (tmp_path / "plan.json").write_bytes(data)
    with pytest.raises(CorruptRun, match=r"plan\.json is not a plan"):
        RunDirectory(tmp_path).read_plan()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(msgspec.json.encode(msgspec.structs.replace(PLAN, schema="oci-audit-plan/4")), id="later"),
        pytest.param(
            b'{"schema":"oci-audit-plan/1","id":"x","arguments":{},"tenancy":"x","window":[0,60],'
            b'"places":[{"region":"r","compartment":"c"}],"started_at":"2025-12-01T00:00:00Z","check":""}',
            id="earlier",
        ),
    ],
)
def test_a_plan_of_another_version_is_refused(tmp_path: Path, data: bytes) -> None:
    """A plan in an earlier or later format is refused by its format's name, and the hint names the way out."""
    (tmp_path / "plan.json").write_bytes(data)
    with pytest.raises(
        CorruptRun, match=r"has the format 'oci-audit-plan/[14]'; .* reads 'oci-audit-plan/3'"
    ) as caught:
        RunDirectory(tmp_path).read_plan()
    assert caught.value.exit_code == 6
    assert "--restart" in caught.value.hint


def test_a_discarded_run_leaves_nothing(tmp_path: Path) -> None:
    """No file is left, and discarding again is not an error."""
    run_directory = RunDirectory(tmp_path)
    run_directory.write_plan(PLAN)
    run_directory.journal_path.touch()
    run_directory.discard()
    run_directory.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_foreign_files_is_rejected(tmp_path: Path) -> None:
    """A directory with a file that this program did not write is rejected: a run directory is removed in the end."""
    run_directory = RunDirectory(tmp_path / "audit.json.run")
    run_directory.check_ours()
    run_directory.path.mkdir()
    for name in ("lock", "journal.ndjson", "events.log", "order-00001.part", ".plan.json.partial"):
        (run_directory.path / name).touch()
    run_directory.check_ours()
    (run_directory.path / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        run_directory.check_ours()


def test_any_changed_digit_of_a_plan_is_noticed(tmp_path: Path) -> None:
    """A plan with an edited window or target is damaged, not another plan."""
    run_directory = RunDirectory(tmp_path)
    run_directory.write_plan(PLAN)
    whole = run_directory.plan_path.read_text()
    digits = [position for position, character in enumerate(whole) if character.isdigit()]
    for position in digits:
        run_directory.plan_path.write_text(whole[:position] + str(9 - int(whole[position])) + whole[position + 1 :])
        with pytest.raises(CorruptRun):
            run_directory.read_plan()
