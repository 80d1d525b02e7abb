"""Every error of oci-audit, one tree.

    OciAuditError                    exit  1  a bug, if it is raised as itself
    ├── UsageError                         2  arguments that cannot be carried out
    │   └── ConfigError                    2  the OCI configuration, profile or key
    ├── AccessError                        3  authentication or permission stopped the run
    │   ├── SignInRejected                 3  the service does not accept the signature
    │   └── ScopeUnreadable                3  a list of regions or compartments cannot be read
    ├── ServiceUnreachable                 4  the service never answered, or failed everywhere
    ├── DiskError                          5  the local disk refused
    ├── CorruptRun                         6  a run directory, journal or manifest is damaged
    │   └── UnreadableInput                6  a file to read is no file of audit events, or damaged
    ├── IncompleteExport                  10  finished, with gaps
    ├── Interrupted                  130/143  a signal stopped the run; it can be resumed
    └── RequestError                          one request failed; retried, then a gap or one of the above
        ├── ServiceError                           an answer with an error status
        ├── ConnectionFailed                  no answer
        └── InvalidResponse                     a 200 whose body is not what the API promises

What this module owns: the families (by whose fault it is), their exit codes and hints.
What it must not do: print, exit, or know how an error came about.

Invariants
- Every class carries `exit_code` and `retryable`; one place (`cli`) turns the code into an exit status.
- `hint` says what to do next and is never empty once an error reaches the screen.
- No key, token or header value stands in a message.

From an error to the exit status. Owns: the one rule that is not in the class: signals. Must not: exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class OciAuditError(Exception):
    """Root of all errors that oci-audit raises on purpose."""

    exit_code: ClassVar[int] = 1
    retryable: bool = False
    default_hint: ClassVar[str] = "this is a bug; please report it with the command line and this message"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep `message` (what failed, and where) and `hint` (what to do next)."""
        super().__init__(message)
        self.hint = hint or self.default_hint


class UsageError(OciAuditError):
    """The arguments cannot be carried out as given."""

    exit_code = 2
    default_hint = "see `oci-audit export --help`"


class ConfigError(UsageError):
    """The OCI configuration file, its profile or its key is unusable."""

    default_hint = "see https://docs.oracle.com/iaas/Content/API/Concepts/sdkconfig.htm for the file's form"


class AccessError(OciAuditError):
    """Authentication or permission stopped the run."""

    exit_code = 3
    default_hint = "ask for: Allow group <group> to read audit-events in tenancy"


class SignInRejected(AccessError):
    """The service does not accept the signature of the requests."""


class ScopeUnreadable(AccessError):
    """A list of regions or compartments cannot be read, so the scope is not known."""


class ServiceUnreachable(OciAuditError):
    """The service never gave a usable answer."""

    exit_code = 4
    default_hint = "check the network, the proxy and --endpoint, then run the same command again"


class DiskError(OciAuditError):
    """The local disk refused to read or write."""

    exit_code = 5
    default_hint = "make room or choose another place with -o, then run the same command again"


class CorruptRun(OciAuditError):
    """A run directory, journal or manifest is not what oci-audit wrote."""

    exit_code = 6
    default_hint = "run the same command with --restart to begin anew"


class UnreadableInput(CorruptRun):
    """A file that is to be read holds no audit events, or is cut or damaged."""

    default_hint = "name a file that oci-audit, the OCI command, the SDK, Connector Hub or Logging Search wrote"


class IncompleteExport(OciAuditError):
    """The work is finished, and not everything that was planned came back."""

    exit_code = 10
    default_hint = "run the same command again: it asks for the gaps alone"

    def __init__(self, message: str, *, gaps: Sequence[object], hint: str | None = None) -> None:
        """Keep the gaps (`plan.shard.Gap`) beside the message."""
        super().__init__(message, hint=hint)
        self.gaps = tuple(gaps)


class Interrupted(OciAuditError):
    """A signal stopped the run; what has arrived is kept."""

    default_hint = "run the same command again to go on from here"

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        """Keep the number of the signal, which makes the exit status."""
        super().__init__(message, hint=hint)
        self.signal_number = signal_number


class RequestError(OciAuditError):
    """One request failed."""

    default_hint = "run the same command again; if it stays, check https://ocistatus.oraclecloud.com"

    def __init__(self, message: str, *, request_id: str | None = None, hint: str | None = None) -> None:
        """Keep the `opc-request-id`, which Oracle's support asks for."""
        super().__init__(message, hint=hint)
        self.request_id = request_id


class ServiceError(RequestError):
    """The service answered with an error status.

    `skew_seconds` is how far the local clock is ahead of the service's `Date`, where the answer had one.
    `is_oci` tells whether the body was Oracle's `{"code", "message"}`.
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
        """Keep the parts of the answer that decide what happens next."""
        super().__init__(message, request_id=request_id)
        self.status = status
        self.code = code
        self.is_oci = is_oci
        self.retry_after_seconds = retry_after_seconds
        self.skew_seconds = skew_seconds
        self.retryable = status in self.RETRYABLE_STATUSES


class ConnectionFailed(RequestError):
    """No answer came: refused, reset, timed out, or cut short."""

    retryable = True


class InvalidResponse(RequestError):
    """A successful status, and a body that is not what the API promises."""

    retryable = True


SIGNAL_EXIT_BASE = 128


def find_exit_status(error: OciAuditError) -> int:
    """Return the exit status that an error ends the program with."""
    return SIGNAL_EXIT_BASE + error.signal_number if isinstance(error, Interrupted) else error.exit_code
