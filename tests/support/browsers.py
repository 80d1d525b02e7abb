"""The Chromium of this machine, for the tests of the report and for its screenshots."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine; OCI_AUDIT_CHROMIUM overrides it."""
    named = os.environ.get("OCI_AUDIT_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)
