"""`oci-audit sync`: its options, its run and its screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.options import FILE, Command, argument, make_connection_options, option, sign_in_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=Command, examples=(("First", "oci-audit sync audit-archive"),))
@argument("archive", type=FILE, metavar="ARCHIVE", help="Folder of the archive; created by the first sync.")
@option("--start", metavar="TIME")
@option("--settle", default="15m", metavar="DURATION")
@option("--rescan", default="2h,26h,7d", metavar="DURATIONS")
@option("--delta", "is_delta", is_flag=True, help="Keep a Delta log of the events, for engines that read Delta tables.")
@sign_in_options
@option("--concurrency", type=click.IntRange(min=1), default=16, metavar="COUNT")
@option("--max-requests-per-second", type=float, metavar="NUMBER")
def sync(archive: Path, **options: Any) -> int:
    """Bring an archive up to date."""
    from ociaudit import api
    from ociaudit.operations.sync import SyncOptions, sync_archive

    context = api.resolve_connection(make_connection_options(options))
    result = sync_archive(
        SyncOptions(
            archive=archive,
            start=options["start"],
            settle=options["settle"],
            rescan=options["rescan"],
            is_delta=options["is_delta"],
        ),
        context,
    )
    console.print_message(repr(result.verdict))
    for commit in result.commits:
        console.print_message(repr(commit)[:3000])
    return 0
