"""What several tests share: type-checked like the program, and imported as `support.…`."""
