import json

import pytest
import typer
from typer.testing import CliRunner

from ociaudit.cli.filter_options import FILTER_OPTIONS, Filter, FilterCommand, take_filter
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
