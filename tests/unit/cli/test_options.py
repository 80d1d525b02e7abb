from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ociaudit.cli.options import FILTER_OPTIONS, Filter, FilterCommand, read_waivers, take_filter
from ociaudit.errors import UsageError
from ociaudit.events.filters import Criteria, FilterSpec
from support.drawn_shards import make_event


def run(*arguments: str) -> tuple[FilterSpec | None, str]:
    """Run a command that takes a filter; return the filter, and what was printed."""
    taken: list[FilterSpec] = []

    @take_filter
    def command(name: str, *, wanted: Filter, quiet: bool = False) -> int:
        taken.append(wanted)
        return 0

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(cls=FilterCommand)(command)
    result = CliRunner().invoke(app, ["name", *arguments])
    return (taken[0] if taken else None), result.output


def test_without_options_there_is_no_filter() -> None:
    """A command that got no filter gets an empty one."""
    assert run()[0] == FilterSpec()


def test_every_option_fills_its_field() -> None:
    """Each option, typed twice where that means something, ends in the field it is named for, and in no other."""
    for option in FILTER_OPTIONS:
        typed = ["a", "b"] if option.is_repeatable else ["a"]
        spec, output = run(*(part for value in typed for part in (option.name, value)))
        value = tuple(typed) if option.is_repeatable else "a"
        expected = (
            FilterSpec(exclude=Criteria(**{option.field: value}))
            if option.is_exclusion
            else FilterSpec(**{option.field: value})
        )
        assert spec == expected, output


def test_every_field_has_an_option() -> None:
    """What a filter can say can be typed, and left out."""
    wanted = {option.field for option in FILTER_OPTIONS if not option.is_exclusion}
    unwanted = {option.field for option in FILTER_OPTIONS if option.is_exclusion}
    assert wanted == set(FilterSpec.__struct_fields__) - {"exclude"}
    assert unwanted == set(Criteria.__struct_fields__)


@pytest.mark.parametrize("option", ["--event-after", "--principal"])
def test_an_empty_value_is_not_overlooked(option: str) -> None:
    """What a shell made of an unset variable is passed on, to be refused."""
    assert run(option, "")[0] != FilterSpec()


def test_the_help_has_the_filters_below_the_other_options() -> None:
    """The filters have a section of their own, with the rules in a line and every option."""
    _, output = run("--help")
    options, filters = output.split("Filters:")
    assert "--quiet" in options
    assert "must all be met" in " ".join(filters.split())
    assert all(option.name in filters and option.name not in options for option in FILTER_OPTIONS)


def test_the_made_events_are_read_by_a_filter_of_the_command_line() -> None:
    """A filter from the command line is one that the events' side can use."""
    from ociaudit.events.filters import EventFilter

    spec, _ = run("--event-name", "made")
    assert spec is not None
    assert EventFilter(spec).is_wanted(make_event(1).raw)
    assert json.loads(make_event(1).raw)["data"]["eventName"] == "Made"


A, B = "ocid1.compartment.oc1..aaaa", "ocid1.compartment.oc1..bbbb"


def test_waivers_come_from_arguments_and_files(tmp_path: Path) -> None:
    """OCIDs as they are, and the lines of files without comments, empty lines and white space."""
    path = tmp_path / "waived"
    path.write_text(f"# known\n\n  {B}  # the vault\r\n\n#\n")
    assert read_waivers([A, str(path)]) == (A, B)
    assert read_waivers([]) == ()


@pytest.mark.parametrize("content", [b"\xff", b"not an ocid\n", f"{A} {B}\n".encode(), b"ocid1.user.oc1..aaaa\n"])
def test_a_line_that_is_no_ocid_is_refused(tmp_path: Path, content: bytes) -> None:
    """A waiver that waives nothing would be missed in silence."""
    path = tmp_path / "waived"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_waivers([str(path)])


@pytest.mark.parametrize("argument", ["nothing", ".", "", "ocid1.", "ocid1.user.oc1..aaaa"])
def test_what_is_neither_ocid_nor_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    """A misspelt name of a file, a folder, or an OCID of another kind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        read_waivers([argument])
