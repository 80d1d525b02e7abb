"""`oci-audit convert`: events of files in another form.

Owns: its options. Must not: import what reads and writes before it is needed.

How a conversion ended, in words. Owns: the summary lines. Must not: print.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ociaudit.cli import console
from ociaudit.cli.console import count, describe_redaction
from ociaudit.cli.options import (
    CompressOption,
    Filter,
    FormatOption,
    OverwriteOption,
    RedactOption,
    ShapeOption,
    WithOriginOption,
    take_filter,
)
from ociaudit.operations.convert import Conversion

_STREAM = "-"


@take_filter
def convert(  # long because: typer reads the options from the signature
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files of events: exports, and what the OCI command, the SDK, Connector Hub or Logging Search "
            "wrote, gzip and zstd too; - is stdin.",
            metavar="IN",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="File to write; its suffix names format and compression; - is stdout.",
            metavar="FILE",
        ),
    ],
    file_format: FormatOption = None,
    compress: CompressOption = None,
    wanted: Filter,
    shape: ShapeOption = "api",
    with_origin: WithOriginOption = False,
    sort: Annotated[
        bool, typer.Option("--sort", help="Write in canonical order, each record once; else in the order read.")
    ] = False,
    redact: RedactOption = False,
    overwrite: OverwriteOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only notices and errors.")] = False,
) -> int:
    """Read files of events of any kind, and write them as one file.

    Exit codes: 0 done, 2 usage, 5 disk, 6 an input is damaged or holds no events, 130 or 143 interrupted.
    """
    from ociaudit.cli.console import cancel_on_signals
    from ociaudit.cli.progress import QuietProgress
    from ociaudit.events.filters import EventFilter
    from ociaudit.formats.base import EventEncoder
    from ociaudit.formats.registry import choose_output_format
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.convert import ConvertOptions, convert_events

    event_filter = EventFilter(wanted)
    progress = QuietProgress()
    for notice in event_filter.notices:
        progress.on_notice(notice)
    target = None if output == _STREAM else Path(output)
    order = ConvertOptions(
        inputs=tuple(None if name == _STREAM else Path(name) for name in inputs),
        output=target,
        event_filter=event_filter,
        form=choose_output_format(target, file_format=file_format, compression=compress),
        encoder=EventEncoder(shape, with_origin),
        is_sorted=sort,
        is_redacted=redact,
        overwrite=overwrite,
    )
    stop = Cancellation()
    with cancel_on_signals(stop):
        conversion = convert_events(order, callbacks=progress, stop=stop)
    if not quiet:
        for line in describe_conversion(conversion, order.output):
            console.print_message(line)
    return 0


_INPUTS_SHOWN = 20


def describe_conversion(conversion: Conversion, output: Path | None) -> Iterator[str]:
    """Yield what was read, what became of it, and what redaction touched."""
    for each in conversion.inputs[:_INPUTS_SHOWN]:
        yield f"{each.name}: {count(each.events, 'event')} ({each.description})"
        if each.unknown:
            yield f"  {count(each.unknown, 'object')} in it of no known kind, kept as they are"
    if len(conversion.inputs) > _INPUTS_SHOWN:
        yield f"… and {count(len(conversion.inputs) - _INPUTS_SHOWN, 'more file')}"
    where = f" to {output}" if output else ""
    yield f"{count(conversion.written, 'event')} written{where} ({conversion.size_bytes:,} bytes)"
    yield (
        f"{conversion.read:,} read = {conversion.written:,} written + {conversion.filtered:,} filtered out + "
        f"{conversion.identical:,} identical"
    )
    if conversion.conflicting_ids:
        yield f"{count(conversion.conflicting_ids, 'event id')} with more than one record; all are kept"
    if conversion.redacted_fields is not None:
        yield from describe_redaction(conversion.redacted_fields, conversion.redacted_events)
