"""An export that says how long its publishing took, from the last answer to the end.

`python publish_clock.py START END OUTPUT CONFIG URL WINDOW_DAYS COMPARTMENT...`
"""

import json
import sys
import time

import ociaudit
from ociaudit.operations.context import Callbacks


class PublishClock(Callbacks):
    """Notes when the last answer was there, and how many shards were asked."""

    began_at = 0.0
    shards = 0

    def on_shard_done(self, shard: object) -> None:
        """Count it."""
        self.shards += 1

    def on_publish(self, event_count: int) -> None:
        """Note the time."""
        self.began_at = time.perf_counter()


start, end, output, config_path, url, window_days, *compartments = sys.argv[1:]
clock = PublishClock()
outcome = ociaudit.export(
    start,
    end,
    output=output,
    config_file=config_path,
    endpoint=url,
    regions=["us-ashburn-1"],
    compartments=compartments,
    is_subtree=False,
    max_window_days=int(window_days),
    callbacks=clock,
)
print(json.dumps({"publish_seconds": time.perf_counter() - clock.began_at, "shards": clock.shards}))
sys.exit(0 if outcome.complete else 10)
