import io
import re
import shlex
from pathlib import Path

import click
import pytest

import ociaudit
from ociaudit.api import place_archive
from ociaudit.cli import script_commands
from ociaudit.cli.app import COMMANDS, app, run_command_line
from ociaudit.cli.console import describe_gaps
from ociaudit.cli.options import STORES
from ociaudit.cli.progress import LineProgress
from ociaudit.cli.script_commands import LOGSTREAMER, STREAMER, run_script
from ociaudit.errors import ConfigError, CorruptRun, DiskError, OciAuditError, UsageError
from ociaudit.planning.shard import Gap, Target, Window

ARGUMENTS = ["--startdate", "2024-01-01", "--enddate", "2024-01-31", "--profilename", "P", "--eventfilter", "x"]


def run(*arguments: str) -> int:
    """Run `oci-audit` with these arguments in this process."""
    return run_command_line(arguments)


def make_gap(number: int, reason: str) -> Gap:
    """Return a gap of a denied compartment."""
    return Gap(
        Target("us-ashburn-1", f"ocid1.compartment.oc1..{number}"), Window(0, 1), "denied", reason, f"r-{number}"
    )


def test_the_bare_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help is printed to stderr, with a line per command, as a usage error."""
    assert run() == 2
    printed = capsys.readouterr()
    listed = printed.err.split("Commands:")[1].split("Options:")[0]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == [
        *("export", "sync", "status", "tail", "import", "prune", "doctor", "verify", "diff", "reconcile", "presets"),
        *("convert", "summary", "query", "report", "demo", "emulator", "completion"),
    ]
    assert "..." not in listed
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [["export"], ["verify"], ["diff", "a"], ["demo", "--days", "0"]])
def test_a_wrong_call_names_the_help_of_its_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The hint names the help of the command that was typed, not that of the program."""
    assert run(*arguments) == 2
    assert f"see `oci-audit {arguments[0]} --help`\n" in capsys.readouterr().err


def test_help_shows_what_each_option_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Help shows that options take a TIME or a FILE, and not a type of Python."""
    assert run("export", "--help") == 0
    text = capsys.readouterr().out
    assert "--start TIME" in text
    assert "--compartment NAME|OCID" in text
    assert "<str>" not in text
    assert "list[" not in text


def load(name: str) -> click.Command:
    """Return a command by its name."""
    command = app.get_command(click.Context(app), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", [None, *(name for name in COMMANDS if name != "emulator")])
def test_help_fits_the_screen_and_ends_with_examples(name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """No line of any help is wider than 80 columns, more than six options are in sections, and examples come last."""
    assert run(*([name] if name else []), "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles[-1] == "Examples:"
    options = [one for one in (load(name).params if name else ()) if isinstance(one, click.Option)]
    options = [one for one in options if getattr(one, "section", "") != STORES]  # they always have their own
    assert ("Options:" in titles) is (len(options) <= 6)


def test_export_has_its_sections_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """The sections of `export --help` begin with the most common options."""
    assert run("export", "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        *("Range:", "Scope:", "Output:", "Filters:", "Sign-in:", "Speed:", "Behavior:", "Examples:")
    ]


@pytest.mark.parametrize(
    ("name", "command_line"),
    [(name, line) for name in COMMANDS if name != "emulator" for _, line in load(name).examples],
)
def test_every_example_can_be_parsed(name: str, command_line: str) -> None:
    """The examples of a command's help are command lines that it accepts."""
    program, first, *arguments = shlex.split(command_line.partition(" > ")[0].removeprefix("source <(").rstrip(")"))
    assert (program, first) == ("oci-audit", name)
    load(name).make_context(name, arguments)


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["export", "--regin", "x"], "--region"),
        (["export", "--max-windows-days", "1"], "--max-window-days"),
        (["exprot"], "export"),
        (["sumary", "a.json"], "summary"),
        (["--versoin"], "--version"),
        (["export", "--strat", "7d"], "--start"),
        (["export", "--sicne", "7d"], "--since"),
        (["export", "-start", "7d"], "--start"),
        (["export", "--no-subtre"], "--no-subtree"),
    ],
)
def test_a_typo_suggests_the_nearest(arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelled option or command is a usage error whose hint names the nearest one."""
    assert run(*arguments) == 2
    assert f"hint: did you mean {nearest}? see `oci-audit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "missing", "example"),
    [
        (["export"], "'--start'", "oci-audit export --start 7d -o audit.json"),
        (["export", "--start", "7d"], "'-o' / '--output'", "oci-audit export --start 7d -o audit.json"),
        (["verify"], "'FILE'", "oci-audit verify audit.json"),
        (["report"], "'FILE'", "oci-audit report audit.json -o audit.html"),
        (["convert", "x.json"], "'-o' / '--output'", "oci-audit convert a.json b.json --sort -o merged.json.gz"),
        (["diff", "a"], "'B'", "oci-audit diff "),
    ],
)
def test_what_is_missing_is_shown_by_an_example(
    arguments: list[str], missing: str, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing option or argument is a usage error whose hint is a whole command."""
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert f"missing {'option' if '-' in missing else 'argument'} {missing}" in printed
    assert f"hint: for example: {example}" in printed


def test_an_option_without_its_value_points_to_the_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    """An option at the end of a command line, without its value, is explained by the command's own help."""
    assert run("export", "--start") == 2
    assert "see `oci-audit export --help`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "parameter"), [(("--since", "--from"), "start"), (("--until", "--to"), "end"), (("--last",), "last")]
)
def test_the_range_has_aliases(names: tuple[str, ...], parameter: str) -> None:
    """`--since` and `--from` mean `--start`, `--until` and `--to` mean `--end`."""
    for name in names:
        assert load("export").make_context("export", [name, "2d"]).params[parameter] == "2d"


OUTPUTS = [
    ["export", "--start", "7d", "-o"],
    ["export", "--start", "7d", "-o", "a.json", "--manifest"],
    ["convert", "x.json", "-o"],
    ["report", "x.json", "-o"],
    ["query", "x.json", "SELECT 1", "-o"],
    ["summary", "x.json", "--event-counts"],
]


@pytest.mark.parametrize("arguments", OUTPUTS, ids=lambda arguments: " ".join((arguments[0], arguments[-1])))
@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((one, "is a folder") for one in ("/", ".", "..", "a/..", "missing/", "a/.")),
        ("", "is empty"),
        ("oci:/bucket@namespace/audit.json", "is a URL"),
        ("/dev/stdout", "is an open stream"),
        ("/dev/fd/1", "is an open stream"),
        ("/proc/self/fd/1", "is an open stream"),
        ("/dev/../dev/stderr", "is an open stream"),
    ],
)
def test_an_output_that_is_not_a_file_is_rejected(
    arguments: list[str], name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the command, an output that cannot be a file is a usage error with a hint, before anything is read."""
    assert run(*arguments, name) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "hint: " in printed


@pytest.mark.parametrize("arguments", OUTPUTS, ids=lambda arguments: " ".join((arguments[0], arguments[-1])))
@pytest.mark.parametrize(
    "name", ["ftp://bucket/audit.json", "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/x"]
)
def test_a_url_of_another_kind_is_rejected(arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An output with the URL of another service is a usage error that names those that oci-audit writes to."""
    assert run(*arguments, name) == 2
    printed = capsys.readouterr().err
    assert "is a URL" in printed or "has the scheme" in printed
    assert "oci://bucket@namespace/name" in printed


@pytest.mark.parametrize(
    "arguments", [["prune", "oci://b/arch", "--before", "2024-01-01"], ["import", "oci://b/arch", "a.json"]]
)
def test_an_archive_at_a_url_is_changed_in_its_folder(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The URL is rejected by name; the hint names the folder below `archives/`, and what to type if it is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "o'dd name"))
    folder = place_archive("oci://b/arch", None)[0]
    for command in ("", f"oci-audit {arguments[0]} {shlex.quote(str(folder))} "):
        assert run(*arguments) == 2
        printed = capsys.readouterr().err
        assert "error: oci://b/arch is a URL" in printed
        assert (command or f"archives/ in the work folder, such as {folder}") in printed
        folder.mkdir(parents=True, exist_ok=True)


def test_commands_in_hints_quote_their_paths() -> None:
    """No text of the program puts a path into a command to type without quotes."""
    names = ("mkdir -p", "rm -r", "chmod 600", "ed25519 -f", "-o")
    commands = "|".join([*(f"oci-audit {name}" for name in COMMANDS), *names])
    unquoted = re.compile(rf"(?:{commands}) '?\{{(?!shlex\.quote|output\}}|start\}})")
    package = Path(ociaudit.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if unquoted.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "query", ["select 1", "WITH a AS (SELECT 1) SELECT * FROM a", " (from events)", f"select {300 * '7'}"]
)
def test_a_named_query_excludes_another(query: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A query beside `--named` is not taken for a file."""
    (tmp_path / "a.json").write_bytes(b'[{"eventId":"1"}]')
    assert run("query", str(tmp_path / "a.json"), "--named", "top-events", query) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "7d", "-o", "{foo}.json"], "unknown placeholder {foo}"),
        (["--start", "7d", "-o", "a.json", "--manifest", "{day}.json"], "unknown placeholder {day}"),
        (["--start", "7d", "-o", "{start}/a.json"], "has a placeholder"),
        (["--start", "7d", "-o", "a.json", "--no-subtree"], "--no-subtree has no effect without --compartment"),
        (["--last", "7d", "--start", "8d", "-o", "a.json"], "--last and --start exclude each other"),
        (["--last", "7d", "--until", "now", "-o", "a.json"], "--last and --end exclude each other"),
        (["--last", "week", "-o", "a.json"], "--last takes a duration, not 'week'"),
        (["--last", "2025-12-01", "-o", "a.json"], "the duration '2025-12-01' is not in a known format"),
    ],
)
def test_options_that_cannot_mean_anything_are_rejected(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that would be ignored, or that contradicts another, is a usage error before the sign-in."""
    assert run("export", *arguments) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "hint: " in printed


def test_the_former_name_of_time_basis_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """`--by` means `--time-basis`, and help does not show it."""
    arguments = ["--start", "7d", "-o", "a.json"]
    for name in ("--by", "--time-basis"):
        context = load("export").make_context("export", [*arguments, name, "Event-Time"])
        assert context.params["time_basis"] == "event-time"
    assert run("export", "--help") == 0
    assert "--by" not in capsys.readouterr().out


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize(
    ("stream", "arguments", "variables", "is_colored"),
    [
        (io.StringIO, [], {}, False),
        (Terminal, [], {}, True),
        (Terminal, [], {"NO_COLOR": "1"}, False),
        (Terminal, [], {"NO_COLOR": ""}, True),
        (Terminal, [], {"TERM": "dumb"}, False),
        (Terminal, ["--color", "never"], {}, False),
        (Terminal, ["--color", "auto"], {"NO_COLOR": "1"}, False),
        (Terminal, ["--color", "always"], {"NO_COLOR": "1"}, True),
        (io.StringIO, ["--color", "always"], {}, True),
    ],
)
@pytest.mark.parametrize("command", [[], ["export"]])
def test_color_is_for_terminals(stream, arguments, variables, is_colored, command, monkeypatch) -> None:
    """Help and errors are colored on a terminal without NO_COLOR, and as --color says, before or after a command."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    output, errors = stream(), stream()
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setattr("sys.stderr", errors)
    for before, after in ((arguments, []), ([], arguments)):
        assert run(*before, *command, *after, "--help") == 0
    run(*arguments, "export", "--start", "7d")
    assert output.getvalue().count("\x1b[1mUsage:") == (2 if is_colored else 0)
    assert ("\x1b[" in errors.getvalue()) is is_colored


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ConfigError("x", hint="or name another with --config-file"), "or name another with --ociconfig"),
        (ConfigError("x", hint="name one of these with --profile"), "name one of these with --profilename"),
        (DiskError("x"), "free some space or choose another path with --outputfile, then run the same command again"),
        (UsageError("x"), "see `{name} --help`"),
        (CorruptRun("x"), "remove the folder a.json.run and run the same command again, which starts again"),
        (
            ConfigError("x", hint="oci session authenticate --profile-name P"),
            "oci session authenticate --profile-name P",
        ),
    ],
)
@pytest.mark.parametrize("script", [STREAMER, LOGSTREAMER], ids=lambda script: script.name)
def test_the_hints_of_a_script_name_its_own_options(script, error: OciAuditError, hint: str, monkeypatch) -> None:
    """A hint names the options of the script, not those of `oci-audit export`."""

    def fail(*_: object) -> int:
        raise type(error)(str(error), hint=error.hint)  # a new one: the hint of the old one would be changed

    monkeypatch.setattr(script_commands, "_export", fail)
    with pytest.raises(type(error)) as raised:
        run_script(script, [*ARGUMENTS, "--outputfile", str(Path("a.json"))])
    assert raised.value.hint == hint.format(name=script.name)


def test_a_denial_has_a_policy_and_a_waiver() -> None:
    """The hints for a denial name a policy and, if the command has that option, the waiver."""
    denied = [make_gap(1, "404 NotAuthorizedOrNotFound")]
    policy = "Allow dynamic-group <group> to read audit-events in tenancy"
    assert any("--waive NAME" in line for line in describe_gaps(denied, policy=policy, can_waive=True))
    assert not any("--waive" in line for line in describe_gaps(denied, policy=policy))
    assert any(policy in line for line in describe_gaps(denied, policy=policy))


def test_a_region_that_is_not_subscribed_needs_no_policy() -> None:
    """A 401 of one region is explained, without a policy to ask for."""
    lines = list(describe_gaps([make_gap(1, "401 NotAuthenticated: no")], policy="", can_waive=True))
    assert any("not subscribed" in line for line in lines)
    assert not any("read audit-events" in line for line in lines)


def test_gaps_beyond_a_screenful_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """During a verbose run the first forty gaps are printed, then one line says that the others are only counted."""
    progress = LineProgress(monotonic=lambda: 0.0, verbosity=1)
    for number in range(100):
        progress.on_gap(make_gap(number, "503"))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 41
    assert "only counted" in printed[-1]
    assert "100 gaps" in progress.describe()


def test_a_relative_range_is_resumed_by_name() -> None:
    """`7d` means another range tomorrow, so the hint names the option that continues this one."""
    lines = list(describe_gaps([make_gap(1, "503")], policy="", repetition="with --resume"))
    assert "hint: the same command again with --resume requests only the gaps" in lines
    assert not any("--resume" in line for line in describe_gaps([make_gap(1, "503")], policy=""))
