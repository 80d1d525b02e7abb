"""An HTTP server on loopback that replaces the Oracle Cloud services an audit export uses.

This package shares no code with `ociaudit` and is never imported by it: it is started as a process
(`python -m ociaudit_emulator`), so that a mistake in one cannot hide the same mistake in the other.

Invariants:
- a request outside `/_emulator/` is rejected unless its signature is valid, except for instance metadata;
- the same seed gives the same bytes, in every process and on every day;
- memory does not grow with the requested time range.
"""
