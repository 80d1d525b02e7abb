"""What an event is: bytes as served, and the few fields the program reads. Pure; no I/O."""
