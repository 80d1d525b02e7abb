from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.cli import options
from ociaudit.cli.console import wrap_text
from ociaudit.cli.export_command import read_waivers
from ociaudit.cli.options import FILTER_OPTIONS, Command, argument, filter_options, option
from ociaudit.client.signer import AUTH_KINDS
from ociaudit.errors import UsageError
from ociaudit.events.field_naming import Shape
from ociaudit.events.filters import Criteria, FilterSpec
from ociaudit.formats.compression import COMPRESSION_NAMES
from ociaudit.formats.registry import FORMAT_NAMES
from support.drawn_shards import make_event


def run(*arguments: str) -> tuple[FilterSpec | None, str]:
    """Run a command that has filter options; return the filter, and what was printed."""
    received: list[FilterSpec] = []

    @click.command(cls=Command)
    @argument("name")
    @filter_options
    @option("--quiet", is_flag=True)
    def command(name: str, *, wanted: FilterSpec, quiet: bool) -> None:
        received.append(wanted)

    result = CliRunner().invoke(command, ["name", *arguments])
    return (received[0] if received else None), result.output


def show_help(command: click.Command) -> str:
    """Return the help of a command."""
    return CliRunner().invoke(command, ["--help"]).output


def test_without_options_there_is_no_filter() -> None:
    """Without filter options a command gets an empty filter."""
    assert run()[0] == FilterSpec()


def test_every_option_fills_its_field() -> None:
    """Each option, repeated where it is repeatable, fills the field that it is named for, and no other."""
    for one in FILTER_OPTIONS:
        typed = ["a", "b"] if one.is_repeatable else ["a"]
        spec, output = run(*(part for value in typed for part in (one.name, value)))
        value = tuple(typed) if one.is_repeatable else "a"
        expected = (
            FilterSpec(exclude=Criteria(**{one.field: value})) if one.is_exclusion else FilterSpec(**{one.field: value})
        )
        assert spec == expected, output


def test_every_field_has_an_option() -> None:
    """Every condition of a filter has an option, and an option that excludes it."""
    wanted = {one.field for one in FILTER_OPTIONS if not one.is_exclusion}
    unwanted = {one.field for one in FILTER_OPTIONS if one.is_exclusion}
    assert wanted == set(FilterSpec.__struct_fields__) - {"exclude"}
    assert unwanted == set(Criteria.__struct_fields__)


@pytest.mark.parametrize("name", ["--event-after", "--principal"])
def test_an_empty_value_is_not_ignored(name: str) -> None:
    """An empty value, as from an unset shell variable, is passed on and not ignored."""
    assert run(name, "")[0] != FilterSpec()


def test_help_has_the_filters_in_a_section() -> None:
    """The filters have a section with the rules for combining them and every option; others are in their own."""
    _, output = run("--help")
    filters, others = output.split("Filters:")[1].split("Options:")
    assert "--quiet" in others
    assert "combined with OR" in " ".join(filters.split())
    assert all(one.name in filters and one.name not in others for one in FILTER_OPTIONS)


def test_help_shows_sections_in_order_and_examples_last() -> None:
    """Sections come in the order of declaration, general options in the last one, and examples at the end."""

    @click.command(cls=Command, examples=(("Do it", "tool --common"), ("Do it again", "tool --rare 3")))
    @argument("name", metavar="NAME", help="What to do it to.")
    @option("--common", section="Common", is_flag=True)
    @option("--rare", section="Rare", type=int, default=2, metavar="COUNT", help="How often.")
    def command(**_: object) -> None:
        """Do something.

        At length.
        """

    lines = show_help(command).splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "Common:", "Rare:", "Behavior:", "Examples:"]
    assert lines[0] == "Usage: command [OPTIONS] NAME"
    assert lines[2:5] == ["Do something.", "", "At length."]
    assert "  --rare COUNT  How often. [default: 2]" in lines
    assert lines[-5:] == ["  # Do it", "  tool --common", "", "  # Do it again", "  tool --rare 3"]


def test_an_alias_is_accepted_and_not_shown() -> None:
    """A former name of an option still works, and help shows only the current one."""
    received: list[str] = []

    @click.command(cls=Command)
    @option("--new", "value", aliases=["--old"])
    def command(value: str) -> None:
        received.append(value)

    CliRunner().invoke(command, ["--old", "x"])
    assert received == ["x"]
    assert "--new" in show_help(command)
    assert "--old" not in show_help(command)


@given(st.lists(st.text("abc-./{}", min_size=1, max_size=90)), st.integers(10, 80))
def test_text_is_broken_between_words_only(words: list[str], width: int) -> None:
    """A line is not longer than the width unless it is one word, and no word is broken or lost."""
    lines = wrap_text(" ".join(words), width)
    assert [word for line in lines for word in line.split()] == words
    assert all(len(line) <= width or " " not in line for line in lines)


def test_the_values_that_help_lists_are_those_of_the_program() -> None:
    """Values that are spelled out to keep help quick are the same as where they are defined."""
    assert options.AUTH_KINDS == AUTH_KINDS
    assert options.FORMATS == FORMAT_NAMES
    assert options.COMPRESSIONS == COMPRESSION_NAMES
    assert get_args(Shape) == options.SHAPES


def test_a_filter_of_the_command_line_matches_events() -> None:
    """A filter from the command line matches events."""
    from ociaudit.events.filters import EventFilter

    spec, _ = run("--event-name", "made")
    assert spec is not None
    assert EventFilter(spec).is_wanted(make_event(1).raw)
    assert json.loads(make_event(1).raw)["data"]["eventName"] == "Made"


A, B = "ocid1.compartment.oc1..aaaa", "ocid1.compartment.oc1..bbbb"


def test_waivers_come_from_arguments_and_files(tmp_path: Path) -> None:
    """Waivers are OCIDs and the lines of files, without comments, empty lines and white space."""
    path = tmp_path / "waived"
    path.write_text(f"# known\n\n  {B}  # the vault\r\n\n#\n")
    assert read_waivers([A, str(path)]) == (A, B)
    assert read_waivers([]) == ()


@pytest.mark.parametrize("content", [b"\xff", b"not an ocid\n", f"{A} {B}\n".encode(), b"ocid1.user.oc1..aaaa\n"])
def test_a_line_that_is_not_an_ocid_is_rejected(tmp_path: Path, content: bytes) -> None:
    """A line that is not an OCID and cannot be a name is an error: a waiver that waives nothing would go unnoticed."""
    path = tmp_path / "waived"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_waivers([str(path)])


@pytest.mark.parametrize("argument", ["no thing", ".", "", "a//b", "ocid1.", "ocid1.user.oc1..aaaa"])
def test_what_is_neither_ocid_nor_file_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    """What cannot be a name, a folder, and an OCID of another kind are errors."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        read_waivers([argument])
