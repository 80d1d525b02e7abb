"""The command line. Only this package exits, and only `console` prints."""
