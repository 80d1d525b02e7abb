"""The command line as a module: `python -m ociaudit`."""

from __future__ import annotations

from ociaudit.cli.app import main

if __name__ == "__main__":
    main()
