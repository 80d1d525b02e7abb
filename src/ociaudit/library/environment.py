"""Who asks, through what, and what the environment says of it.

Owns: the resolution of the environment, once per call. Must not: ask the service.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import getproxies_environment

from ociaudit.jobs.examination import Patient
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.order import Tools
from ociaudit.jobs.stop import StopRequest
from ociaudit.source.auth import SignIn
from ociaudit.source.certificates import Bundle, choose_bundle, make_ssl_context
from ociaudit.source.clock import SystemClock
from ociaudit.source.config_file import DEFAULT_CONFIG_FILE, read_profile
from ociaudit.source.credentials import AuthKind
from ociaudit.source.endpoints import Endpoints
from ociaudit.source.proxies import check_proxies
from ociaudit.source.transport import TransportLimits

ENDPOINT_VARIABLE = "OCI_AUDIT_ENDPOINT"


@dataclass(frozen=True, slots=True)
class Access:
    """How to sign in and where to ask, as a caller named it; None leaves it to the environment and the profile."""

    profile: str | None = None
    config_file: str | None = None
    auth: AuthKind | None = None
    uses_cli_variables: bool = True
    ca_bundle: str | Path | None = None
    endpoint: str | None = None

    def resolve(
        self,
        *,
        observer: Observer | None = None,
        stop: StopRequest | None = None,
        limits: TransportLimits | None = None,
    ) -> Tools:
        """Read the environment and the profile.

        Raises:
            OciAuditError: what they say cannot be used; the class says by whose fault.
        """
        bundle = self._choose_bundle()
        context = make_ssl_context(bundle) if bundle else None
        sign_in = SignIn(self.profile, self.config_file, self.auth, self.uses_cli_variables)
        return Tools(
            credentials=sign_in.load(os.environ, bundle.path if bundle else None),
            endpoints=Endpoints(self.endpoint or os.environ.get(ENDPOINT_VARIABLE) or None),
            clock=SystemClock(),
            observer=observer or Observer(),
            stop=stop or StopRequest(),
            limits=limits or TransportLimits(),
            proxies=check_proxies(getproxies_environment()),
            ssl_context=context,
        )

    def describe_patient(self, regions: Sequence[str]) -> Patient:
        """Return what a diagnosis looks at, none of it resolved yet."""
        bundle = self._choose_bundle()
        place = self.config_file or os.environ.get("OCI_CLI_CONFIG_FILE") or DEFAULT_CONFIG_FILE
        return Patient(
            config_file=Path(os.path.expanduser(place)),  # noqa: PTH111 - an unknown `~user` stays
            read_fields=lambda: read_profile(self.config_file, self.profile, os.environ).fields,
            load=self.resolve,
            authorities=((bundle.named_by, bundle.path),) if bundle else (),
            proxies=getproxies_environment(),
            regions=tuple(regions),
        )

    def _choose_bundle(self) -> Bundle | None:
        return choose_bundle(Path(self.ca_bundle) if self.ca_bundle is not None else None, os.environ)
