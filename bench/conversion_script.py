"""A file of events in another form, through the functions that an export uses.

`python conversion_script.py INPUT OUTPUT SHAPE`; the input is a JSON array that oci-audit wrote.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from ociaudit.events.shapes import Shape
from ociaudit.formats.choice import make_format
from ociaudit.formats.compression import make_compressor
from ociaudit.formats.form import choose_form
from ociaudit.formats.spelling import Spelling
from ociaudit.jobs.publish import write_events
from ociaudit.plan.shard import Place
from ociaudit.store.durable import new_file, write_all


def read_records(path: Path) -> Iterator[tuple[bytes, Place | None]]:
    """Yield the events of an array that stand one in a line, without origins."""
    with path.open("rb") as file:
        for line in file:
            if line[:1] == b"{":
                yield line.rstrip(b",\n"), None


def convert(source: Path, output: Path, shape: Shape) -> None:
    """Write the events of a file into another one, whose suffix says in which form."""
    form = choose_form(output)
    with new_file(output) as descriptor:
        write_events(
            read_records(source),
            locate=lambda origin: origin,
            event_format=make_format(form.format, Spelling(shape), scratch=output.parent),
            compressor=make_compressor(form.compression),
            write=lambda data: write_all(descriptor, data, output),
            on_written=lambda _: None,
        )


convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
