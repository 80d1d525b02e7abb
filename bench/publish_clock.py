"""An export that prints how long it takes to publish, from the last response to the end.

`python publish_clock.py START END OUTPUT CONFIG URL WINDOW_DAYS COMPARTMENT...`
"""

import json
import sys
import time
from pathlib import Path

from ociaudit import api
from ociaudit.operations.context import Callbacks, ConnectionOptions, ExportOptions


class PublishClock(Callbacks):
    """Callbacks that record the time of the last response, and count the shards."""

    started_at = 0.0
    shards = 0

    def on_shard_done(self, shard: object) -> None:
        """Count the shard."""
        self.shards += 1

    def on_publish(self, event_count: int) -> None:
        """Record the time."""
        self.started_at = time.perf_counter()


start, end, output, config_path, url, window_days, *compartments = sys.argv[1:]
clock = PublishClock()
options = ExportOptions(
    start=start,
    end=end,
    output=Path(output),
    regions=["us-ashburn-1"],
    compartments=compartments,
    is_subtree=False,
    max_window_days=int(window_days),
)
result = api.run_export(options, ConnectionOptions(config_file=config_path, endpoint=url), callbacks=clock)
print(json.dumps({"publish_seconds": time.perf_counter() - clock.started_at, "shards": clock.shards}))
sys.exit(0 if result.complete else 10)
