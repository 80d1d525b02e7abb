"""`oci-audit doctor`: whether everything is in place. Owns: its options. Must not: know the checks."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ociaudit.cli import console
from ociaudit.cli.sign_in_options import (
    AuthOption,
    CaBundleOption,
    ConfigFileOption,
    EndpointOption,
    ProfileOption,
    RegionOption,
)

NOT_IN_PLACE_EXIT_CODE = 3


def doctor(
    *,
    profile: ProfileOption = None,
    config_file: ConfigFileOption = None,
    auth: AuthOption = None,
    ca_bundle: CaBundleOption = None,
    region: RegionOption = None,
    endpoint: EndpointOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Check configuration, key, proxy, certificates, clock, regions, permissions and retention; say what to do.

    Exit codes: 0 nothing failed, 3 something did, 2 usage.
    """
    from ociaudit import library
    from ociaudit.cli.doctor_view import describe_findings, show_findings

    findings = library.diagnose(
        profile=profile,
        config_file=config_file,
        auth=auth,
        ca_bundle=ca_bundle,
        regions=region or (),
        endpoint=endpoint,
    )
    if as_json:
        console.say_answer(json.dumps(show_findings(findings)))
    else:
        for line in describe_findings(findings):
            console.say_answer(line)
    return NOT_IN_PLACE_EXIT_CODE if any(finding.status == "failed" for finding in findings) else 0
