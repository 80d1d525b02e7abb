import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ociaudit import errors
from ociaudit.errors import IncompleteExport, Interrupted, OciAuditError, RequestError, ServiceError, format_count

EXIT_CODES = {
    "OciAuditError": 1,
    "UsageError": 2,
    "ConfigError": 2,
    "AccessError": 3,
    "SignInRejected": 3,
    "ScopeUnreadable": 3,
    "ServiceUnreachable": 4,
    "DiskError": 5,
    "CorruptRun": 6,
    "UnreadableInput": 6,
    "IncompleteExport": 10,
}


def walk(kind: type[OciAuditError] = OciAuditError) -> Iterator[type[OciAuditError]]:
    """Yield every class of the tree that stands in `errors`."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from walk(below)


ALL = list(walk())


def make(kind: type[OciAuditError], **more: object) -> OciAuditError:
    """Make an error of a class."""
    needed: dict[type, dict[str, object]] = {
        IncompleteExport: {"gaps": [1]},
        Interrupted: {"signal_number": 15},
        ServiceError: {"status": 404, "code": "X", "is_oci": True},
    }
    return kind("what failed", **needed.get(kind, {}), **more)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_to_do(kind: type[OciAuditError]) -> None:
    """Each class has an exit code, a hint that is not empty, and a place in the tree that is drawn."""
    error = make(kind)
    assert str(error) == "what failed"
    assert error.hint.strip()
    assert isinstance(error.exit_code, int)
    assert kind.__name__ in (errors.__doc__ or "")
    if kind is not ServiceError:
        assert make(kind, hint="do this").hint == "do this"


@pytest.mark.parametrize(("name", "exit_code"), EXIT_CODES.items())
def test_a_family_has_its_exit_code(name: str, exit_code: int) -> None:
    """The codes are those of the documentation."""
    assert getattr(errors, name).exit_code == exit_code


def test_only_requests_are_repeated() -> None:
    """No other family is retryable; a refusal is where its status says so."""
    assert [kind.__name__ for kind in ALL if make(kind).retryable] == ["ConnectionFailed", "InvalidResponse"]
    assert not RequestError("x").retryable
    assert ServiceError("x", status=429, code="", is_oci=False).retryable


COUNTED = (
    "address|attempt|byte|call|cell|change|compartment|day|entry|event|file|gap|id|kind|line|match|minute|origin|page|"
    "record|region|request|row|run|second|shard|sign-in|surrogate|target|window"
)
COUNTED_PLURAL = re.compile(
    r"\{[^{}]*(?:len\([^{}]*\)|:,|\.count\b|\bcount)[^{}]*\} (?:[a-z-]+ )?(?:" + COUNTED + r")(?:e?s|ies)\b"
    r"|\{'s' if |\{'' if "
)
ALWAYS_SEVERAL = {
    "names {len(found):,} compartments": "more than one candidate, else it would be clear",
    "MINUTES_PER_DAY:,.2f} days": "a fraction",
    "exceeds {_MAX_DURATION_DAYS:,} days": "a constant",
    "of {len(files):,} files": "several inputs, else they are named",
    "{len(same)} runs": "more than one run, else it is resumed",
    "than {limit:,} bytes": "a constant",
}


def test_no_message_builds_a_plural_by_hand(repository: Path) -> None:
    """Every counted noun comes from `format_count`, except where the number is always more than one."""
    found = []
    for path in (repository / "src" / "ociaudit").rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if COUNTED_PLURAL.search(line) and not any(text in line for text in ALWAYS_SEVERAL):
                found.append(f"{path.name}:{number}: {line.strip()}")
    assert found == []
    assert COUNTED_PLURAL.search('f"{len(gaps)} gaps"')
    assert COUNTED_PLURAL.search('f"{number:,} more changes"')


def test_a_counted_noun_agrees_with_its_number() -> None:
    """One thing is singular, anything else plural, with the endings of English."""
    assert [format_count(number, "gap") for number in (0, 1, 2, 1000)] == ["0 gaps", "1 gap", "2 gaps", "1,000 gaps"]
    assert [format_count(2, noun) for noun in ("entry", "address", "day", "failed sign-in")] == [
        "2 entries",
        "2 addresses",
        "2 days",
        "2 failed sign-ins",
    ]


def test_the_examples_of_python_count_nothing_in_prose(repository: Path) -> None:
    """No example in the documentation prints `1 gaps`."""
    for path in (repository / "README.md", *(repository / "docs").rglob("*.md")):
        assert not COUNTED_PLURAL.search(path.read_text()), path
