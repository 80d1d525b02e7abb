from pathlib import Path

import pytest

from ociaudit.cli import script_commands
from ociaudit.cli.app import register_commands, run_guarded
from ociaudit.cli.export_command import describe_gaps
from ociaudit.cli.progress import LineProgress
from ociaudit.cli.script_commands import LOGSTREAMER, STREAMER, run_script
from ociaudit.errors import ConfigError, CorruptRun, DiskError, OciAuditError, UsageError
from ociaudit.planning.shard import Gap, Target
from ociaudit.planning.window import Window

APP = register_commands()
ARGUMENTS = ["--startdate", "2024-01-01", "--enddate", "2024-01-31", "--profilename", "P", "--eventfilter", "x"]


def run(*arguments: str) -> int:
    """Run a command line in this process."""
    return run_guarded(lambda: APP(list(arguments), prog_name="oci-audit", standalone_mode=False))


def make_gap(number: int, reason: str) -> Gap:
    """A denied compartment of its own."""
    return Gap(
        Target("us-ashburn-1", f"ocid1.compartment.oc1..{number}"), Window(0, 1), "denied", reason, f"r-{number}"
    )


def test_the_bare_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command there is the list of commands, a line each, as a usage error and with nothing on stdout."""
    assert run() == 2
    printed = capsys.readouterr()
    commands = [line.split()[0] for line in printed.err.split("Commands:")[1].splitlines() if line.strip()]
    assert commands == [
        *("export", "doctor", "verify", "diff", "presets", "convert"),
        *("summary", "query", "report", "demo", "emulator"),
    ]
    assert "..." not in printed.err.split("Commands:")[1]
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [["export"], ["verify"], ["diff", "a"], ["demo", "--days", "0"]])
def test_a_wrong_call_names_the_help_of_its_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The hint leads to the command that was meant, not to the list of all."""
    assert run(*arguments) == 2
    assert f"hint: see `oci-audit {arguments[0]} --help`\n" in capsys.readouterr().err


def test_the_help_says_what_each_option_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Options take a TIME or a FILE, and not a type of Python."""
    assert run("export", "--help") == 0
    text = capsys.readouterr().out
    assert "--start TIME" in text
    assert "--compartment OCID" in text
    assert "<str>" not in text
    assert "list[" not in text


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ConfigError("x", hint="or name another with --config-file"), "or name another with --ociconfig"),
        (ConfigError("x", hint="name one of these with --profile"), "name one of these with --profilename"),
        (DiskError("x"), "make room or choose another place with --outputfile, then run the same command again"),
        (UsageError("x"), "see `{name} --help`"),
        (CorruptRun("x"), "remove the folder a.json.run and run the same command again, which begins anew"),
        (
            ConfigError("x", hint="oci session authenticate --profile-name P"),
            "oci session authenticate --profile-name P",
        ),
    ],
)
@pytest.mark.parametrize("script", [STREAMER, LOGSTREAMER], ids=lambda script: script.name)
def test_the_hints_of_a_script_name_its_own_options(script, error: OciAuditError, hint: str, monkeypatch) -> None:
    """What `export` calls otherwise, or what a script lacks, is said in the script's words."""

    def fail(*_: object) -> int:
        raise type(error)(str(error), hint=error.hint)  # a new one: the hint of the old one would be changed

    monkeypatch.setattr(script_commands, "_export", fail)
    with pytest.raises(type(error)) as raised:
        run_script(script, [*ARGUMENTS, "--outputfile", str(Path("a.json"))])
    assert raised.value.hint == hint.format(name=script.name)


def test_a_denial_is_answered_with_a_policy_and_a_waiver() -> None:
    """A forbidden compartment needs a policy, or is meant to be; only a command with the option speaks of it."""
    denied = [make_gap(1, "404 NotAuthorizedOrNotFound")]
    policy = "Allow dynamic-group <group> to read audit-events in tenancy"
    assert any("--waive OCID" in line for line in describe_gaps(denied, policy=policy, can_waive=True))
    assert not any("--waive" in line for line in describe_gaps(denied, policy=policy))
    assert any(policy in line for line in describe_gaps(denied, policy=policy))


def test_a_region_that_is_not_subscribed_needs_no_policy() -> None:
    """A 401 of one region is explained, and nobody is sent to ask for a policy."""
    lines = list(describe_gaps([make_gap(1, "401 NotAuthenticated: no")], policy="", can_waive=True))
    assert any("not subscribed" in line for line in lines)
    assert not any("read audit-events" in line for line in lines)


def test_gaps_beyond_a_screenful_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """While a run works the first forty gaps are printed, then one line says that the rest is counted."""
    progress = LineProgress(monotonic=lambda: 0.0)
    for number in range(100):
        progress.on_gap(make_gap(number, "503"))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 41
    assert "only counted" in printed[-1]
    assert "100 gaps" in progress.describe()


def test_a_relative_range_is_resumed_by_name() -> None:
    """`7d` means another range tomorrow, so the hint names the option that goes on with this one."""
    assert any("with --resume" in line for line in describe_gaps([make_gap(1, "503")], policy="", is_relative=True))
    assert not any("--resume" in line for line in describe_gaps([make_gap(1, "503")], policy=""))
