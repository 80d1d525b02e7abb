from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.operations.resume import (
    Action,
    PreviousRun,
    ResumeOptions,
    choose_action,
    describe_difference,
    is_run_spent,
    open_workspace,
)
from ociaudit.planning.shard import Window
from ociaudit.storage.run_dir import ExportArguments, RunPlan, identify_plan

FIXED = ExportArguments(start="2025-12-01", end="2025-12-07", profile="DEFAULT")
RELATIVE = replace(FIXED, start="7d", end="now")
OTHER = replace(FIXED, regions=("uk-london-1",))
WINDOW = Window(0, 60)
NOTHING = PreviousRun()
PLAIN = ResumeOptions()


def choose(arguments: ExportArguments, left: PreviousRun, **options: bool) -> Action | str:
    """Return what is done, or the words of the refusal."""
    try:
        return choose_action(arguments, left, ResumeOptions(**options), output="audit.json", window=WINDOW)
    except UsageError as error:
        return f"{error} | {error.hint}"


def left_run(run: ExportArguments = FIXED, **facts: object) -> PreviousRun:
    """A run directory, and perhaps more."""
    return PreviousRun(run=run, run_window=WINDOW, finished_window=WINDOW, **facts)


def left_output(finished: ExportArguments | None = FIXED, **facts: object) -> PreviousRun:
    """An output without a run directory, with its manifest unless that is None."""
    return PreviousRun(output_exists=True, finished=finished, finished_window=WINDOW, **facts)


@pytest.mark.parametrize(
    ("arguments", "left", "options", "expected"),
    [
        pytest.param(FIXED, NOTHING, {}, Action.BEGIN, id="nothing-there"),
        pytest.param(FIXED, NOTHING, {"restart": True}, Action.BEGIN, id="nothing-to-restart"),
        pytest.param(FIXED, NOTHING, {"resume": True}, "no run to resume", id="nothing-to-resume"),
        pytest.param(FIXED, left_run(), {}, Action.RESUME, id="same-arguments-resume"),
        pytest.param(FIXED, left_run(), {"resume": True}, Action.RESUME, id="same-arguments-told-to-resume"),
        pytest.param(RELATIVE, left_run(RELATIVE), {}, f"{WINDOW} was left unfinished", id="relative-asks"),
        pytest.param(RELATIVE, left_run(RELATIVE), {"resume": True}, Action.RESUME, id="relative-resume"),
        pytest.param(RELATIVE, left_run(RELATIVE), {"is_script": True}, Action.RESUME, id="relative-script"),
        pytest.param(OTHER, left_run(), {}, "regions was (all), is uk-london-1", id="other-arguments"),
        pytest.param(OTHER, left_run(), {"overwrite": True}, "was left unfinished", id="other-arguments-overwrite"),
        pytest.param(OTHER, left_run(), {"resume": True}, "was left unfinished", id="other-arguments-resume"),
        pytest.param(OTHER, left_run(), {"is_script": True}, Action.BEGIN, id="other-arguments-script"),
        pytest.param(FIXED, left_output(is_complete=True), {}, Action.NOTHING, id="already-complete"),
        pytest.param(FIXED, left_output(is_complete=True), {"overwrite": True}, Action.BEGIN, id="complete-overwrite"),
        pytest.param(FIXED, left_output(is_complete=True), {"is_script": True}, Action.BEGIN, id="complete-script"),
        pytest.param(RELATIVE, left_output(RELATIVE, is_complete=True), {}, "meant another range", id="relative-done"),
        pytest.param(OTHER, left_output(is_complete=True), {}, "written with other arguments", id="complete-of-other"),
        pytest.param(FIXED, left_output(None), {}, "audit.json exists | choose another -o", id="foreign-output"),
        pytest.param(FIXED, left_output(None), {"restart": True}, "audit.json exists", id="foreign-output-restart"),
        pytest.param(FIXED, left_output(None), {"overwrite": True}, Action.BEGIN, id="foreign-output-overwrite"),
        pytest.param(FIXED, left_output(), {}, "its run directory is gone", id="incomplete-without-run"),
        pytest.param(FIXED, left_output(), {"restart": True}, Action.BEGIN, id="incomplete-restart"),
        pytest.param(
            OTHER,
            left_run(output_exists=True, output_is_ours=True, finished=FIXED),
            {"restart": True},
            Action.BEGIN,
            id="other-arguments-restart-discards-the-incomplete-output-of-the-run",
        ),
        pytest.param(
            OTHER,
            left_run(output_exists=True, output_is_ours=True, finished=FIXED, is_complete=True),
            {"restart": True},
            "replace it with --overwrite",
            id="other-arguments-restart-keeps-a-complete-output",
        ),
        pytest.param(
            FIXED,
            left_run(output_exists=True, output_is_ours=True, finished=FIXED),
            {},
            Action.RESUME,
            id="own-incomplete-output-is-replaced",
        ),
        pytest.param(
            FIXED,
            left_run(output_exists=True, output_is_ours=True, finished=FIXED, is_complete=True),
            {},
            Action.CLEAN_UP,
            id="killed-between-publishing-and-cleaning-up",
        ),
        pytest.param(
            RELATIVE,
            left_run(RELATIVE, output_exists=True, output_is_ours=True, finished=RELATIVE, is_complete=True),
            {},
            "meant another range",
            id="killed-before-cleaning-up-relative",
        ),
        pytest.param(
            FIXED,
            left_run(output_exists=True, output_is_ours=True, finished=FIXED, is_complete=True, is_provisional=True),
            {},
            Action.RESUME,
            id="provisional-is-asked-again",
        ),
        pytest.param(
            FIXED,
            left_run(output_exists=True, output_is_ours=False, finished=FIXED, is_complete=True),
            {},
            "appeared while the run was interrupted",
            id="another-file-in-the-place-of-ours",
        ),
        pytest.param(FIXED, left_run(output_exists=True), {}, "appeared while", id="output-appeared"),
        pytest.param(FIXED, left_run(output_exists=True), {"overwrite": True}, Action.RESUME, id="appeared-overwrite"),
        pytest.param(
            FIXED, left_run(output_exists=True, may_replace=True), {}, Action.RESUME, id="resume-of-an-overwriting-run"
        ),
    ],
)
def test_what_is_done_about_leftovers(
    arguments: ExportArguments, left: PreviousRun, options: dict[str, bool], expected: Action | str
) -> None:
    """Each row of the table "when a command is run again"."""
    found = choose(arguments, left, **options)
    assert found is expected if isinstance(expected, Action) else expected in str(found)


def list_leftovers() -> list[PreviousRun]:
    """Every combination of facts."""
    flags = ("output_exists", "may_replace", "output_is_ours", "is_complete", "is_provisional")
    runs = (None, FIXED, RELATIVE, OTHER)
    return [
        PreviousRun(
            run=run,
            finished=finished,
            run_window=WINDOW,
            finished_window=WINDOW,
            **dict(zip(flags, values, strict=True)),
        )
        for run in runs
        for finished in runs
        for values in itertools.product([False, True], repeat=len(flags))
        if values[0] or not values[2]  # an output that is ours exists
    ]


@pytest.mark.parametrize("arguments", [FIXED, RELATIVE])
def test_nothing_foreign_is_replaced_without_being_told_to(arguments: ExportArguments) -> None:
    """Whatever stands there, an existing output is written over only if it is this request's own or by option."""
    for left in list_leftovers():
        action = choose(arguments, left)
        if left.output_exists and action in {Action.BEGIN, Action.RESUME}:
            assert left.run == arguments
            assert left.output_is_ours or left.may_replace


@pytest.mark.parametrize("arguments", [FIXED, RELATIVE])
def test_a_run_that_can_be_continued_is_not_thrown_away(arguments: ExportArguments) -> None:
    """No combination of facts begins anew over a run, unless it is a script's own way."""
    for left in list_leftovers():
        for overwrite in (False, True):
            if left.run is not None and not is_run_spent(arguments, left, ResumeOptions(overwrite=overwrite)):
                assert choose(arguments, left, overwrite=overwrite) is not Action.BEGIN


def test_a_run_is_spent_only_when_its_output_stands_complete() -> None:
    """Nothing that could still be asked for, or finished by name, counts as spent."""
    spent = [left for left in list_leftovers() if is_run_spent(RELATIVE, left, PLAIN)]
    assert spent
    for left in spent:
        assert left.run == left.finished == RELATIVE
        assert left.output_is_ours
        assert left.is_complete
        assert choose(RELATIVE, left, resume=True) is Action.CLEAN_UP
        assert not is_run_spent(RELATIVE, left, ResumeOptions(resume=True))
    assert not any(is_run_spent(FIXED, left, PLAIN) for left in list_leftovers())


def test_a_script_is_never_asked_anything() -> None:
    """The documented scripts have no options for leftovers, so nothing that is left stops them."""
    for left in list_leftovers():
        for arguments in (FIXED, RELATIVE):
            assert isinstance(choose(arguments, left, is_script=True), Action)


def test_a_difference_names_what_differs_and_nothing_else() -> None:
    """Both values of each argument that differs."""
    now = replace(FIXED, end="2025-12-08", event_types=("a", "b"), is_subtree=False)
    assert describe_difference(FIXED, now) == (
        "end was 2025-12-07, is 2025-12-08; is_subtree was True, is False; event_types was (all), is a, b"
    )
    assert describe_difference(FIXED, FIXED) == ""


_UNNAMED = RunPlan(
    arguments=ExportArguments(start="a", end="b", profile="c"),
    tenancy="t",
    window=Window(0, 1),
    targets=(),
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
        assert workspace.previous.run == PLAN.arguments
    with open_workspace(tmp_path / "a.json", manifest=None) as workspace:
        assert workspace.discard_previous().plan is None
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
    with (
        pytest.raises(UsageError, match="contains files"),
        open_workspace(tmp_path / "a.json", manifest=None),
    ):
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
        workspace.discard_previous()
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


@pytest.mark.parametrize("arguments", [FIXED, OTHER, RELATIVE, replace(RELATIVE, start="1d")])
def test_the_restart_that_a_hint_names_really_restarts(arguments: ExportArguments) -> None:
    """Wherever a hint offers to discard the run, exactly the options it names begin a new one."""
    facts = itertools.product([FIXED, RELATIVE], *[[False, True]] * 4)
    offered = 0
    for run, output_exists, is_ours, is_complete, may_replace in facts:
        if is_ours and not output_exists:
            continue
        left = left_run(
            run,
            output_exists=output_exists,
            output_is_ours=is_ours,
            is_complete=is_complete,
            may_replace=may_replace,
            finished=run if is_ours else None,
        )
        said = choose(arguments, left)
        if isinstance(said, str) and "--restart" in said:
            offered += 1
            assert choose(arguments, left, restart=True, overwrite="--restart --overwrite" in said) is Action.BEGIN
            if "--restart --overwrite" in said:
                assert choose(arguments, left, restart=True) is not Action.BEGIN
    assert offered
