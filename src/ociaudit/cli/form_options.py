"""Options of every command that writes a file of events. Owns: their names and help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ociaudit.formats.form import CompressionName, FormatName

FormatOption = Annotated[
    FormatName | None, typer.Option("--format", help="Format of the file.", show_default="by the suffix")
]
CompressOption = Annotated[
    CompressionName | None, typer.Option(help="Compression of json, ndjson and csv.", show_default="by the suffix")
]
ShapeOption = Annotated[
    Literal["api", "sdk", "cli"],
    typer.Option(help="Spelling of the fields: as served, as Oracle's SDK or as Oracle's command."),
]
WithOriginOption = Annotated[
    bool,
    typer.Option(
        "--with-origin",
        help="Put the region and compartment asked into each event, where they are known; for json, ndjson.",
    ),
]
RedactOption = Annotated[
    bool, typer.Option("--redact", help="Replace credential-like headers and values, so that it can be shared.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
