"""Writing: how events stand in a file."""
