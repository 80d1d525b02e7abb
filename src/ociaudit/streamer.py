"""The class and the function of the documented scripts, with their words.

Owns: what they promise. Must not: ask in a way of its own; it is `stream`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ociaudit.api import stream
from ociaudit.client.auth import load_credentials
from ociaudit.errors import IncompleteExport, format_count
from ociaudit.events.fields import read_sdk_facts
from ociaudit.events.filters import EventFilter
from ociaudit.formats.json import JsonArray
from ociaudit.operations.context import When
from ociaudit.operations.stream import STREAM_HINT
from ociaudit.planning.shard import Gap
from ociaudit.storage.atomic_io import new_file, write_all


class OciAuditStreamer:
    """The class of the documented scripts: one compartment, one region, chunk after chunk.

    `start_date` and `end_date` are `YYYY-MM-DD`, `DD.MM.YY` or dates; the end day is included. Without
    `compartment_ocid` it fetches the root compartment of the profile's tenancy.
    """

    MAX_CHUNK_DAYS: ClassVar[int] = 7

    def __init__(
        self,
        profile_name: str,
        start_date: When,
        end_date: When,
        oci_config_path: str | None = None,
        *,
        compartment_ocid: str | None = None,
    ) -> None:
        """Read the profile.

        Raises:
            UsageError: the profile, a date or the OCID cannot be used.
        """
        credentials = load_credentials(oci_config_path, profile_name)
        self.compartment_ocid = compartment_ocid or credentials.tenancy
        self.gaps: tuple[Gap, ...] = ()
        self._arguments: Mapping[str, Any] = {
            "start": start_date,
            "end": end_date,
            "profile": profile_name,
            "config_file": oci_config_path,
            "uses_cli_variables": False,
            "regions": [credentials.region],
            "compartments": [self.compartment_ocid],
            "is_subtree": False,
            "shape": "sdk",
        }

    def fetch_events_generator(self) -> Iterator[dict[str, Any]]:
        """Yield the events in the SDK's spelling, one by one.

        Raises:
            IncompleteExport: at the end, when a chunk did not come; everything else has been yielded by then.
        """
        with stream(**self._arguments, max_window_days=self.MAX_CHUNK_DAYS, on_gap="collect") as events:
            yield from events
            self.gaps = events.gaps
        if self.gaps:
            raise IncompleteExport(
                f"{format_count(len(self.gaps), 'chunk')} did not come: {self.gaps[0].reason}",
                gaps=self.gaps,
                hint=STREAM_HINT,
            )


def stream_to_json_file(
    data_generator: Iterable[Mapping[str, Any]], output_file_path: str | Path, eventfilter: str | None = None
) -> int:
    """Write dictionaries as one JSON array and return how many were written.

    `eventfilter` holds regular expressions, separated by `;` and searched in `event_type`. An existing file
    is replaced only when the new one is complete. If the generator ends with `IncompleteExport`, the file is
    written and the exception is raised again.

    Raises:
        UsageError: an expression is wrong.
        DiskError: the file cannot be written.
    """
    wanted = EventFilter([part for part in (eventfilter or "").split(";") if part.strip()])
    layout = JsonArray()
    count = 0
    incomplete: IncompleteExport | None = None
    path = Path(output_file_path)
    with new_file(path) as descriptor:
        write_all(descriptor, layout.begin(), path)
        try:
            for item in data_generator:
                if wanted.is_wanted_by_facts(read_sdk_facts(item)):
                    write_all(descriptor, layout.write([json.dumps(item).encode()], [None]), path)
                    count += 1
        except IncompleteExport as error:
            incomplete = error
        write_all(descriptor, b"".join(layout.finish()), path)
    if incomplete is not None:
        raise incomplete
    return count
