"""Options of every command that signs in and asks. Owns: their names and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ProfileOption = Annotated[
    str | None, typer.Option(help="Profile of the OCI configuration.", show_default="DEFAULT", metavar="NAME")
]
ConfigFileOption = Annotated[
    str | None, typer.Option(help="OCI configuration file.", show_default="~/.oci/config", metavar="FILE")
]
# The kinds are spelled out: importing them would cost `--help` the time of everything behind them.
AuthOption = Annotated[
    Literal[
        "api_key",
        "security_token",
        "instance_principal",
        "resource_principal",
        "delegation_token",
        "oke_workload_identity",
    ]
    | None,
    typer.Option(
        help="Sign-in: api_key, security_token, instance_principal, resource_principal, delegation_token or "
        "oke_workload_identity.",
        show_default="what OCI_CLI_AUTH or the profile says",
        metavar="KIND",
    ),
]
CaBundleOption = Annotated[
    Path | None,
    typer.Option(
        help="PEM file of the certificate authorities to trust.",
        show_default="REQUESTS_CA_BUNDLE, SSL_CERT_FILE, or the system's",
        metavar="FILE",
    ),
]
RegionOption = Annotated[
    list[str] | None,
    typer.Option(help="Ask only this region; repeatable.", show_default="every subscribed one", metavar="REGION"),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        help="URL for all services; {service} and {region} are filled in.",
        envvar="OCI_AUDIT_ENDPOINT",
        metavar="URL",
    ),
]
