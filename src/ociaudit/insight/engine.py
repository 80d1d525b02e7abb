"""Calls of DuckDB that a signal can end.

Owns: that. DuckDB works outside Python for as long as it takes, and Python handles signals in between only; so the
work is done by a thread, and whoever waits for it is told of a signal at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")


def run_call(engine: duckdb.DuckDBPyConnection, call: Callable[[], T]) -> T:
    """Return what a call of the engine returns; what is raised while waiting ends the call."""
    with ThreadPoolExecutor(1, thread_name_prefix="duckdb") as thread:
        result = thread.submit(call)
        try:
            return result.result()
        finally:
            if not result.done():  # a signal ended the waiting
                engine.interrupt()
