"""An export that prints the time of each stage, and the CPU time of the steps of its hot path.

`python stages_clock.py START END OUTPUT CONFIG URL COMPARTMENT EVENTS_FILE`

The steps are measured separately, one after the other, over the same pages. Their sum is work, not elapsed time,
because some of the work happens while the server prepares the next page.
"""

import json
import sys
import time

STARTED_AT = time.perf_counter()

from collections.abc import Callable  # noqa: E402 -- the imports are a stage too
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ociaudit import api  # noqa: E402
from ociaudit.operations.context import Callbacks, ConnectionOptions, ExportOptions  # noqa: E402

IMPORTED_AT = time.perf_counter()

from ociaudit.client.auth import load_credentials  # noqa: E402

_PAGE_EVENTS = 100
_SAMPLES = 400


class StageClock(Callbacks):
    """Callbacks that record the start of each stage."""

    def __init__(self) -> None:
        """Start without times."""
        self.planned_at = self.publish_at = 0.0

    def on_plan(self, *_: object) -> None:
        """Record the start of fetching."""
        self.planned_at = time.perf_counter()

    def on_publish(self, event_count: int) -> None:
        """Record the time of the last response."""
        self.publish_at = time.perf_counter()


def measure_steps(events_file: Path, config_path: str, folder: Path) -> dict[str, float]:
    """Return the CPU seconds of each step of the hot path over all pages."""
    import hashlib

    from ociaudit.events.event import parse_page
    from ociaudit.storage.merge import FrameCodec, train_dictionary

    lines = events_file.read_bytes().splitlines()
    groups = [lines[at : at + _PAGE_EVENTS] for at in range(0, len(lines), _PAGE_EVENTS)]
    pages = [b"[" + b",".join(group) + b"]" for group in groups]
    credentials = load_credentials(config_path)
    url = "http://127.0.0.1/20190901/auditEvents?compartmentId=" + "x" * 180
    path = url.removeprefix("http://127.0.0.1")

    def sign(_: object) -> None:
        credentials.sign(url=url, host="127.0.0.1", path=path, now_seconds=time.time())

    codec = FrameCodec(train_dictionary(lines[:_SAMPLES]))
    frames = [frame for group in groups for frame in codec.compress(group)]
    digest = hashlib.sha256()
    with (folder / "written").open("wb", buffering=0) as file:
        return {
            "sign requests": measure(sign, pages),
            "split pages and read the key fields": measure(parse_page, pages),
            "compress into the log": measure(codec.compress, groups),
            "decompress from the log": measure(codec.decompress, frames),
            "SHA-256 of the output": measure(digest.update, pages),
            "write the output": measure(file.write, pages),
        }


def measure(step: Callable[[Any], object], items: list[Any]) -> float:
    """Return the CPU seconds of a step over all items."""
    started = time.process_time()
    for item in items:
        step(item)
    return time.process_time() - started


def main() -> None:
    """Export, measure the steps, and print the times of both as JSON."""
    start, end, output, config_path, url, compartment, events_file = sys.argv[1:]
    load_credentials(config_path)
    loaded_at = time.perf_counter()
    callbacks = StageClock()
    options = ExportOptions(
        start=start,
        end=end,
        output=Path(output),
        regions=["us-ashburn-1"],
        compartments=[compartment],
        is_subtree=False,
    )
    api.run_export(options, ConnectionOptions(config_file=config_path, endpoint=url), callbacks=callbacks)
    ended_at = time.perf_counter()
    stages = {
        "import the program": IMPORTED_AT - STARTED_AT,
        "import the SDK, read profile and key": loaded_at - IMPORTED_AT,
        "plan, open the run directory": callbacks.planned_at - loaded_at,
        "fetch, check, spool": callbacks.publish_at - callbacks.planned_at,
        "sort, write, sync, manifest": ended_at - callbacks.publish_at,
    }
    print(json.dumps({"stages": stages, "steps": measure_steps(Path(events_file), config_path, Path(output).parent)}))


main()
