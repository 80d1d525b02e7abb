"""Keeping: what has arrived, safely on disk until it is published."""
