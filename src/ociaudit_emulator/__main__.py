"""The entry point of `python -m ociaudit_emulator`."""

import sys

from ociaudit_emulator.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
