"""Asking: signing, sending, checking, retrying. Async; the only part that talks to Oracle."""
