from collections.abc import Iterator

import pytest

from ociaudit import errors
from ociaudit.errors import IncompleteExport, Interrupted, OciAuditError, RequestError, ServiceError

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
