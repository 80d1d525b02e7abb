"""A loopback stand-in for the Oracle Cloud services that an audit export asks.

Owns: everything that answers HTTP in place of Oracle Cloud.
Must not: import `ociaudit`, or be imported by it; it is started as a process
(`python -m ociaudit_emulator`), so that one mistake cannot hide another.

Invariants:
- every request outside `/_emulator/` is refused unless its signature is good;
- the same seed gives the same bytes, in every process and on every day;
- memory does not grow with the range that is asked for.
"""
