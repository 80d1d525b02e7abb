import os
import signal
import time

import click
import pytest

from ociaudit import errors
from ociaudit.cli.app import check_arguments, run_guarded
from ociaudit.errors import IncompleteExport, Interrupted, OciAuditError, RequestError, ServiceError, UsageError


def raise_it(error: BaseException) -> object:
    """Return work that fails with this error."""

    def work() -> object:
        raise error

    return work


def list_errors() -> list[OciAuditError]:
    """Return one error of every class in the tree, except interruptions."""
    found: list[OciAuditError] = []
    waiting: list[type[OciAuditError]] = [OciAuditError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        needed: dict[type, dict[str, object]] = {
            IncompleteExport: {"gaps": []},
            ServiceError: {"status": 404, "code": "X", "is_oci": True, "request_id": "r-1"},
        }
        if kind is not Interrupted and kind.__module__ == errors.__name__:
            found.append(kind("what failed", **needed.get(kind, {})))
    return found


@pytest.mark.parametrize("error", list_errors(), ids=lambda error: type(error).__name__)
def test_an_error_becomes_its_exit_code(error: OciAuditError, capsys: pytest.CaptureFixture[str]) -> None:
    """Each class ends with its code, a sentence and a hint on stderr, nothing on stdout, and no traceback."""
    assert run_guarded(raise_it(error)) == error.exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    suffix = " (opc-request-id r-1)" if isinstance(error, RequestError) and error.request_id else ""
    assert printed.err == f"error: what failed{suffix}\nhint: {error.hint}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_an_exit_status(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A signal ends the program with 130 or 143, and a hint on how to continue."""
    assert run_guarded(raise_it(Interrupted("interrupted", signal_number=number))) == 128 + number
    assert "hint: run the same command again" in capsys.readouterr().err


def test_sigterm_unwinds_the_stack(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a command does, SIGTERM lets it clean up, and it ends with 143; a handler that was there stays."""
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            cleaned.append(True)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert run_guarded(work) == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert run_guarded(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert cleaned == [True]
    assert "error: interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_early_interruption_is_one_too(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C before the run starts ends with 130 and without a traceback."""
    assert run_guarded(raise_it(error)) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("x"), RecursionError(), MemoryError(), OSError(5, "x"), AssertionError("x")]
)
def test_anything_unexpected_is_a_bug_with_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected exception is exit code 1, with its traceback and how to report it."""
    assert run_guarded(raise_it(error)) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "hint: please report it" in printed


def test_a_bug_prints_no_hostile_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a traceback nor a message sends control characters to the terminal, or lines that look like ours."""
    run_guarded(raise_it(ValueError("\x1b[2J")))
    run_guarded(raise_it(OciAuditError("x\nhint: do something evil\x1b]0;x\x07")))
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert not [line for line in printed.splitlines() if line.startswith("hint: do something evil")]


@pytest.mark.parametrize(("status", "expected"), [(None, 0), (0, 0), (10, 10), ("text", 0)])
def test_what_a_command_returns_is_its_status(status: object, expected: int) -> None:
    """A number that a command returns is the exit status; anything else is success."""
    assert run_guarded(lambda: status) == expected


def test_a_wrong_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the parser ends with 2, in the form of all errors."""
    assert run_guarded(raise_it(click.UsageError("No such option: --x."))) == 2
    assert "error: no such option: --x\n" in capsys.readouterr().err


def test_too_many_arguments_are_not_all_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A pattern that matches hundreds of files, where one is expected, is an error of a few lines."""
    context = click.Context(click.Command("report"))
    names = " ".join(f"{number:03}.json" for number in range(600))
    error = click.UsageError(f"Got unexpected extra arguments ({names})", ctx=context)
    assert run_guarded(raise_it(error)) == UsageError.exit_code
    printed = capsys.readouterr().err
    assert "error: got unexpected extra arguments (000.json 001.json" in printed
    assert ".json …\n" in printed
    assert len(printed) < 600


def test_leaving_on_purpose_is_not_caught() -> None:
    """The exit of the scripts' own parser is passed on."""
    with pytest.raises(SystemExit):
        run_guarded(raise_it(SystemExit(2)))


def test_arguments_that_are_not_text_are_rejected() -> None:
    """Bytes that are not UTF-8 reach Python as lone surrogates, and are a usage error."""
    check_arguments(["--event-type", "Jörg"])
    with pytest.raises(UsageError, match="not UTF-8"):
        check_arguments(["--event-type", "\udcff"])
