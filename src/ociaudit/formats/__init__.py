"""Files of events: the output formats, and the readers of every input that holds audit events."""
