"""What to ask. Pure; no I/O, no clock."""
