#!/usr/bin/env python3
"""Write the audit events of one OCI compartment as one JSON array. Its documentation: docs/scripts.md.

This file parses on any Python 3, so that it can say what is missing.
"""

import os
import sys

NEEDED = (3, 11)


def explain(what, hint):
    """Say what is missing and what to type, and exit with the status of a usage error."""
    sys.stderr.write("error: " + what + "\nhint: " + hint + "\n")
    sys.exit(2)


if __name__ == "__main__":
    if sys.version_info < NEEDED:
        explain(
            "Python %d.%d or newer is needed; this is %d.%d" % (NEEDED + tuple(sys.version_info[:2])),
            "run it with a newer one, for example: python3.11 " + " ".join(sys.argv),
        )
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "src"))
    try:
        from ociaudit.cli.script_commands import main_streamer
    except ImportError as error:
        explain(
            "a package is missing: %s" % error,
            "install them with: %s -m pip install oci-audit-streamer, or in this checkout: make setup" % sys.executable,
        )
    main_streamer()
