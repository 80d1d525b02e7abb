"""Every audit event of an Oracle Cloud tenancy, once, provably, fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ociaudit.errors import IncompleteExport, OciAuditError
from ociaudit.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from ociaudit.events.filters import Criteria, FilterSpec
    from ociaudit.library import OciAuditStreamer, export, stream, stream_to_json_file

__all__ = [
    "Criteria",
    "FilterSpec",
    "IncompleteExport",
    "OciAuditError",
    "OciAuditStreamer",
    "__version__",
    "export",
    "stream",
    "stream_to_json_file",
]


def __getattr__(name: str) -> Any:
    """Import the library when it is first used, so that `import ociaudit` and `oci-audit --help` are quick."""
    if name in {"Criteria", "FilterSpec"}:
        from ociaudit.events import filters

        return getattr(filters, name)
    if name in __all__:
        from ociaudit import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
