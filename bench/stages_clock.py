"""One export that says how long each of its stages took, and what the steps of its hot path cost alone.

`python stages_clock.py START END OUTPUT CONFIG URL COMPARTMENT EVENTS_FILE`

The steps are timed alone, one after the other, over the same pages: what they add up to is work, not time,
because some of it is done while the server works on the next page.
"""

import json
import sys
import time

BEGAN_AT = time.perf_counter()

from collections.abc import Callable  # noqa: E402 -- the imports are a stage too
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ociaudit import library  # noqa: E402
from ociaudit.operations.context import Callbacks  # noqa: E402

IMPORTED_AT = time.perf_counter()

from ociaudit.client.auth import load_credentials  # noqa: E402

_PAGE_EVENTS = 100
_SAMPLES = 400


class StageClock(Callbacks):
    """Notes when a stage began."""

    def __init__(self) -> None:
        """Know of no stage yet."""
        self.planned_at = self.publish_at = 0.0

    def on_plan(self, *_: object) -> None:
        """Note when the questions begin."""
        self.planned_at = time.perf_counter()

    def on_publish(self, event_count: int) -> None:
        """Note when the last answer was there."""
        self.publish_at = time.perf_counter()


def clock_steps(events_file: Path, config_path: str, folder: Path) -> dict[str, float]:
    """Return the seconds that each step of the hot path takes over all pages."""
    import hashlib

    from ociaudit.events.event import parse_page
    from ociaudit.storage.event_log import FrameCodec, train_dictionary

    lines = events_file.read_bytes().splitlines()
    groups = [lines[at : at + _PAGE_EVENTS] for at in range(0, len(lines), _PAGE_EVENTS)]
    pages = [b"[" + b",".join(group) + b"]" for group in groups]
    credentials = load_credentials(config_path)
    url = "http://127.0.0.1/20190901/auditEvents?compartmentId=" + "x" * 180
    request = {"url": url, "host": "127.0.0.1", "path": url.removeprefix("http://127.0.0.1")}
    codec = FrameCodec(train_dictionary(lines[:_SAMPLES]))
    frames = [frame for group in groups for frame in codec.compress(group)]
    digest = hashlib.sha256()
    with (folder / "written").open("wb", buffering=0) as file:
        return {
            "sign requests": clock(lambda _: credentials.sign(**request, now_seconds=time.time()), pages),
            "cut pages and read the key fields": clock(parse_page, pages),
            "compress into the log": clock(codec.compress, groups),
            "decompress from the log": clock(codec.decompress, frames),
            "SHA-256 of the output": clock(digest.update, pages),
            "write the output": clock(file.write, pages),
        }


def clock(step: Callable[[Any], object], items: list[Any]) -> float:
    """Return the seconds of CPU that a step takes over all items."""
    began = time.process_time()
    for item in items:
        step(item)
    return time.process_time() - began


def main() -> None:
    """Export, then time the steps, and print both as JSON."""
    start, end, output, config_path, url, compartment, events_file = sys.argv[1:]
    load_credentials(config_path)
    loaded_at = time.perf_counter()
    callbacks = StageClock()
    library.export(
        start,
        end,
        output=output,
        config_file=config_path,
        endpoint=url,
        regions=["us-ashburn-1"],
        compartments=[compartment],
        is_subtree=False,
        callbacks=callbacks,
    )
    ended_at = time.perf_counter()
    stages = {
        "import the program": IMPORTED_AT - BEGAN_AT,
        "import Oracle's SDK, read profile and key": loaded_at - IMPORTED_AT,
        "plan, open the run": callbacks.planned_at - loaded_at,
        "ask, check, spool": callbacks.publish_at - callbacks.planned_at,
        "order, write, sync, state": ended_at - callbacks.publish_at,
    }
    print(json.dumps({"stages": stages, "steps": clock_steps(Path(events_file), config_path, Path(output).parent)}))


main()
