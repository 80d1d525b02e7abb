"""What can be looked at without asking the service: configuration, private files, certificates, proxy.

Owns: these checks. Must not: show a key, a pass phrase, a token or a password.
"""

from __future__ import annotations

import ssl

from ociaudit.errors import ConfigError, RequestError, ServiceUnreachable, SignInRejected
from ociaudit.jobs.examination import Examination
from ociaudit.jobs.finding import Finding, describe_failure
from ociaudit.source.private_files import list_private_files
from ociaudit.source.proxies import choose_proxy, show_proxy, try_proxy

_PROXY_SECONDS = 5.0


async def look_at_configuration(examination: Examination) -> list[Finding]:
    """Load the configuration: profile, key, region, endpoint."""
    try:
        tools = examination.patient.load()
    except (ConfigError, SignInRejected, ServiceUnreachable) as error:
        return [describe_failure("configuration", error)]
    examination.tools = tools
    who = tools.credentials
    return [
        Finding("configuration", "ok", f"profile {who.profile}: {who.principal} of {who.tenancy}, region {who.region}")
    ]


async def look_at_files(examination: Examination) -> list[Finding]:
    """Look at who may read the configuration, the key and the token."""
    config_file = examination.patient.config_file
    if config_file is None:
        return [Finding("private files", "ok", "none is needed for this sign-in")]
    try:
        fields = examination.patient.read_fields()
    except ConfigError:
        return [Finding("private files", "skipped", "not checked, because of: configuration")]
    files = list(list_private_files(config_file, fields))
    found = [
        Finding(
            "private files",
            "warning",
            f"{file.named_by} {file.path} can be read by others (mode {file.mode:04o})",
            f"chmod 600 '{file.path}'",
        )
        for file in files
        if file.is_exposed and file.mode is not None
    ]
    found += [
        Finding(
            "private files", "failed", f"{file.named_by} {file.path}: {file.problem}", "name a file that can be read"
        )
        for file in files
        if file.problem
    ]
    return found or [Finding("private files", "ok", f"{len(files)} files, readable by their owner alone")]


async def look_at_authorities(examination: Examination) -> list[Finding]:
    """Load the certificates that were named."""
    found = []
    for named_by, path in examination.patient.authorities:
        try:
            context = ssl.create_default_context(
                cafile=None if path.is_dir() else str(path), capath=str(path) if path.is_dir() else None
            )
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            reason = getattr(error, "strerror", None) or "no path of a file"
            hint = "name a PEM file with the certificates of the authorities to trust"
            found.append(Finding("certificates", "failed", f"{named_by} {path} cannot be used: {reason}", hint))
        else:
            number = len(context.get_ca_certs())
            found.append(Finding("certificates", "ok", f"{named_by} {path}: {number} authorities are trusted"))
    return found or [Finding("certificates", "ok", "the system's authorities are trusted; none is named")]


async def look_at_proxy(examination: Examination) -> list[Finding]:
    """Connect to the proxy that the service is reached through, if there is one."""
    proxies = examination.patient.proxies
    if not examination.tools:
        return [Finding("proxy", "skipped", "not checked, because of: configuration")]
    tools = examination.tools
    url = tools.endpoints.locate("identity", tools.credentials.region)
    proxy = choose_proxy(url, proxies)
    if proxy is None:
        why = "NO_PROXY excepts the service" if proxies.keys() - {"no"} else "the environment names none"
        return [Finding("proxy", "ok", f"none is used: {why}")]
    try:
        await try_proxy(proxy, timeout_seconds=_PROXY_SECONDS)
    except RequestError as error:
        hint = "correct HTTPS_PROXY, or except the service with NO_PROXY"
        return [Finding("proxy", "failed", str(error), hint)]
    return [Finding("proxy", "ok", f"{show_proxy(proxy)} is used")]
