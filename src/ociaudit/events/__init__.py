"""Audit events: their bytes as served, and the fields that the program reads from them. Pure: no I/O."""
