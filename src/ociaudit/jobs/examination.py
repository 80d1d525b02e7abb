"""What is examined, and what is known of it so far.

Owns: these two forms. Must not: look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ociaudit.errors import RequestError, ScopeUnreadable, SignInRejected
from ociaudit.jobs.order import Tools
from ociaudit.jobs.service import Service
from ociaudit.plan.scope import Compartment, Region
from ociaudit.source.identity import Listing


@dataclass(frozen=True, slots=True)
class Patient:
    """What is to be examined. `load` and `read_fields` raise `ConfigError` where the configuration is not usable.

    `config_file` is None where the sign-in needs no file. `authorities` are the files of certificates that were named,
    each with what names it. `regions` are those to look at; without any, all that the tenancy has subscribed to.
    """

    config_file: Path | None
    read_fields: Callable[[], Mapping[str, Any]]
    load: Callable[[], Tools]
    authorities: Sequence[tuple[str, Path]] = ()
    proxies: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()


@dataclass(slots=True)
class Examination:
    """What is known so far."""

    patient: Patient
    tools: Tools | None = None
    service: Service | None = None
    listing: Listing[Region] | ScopeUnreadable = field(default_factory=lambda: Listing((), ()))
    rejection: SignInRejected | None = None
    compartments: tuple[Compartment, ...] = ()
    regions: tuple[str, ...] = ()
    answers: dict[str, RequestError | None] = field(default_factory=dict)

    @property
    def asked(self) -> tuple[Tools, Service]:
        """Return the collaborators of checks that ask; those run only when there are some."""
        if self.tools is None or self.service is None:
            raise AssertionError("a check that asks needs the configuration")
        return self.tools, self.service

    @property
    def readable_regions(self) -> list[str]:
        """Return the regions in which the root compartment can be read."""
        return [region for region, error in self.answers.items() if error is None]
