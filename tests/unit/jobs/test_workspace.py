from pathlib import Path

import msgspec
import pytest

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.jobs.workspace import open_workspace
from ociaudit.plan.window import Window
from ociaudit.store.run_folder import ExportArguments, RunPlan, identify_plan

_UNNAMED = RunPlan(
    arguments=ExportArguments(start="a", end="b", profile="c"),
    tenancy="t",
    window=Window(0, 1),
    places=(),
    listed_compartments=None,
    started_at="x",
)
PLAN = msgspec.structs.replace(_UNNAMED, id=identify_plan(_UNNAMED))


def list_names(folder: Path) -> list[str]:
    """Return what stands in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_run_that_has_not_begun_leaves_nothing(tmp_path: Path) -> None:
    """Without a plan the directory goes again, whatever ended the attempt."""
    with pytest.raises(KeyError), open_workspace(tmp_path / "a.json", manifest=None) as workspace:  # noqa: PT012 - the body fails
        assert workspace.plan is None
        raise KeyError
    assert list_names(tmp_path) == []


def test_a_run_that_has_begun_stays(tmp_path: Path) -> None:
    """With a plan the directory stays and is found again."""
    with open_workspace(tmp_path / "a.json", manifest=None) as workspace:
        workspace.folder.write_plan(PLAN)
    with open_workspace(tmp_path / "a.json", manifest=None) as workspace:
        assert workspace.plan == PLAN
        assert workspace.left.run == PLAN.arguments
    with open_workspace(tmp_path / "a.json", manifest=None) as workspace:
        assert workspace.begin_anew().plan is None
    assert list_names(tmp_path) == []


def test_whoever_is_refused_takes_nothing_away(tmp_path: Path) -> None:
    """A second process on one output, while the first has no plan yet, leaves its directory alone."""
    with open_workspace(tmp_path / "a.json", manifest=None) as first:
        for may_discard in (False, True):
            with (
                pytest.raises(UsageError, match="another oci-audit"),
                open_workspace(tmp_path / "a.json", manifest=None, may_discard=may_discard),
            ):
                pytest.fail("two work on one output")
        first.folder.write_plan(PLAN)
    assert list_names(tmp_path) == ["a.json.run"]


def test_a_foreign_folder_of_that_name_is_left_alone(tmp_path: Path) -> None:
    """It is neither used, nor changed, nor removed."""
    folder = tmp_path / "a.json.run"
    folder.mkdir(mode=0o755)
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="not of oci-audit"), open_workspace(tmp_path / "a.json", manifest=None):
        pytest.fail("it works in a foreign folder")
    assert list_names(folder) == ["thesis.txt"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_damaged_plan_is_an_error_and_can_be_discarded(tmp_path: Path) -> None:
    """It is not guessed at; with `--restart` it counts as none and can be thrown away."""
    folder = tmp_path / "a.json.run"
    folder.mkdir()
    (folder / "plan.json").write_bytes(b"{")
    with pytest.raises(CorruptRun), open_workspace(tmp_path / "a.json", manifest=None):
        pytest.fail("a damaged plan was read")
    assert (folder / "plan.json").exists()
    with open_workspace(tmp_path / "a.json", manifest=None, may_discard=True) as workspace:
        assert workspace.plan is None
        workspace.begin_anew()
    assert list_names(tmp_path) == []


def test_without_an_output_everything_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run to stdout works in a private temporary folder that is removed."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_workspace(None, manifest=None) as workspace:
        assert workspace.folder.path.stat().st_mode & 0o777 == 0o700
        workspace.folder.write_plan(PLAN)
    assert list_names(tmp_path) == []


def test_an_output_folder_must_exist(tmp_path: Path) -> None:
    """A usage error with the command to type, for the output as for the manifest."""
    for output, manifest in ((tmp_path / "no" / "a", None), (tmp_path / "a", tmp_path / "no" / "m")):
        with pytest.raises(UsageError) as caught, open_workspace(output, manifest=manifest):
            pytest.fail("there is no such folder")
        assert f"mkdir -p {tmp_path}/no" in caught.value.hint
