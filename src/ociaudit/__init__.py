"""Export every audit event of an Oracle Cloud tenancy: complete, verified, fast."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ociaudit.errors import IncompleteExport, OciAuditError
from ociaudit.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from ociaudit.api import export, open_archive, stream, sync
    from ociaudit.events.filters import Criteria, FilterSpec
    from ociaudit.streamer import OciAuditStreamer, stream_to_json_file

_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "Criteria": "ociaudit.events.filters",
        "FilterSpec": "ociaudit.events.filters",
        "OciAuditStreamer": "ociaudit.streamer",
        "export": "ociaudit.api",
        "open_archive": "ociaudit.api",
        "stream": "ociaudit.api",
        "stream_to_json_file": "ociaudit.streamer",
        "sync": "ociaudit.api",
    }
)

__all__ = [
    "Criteria",
    "FilterSpec",
    "IncompleteExport",
    "OciAuditError",
    "OciAuditStreamer",
    "__version__",
    "export",
    "open_archive",
    "stream",
    "stream_to_json_file",
    "sync",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import ociaudit` and `oci-audit --help` stay quick."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    """Return the public names, whether they are imported yet or not."""
    return __all__
