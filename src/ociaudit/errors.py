"""The error tree of oci-audit, and the exit code of each branch.

    OciAuditError                    exit  1  a bug, if it is raised as itself
    ├── UsageError                         2  arguments that cannot be carried out
    │   ├── ConfigError                    2  the OCI configuration, profile or key
    │   └── ObjectConflict                 2  an object that another program wrote, or changed meanwhile
    ├── AccessError                        3  authentication or permission stopped the run
    │   ├── SignInRejected                 3  the service does not accept the signature
    │   └── ScopeUnreadable                3  a list of regions or compartments cannot be read
    ├── ServiceUnreachable                 4  the service never responded, or failed everywhere
    ├── DiskError                          5  the local disk failed or is full
    ├── CorruptRun                         6  a run directory, journal or manifest is damaged
    │   └── UnreadableInput                6  an input holds no audit events, or is damaged
    ├── IncompleteExport                  10  finished, with gaps
    ├── Interrupted                  130/143  a signal stopped the run; it can be resumed
    └── RequestError                          one request failed; retried, then a gap or one of the above
        ├── ServiceError                      a response with an error status
        ├── ConnectionFailed                  no response
        └── InvalidResponse                   a 200 whose body is not what the API promises

A branch groups errors by who can fix them: the caller, the tenancy's administrator, the network, the local machine.
`ExitCode` names every exit code of the program, including those that a command returns without an error.

Invariants
- Every class carries `exit_code` and `retryable`. Only `cli` exits.
- `hint` says what to do next and is never empty once an error reaches the screen.
- A message never contains a key, a token or a header value.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

_SIGNAL_BASE = 128  # what a shell reports for a process that a signal ended: 128 and the signal's number


class ExitCode(IntEnum):
    """What an exit status of `oci-audit` means; docs/reference/exit-codes.md is the table for users."""

    OK = 0
    BUG = 1
    USAGE = 2
    ACCESS = 3
    SERVICE = 4
    DISK = 5
    DAMAGED = 6
    ALTERED = 7
    INCOMPLETE = 10
    NOT_FINAL = 11
    STALE = 12
    INTERRUPTED = _SIGNAL_BASE + 2
    TERMINATED = _SIGNAL_BASE + 15

    NOT_READY = ACCESS  # `doctor`: a check failed
    DIFFERENT = ALTERED  # `diff`: the exports differ


REPEAT = "run the same command again"
"""What a hint says where that helps, in these words: `OciAuditError.repeat_with` completes them."""


class OciAuditError(Exception):
    """Root of all errors that oci-audit raises on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    retryable: bool = False
    default_hint: ClassVar[str] = "this is a bug; please report it with the command line and this message"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep `message` (what failed, and where) and `hint` (what to do next)."""
        super().__init__(message)
        self.hint = hint or self.default_hint

    def repeat_with(self, options: str) -> None:
        """Name the options that the same command needs to continue, for example "with --resume"."""
        if options:
            self.hint = self.hint.replace(REPEAT, f"{REPEAT} {options}")


class UsageError(OciAuditError):
    """The arguments cannot be carried out as given."""

    exit_code = ExitCode.USAGE
    default_hint = "see `oci-audit export --help`"


class ConfigError(UsageError):
    """The OCI configuration file, its profile or its key is unusable."""

    default_hint = "see https://docs.oracle.com/iaas/Content/API/Concepts/sdkconfig.htm for the file format"


class ObjectConflict(UsageError):
    """An object exists that should not, or is no longer the one that was seen: another program wrote it."""

    default_hint = "look at the object, then choose another name"


class AccessError(OciAuditError):
    """Authentication or permission stopped the run."""

    exit_code = ExitCode.ACCESS
    default_hint = "ask for: Allow group <group> to read audit-events in tenancy"


class SignInRejected(AccessError):
    """The service does not accept the signature of the requests."""


class ScopeUnreadable(AccessError):
    """A list of regions or compartments cannot be read, so the scope is not known."""


class ServiceUnreachable(OciAuditError):
    """The service never gave a usable response."""

    exit_code = ExitCode.SERVICE
    default_hint = f"check the network, the proxy and --endpoint, then {REPEAT}"


class DiskError(OciAuditError):
    """The local disk failed to read or write."""

    exit_code = ExitCode.DISK
    default_hint = f"free some space or choose another path with -o, then {REPEAT}"


class CorruptRun(OciAuditError):
    """A run directory, journal or manifest is not what oci-audit wrote."""

    exit_code = ExitCode.DAMAGED
    default_hint = "run the same command with --restart to start again"


class UnreadableInput(CorruptRun):
    """An input file holds no audit events, or is truncated or damaged."""

    default_hint = "name a file that oci-audit, the OCI command, the SDK, Connector Hub or Logging Search wrote"


class IncompleteExport(OciAuditError):
    """The run is finished, and some planned windows did not come back complete."""

    exit_code = ExitCode.INCOMPLETE
    default_hint = f"{REPEAT}: it requests only the gaps"

    def __init__(self, message: str, *, gaps: Sequence[object], hint: str | None = None) -> None:
        """Keep the gaps (`planning.shard.Gap`) beside the message."""
        super().__init__(message, hint=hint)
        self.gaps = tuple(gaps)


class Interrupted(OciAuditError):
    """A signal stopped the run; everything received is kept."""

    default_hint = f"{REPEAT} to continue from here"

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        """Keep the number of the signal, which determines the exit status."""
        super().__init__(message, hint=hint)
        self.signal_number = signal_number


class RequestError(OciAuditError):
    """One request failed."""

    default_hint = f"{REPEAT}; if it fails again, check https://ocistatus.oraclecloud.com"

    def __init__(self, message: str, *, request_id: str | None = None, hint: str | None = None) -> None:
        """Keep the `opc-request-id`, which Oracle's support needs."""
        super().__init__(message, hint=hint)
        self.request_id = request_id


class ServiceError(RequestError):
    """The service responded with an error status.

    `skew_seconds` is how far the local clock is ahead of the service's `Date`, where the response had one.
    `is_oci`: the body was Oracle's `{"code", "message"}`.
    """

    RETRYABLE_STATUSES: ClassVar[frozenset[int]] = frozenset({409, 429, 500, 502, 503, 504})

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        is_oci: bool,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
        skew_seconds: float | None = None,
    ) -> None:
        """Keep the parts of the response that decide what happens next."""
        super().__init__(message, request_id=request_id)
        self.status = status
        self.code = code
        self.is_oci = is_oci
        self.retry_after_seconds = retry_after_seconds
        self.skew_seconds = skew_seconds
        self.retryable = status in self.RETRYABLE_STATUSES


class ConnectionFailed(RequestError):
    """No response: the connection was refused, reset, timed out or cut short."""

    retryable = True


class InvalidResponse(RequestError):
    """A response with a successful status whose body is not what the API promises."""

    retryable = True


def advise_full_disk(path: Path) -> str:
    """Return the hint for a file that does not fit on its disk."""
    return f"the disk of {path.parent} is full; make room, then {REPEAT}"


def format_count(number: int, noun: str) -> str:
    """Return a counted noun for messages: `1 gap`, `2 gaps`, `3 entries`."""
    if number == 1:
        return f"1 {noun}"
    is_plural_ies = noun.endswith("y") and noun[-2:-1] not in set("aeiou")
    plural = (
        f"{noun[:-1]}ies" if is_plural_ies else f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
    )
    return f"{number:,} {plural}"


def find_exit_status(error: OciAuditError) -> int:
    """Return the exit status that an error ends the program with."""
    return _SIGNAL_BASE + error.signal_number if isinstance(error, Interrupted) else error.exit_code
