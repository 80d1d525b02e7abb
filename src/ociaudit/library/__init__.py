"""The face for Python: `stream`, `export`, and the classes of the documented scripts.

import ociaudit

for event in ociaudit.stream("2025-12-01", "2025-12-07"):
    print(event["eventType"])

outcome = ociaudit.export("7d", "now", output="audit.json")
assert outcome.complete, outcome.gaps
"""

from __future__ import annotations

from ociaudit.library.functions import diagnose, export, preview, stream
from ociaudit.library.streamer import OciAuditStreamer, stream_to_json_file

__all__ = ["OciAuditStreamer", "diagnose", "export", "preview", "stream", "stream_to_json_file"]
