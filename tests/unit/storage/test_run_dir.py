import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.planning.window import Window
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
    """What was written is read back, from a private file."""
    folder = RunDirectory(tmp_path)
    assert folder.read_plan() is None
    folder.write_plan(PLAN)
    assert folder.read_plan() == PLAN
    assert folder.plan_path.stat().st_mode & 0o777 == 0o600


@given(st.integers(0, 800), st.integers(1, 255))
def test_a_changed_plan_is_noticed(target: int, change: int) -> None:
    """A changed byte is an error, or changes nothing of what was planned but the window, which may grow."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunDirectory(Path(name))
        folder.write_plan(PLAN)
        data = bytearray(folder.plan_path.read_bytes())
        data[target % len(data)] ^= change
        folder.plan_path.write_bytes(data)
        try:
            found = folder.read_plan()
        except CorruptRun:
            return
        assert found is not None
        assert msgspec.structs.replace(found, window=PLAN.window) == PLAN


def test_a_plan_is_known_by_everything_but_its_window() -> None:
    """The id stays when the window grows, and only then."""
    assert identify_plan(msgspec.structs.replace(PLAN, window=Window(0, 99))) == PLAN.id
    for change in ({"tenancy": "x"}, {"targets": (HERE,)}, {"may_replace": True}, {"started_at": "x"}):
        assert identify_plan(msgspec.structs.replace(PLAN, **change)) != PLAN.id


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_what_is_no_plan_is_corrupt(tmp_path: Path, data: bytes) -> None:
    """Other bytes end as exit 6 that names the file."""
    (tmp_path / "plan.json").write_bytes(data)
    with pytest.raises(CorruptRun, match=r"plan\.json is not a plan"):
        RunDirectory(tmp_path).read_plan()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(msgspec.json.encode(msgspec.structs.replace(PLAN, schema="oci-audit-plan/3")), id="later"),
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
        CorruptRun, match=r"has the format 'oci-audit-plan/[13]'; .* reads 'oci-audit-plan/2'"
    ) as caught:
        RunDirectory(tmp_path).read_plan()
    assert caught.value.exit_code == 6
    assert "--restart" in caught.value.hint


def test_a_discarded_run_is_none(tmp_path: Path) -> None:
    """Nothing that counts is left, and discarding again is no failure."""
    folder = RunDirectory(tmp_path)
    folder.write_plan(PLAN)
    folder.journal_path.touch()
    folder.discard()
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    """A run's folder is removed in the end, so one in which something else stands is left alone."""
    folder = RunDirectory(tmp_path / "audit.json.run")
    folder.check_ours()
    folder.path.mkdir()
    for name in ("lock", "journal.ndjson", "events.log", "order-00001.part", ".plan.json.partial"):
        (folder.path / name).touch()
    folder.check_ours()
    (folder.path / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        folder.check_ours()


def test_any_changed_digit_of_a_plan_is_noticed(tmp_path: Path) -> None:
    """A plan whose window or places were edited is damaged, not another plan."""
    folder = RunDirectory(tmp_path)
    folder.write_plan(PLAN)
    whole = folder.plan_path.read_text()
    digits = [target for target, character in enumerate(whole) if character.isdigit()]
    for target in digits:
        folder.plan_path.write_text(whole[:target] + str(9 - int(whole[target])) + whole[target + 1 :])
        with pytest.raises(CorruptRun):
            folder.read_plan()
