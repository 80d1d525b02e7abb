"""Puts the emulator together from a behaviour.

Owns: which part gets which collaborator.
Must not: start anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.control import Control
from ociaudit_emulator.event_file import EventFileError, open_event_file
from ociaudit_emulator.event_source import EventSource
from ociaudit_emulator.events import GeneratedEvents
from ociaudit_emulator.faults import FaultTable
from ociaudit_emulator.federation import Federation
from ociaudit_emulator.instance_metadata import InstanceMetadata
from ociaudit_emulator.keys import KeyRing
from ociaudit_emulator.paging import TokenCodec
from ociaudit_emulator.rate_limit import RateLimit
from ociaudit_emulator.regional_events import RegionalEvents
from ociaudit_emulator.request_log import RequestLog
from ociaudit_emulator.self_audit import SelfAudit
from ociaudit_emulator.server import Server
from ociaudit_emulator.service import Service, Services
from ociaudit_emulator.specials import SpecialCalendar
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy, make_tenancy
from ociaudit_emulator.token_issuer import TokenIssuer
from ociaudit_emulator.visible_events import Present, VisibleEvents

ReadSeconds = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Assembly:
    """A server that is ready to start, and what the command line still has to fill."""

    tenancy: Tenancy
    key_ring: KeyRing
    service: Service
    control: Control
    log: RequestLog
    server: Server


def assemble(behaviour: Behaviour, read_clock: ReadSeconds, read_monotonic: ReadSeconds) -> Assembly:
    """Put everything together.

    Raises: EventFileError when there is a file of events that cannot be served.
    """
    tenancy = make_tenancy(behaviour.seed, more_compartments=behaviour.more_compartments)
    present = Present(read_clock, behaviour.now_ms)
    source = make_source(tenancy, behaviour, present)
    self_audit = SelfAudit(source, tenancy, behaviour, present) if behaviour.is_self_auditing else None
    rate = behaviour.rate_limit_per_second
    key_ring = KeyRing(read_clock)
    issuer = TokenIssuer(tenancy, key_ring, read_clock)
    metadata = InstanceMetadata(tenancy)
    services = Services(
        tenancy=tenancy,
        behaviour=behaviour,
        source=self_audit or source,
        codec=TokenCodec(behaviour.seed),
        key_ring=key_ring,
        present=present,
        faults=FaultTable(),
        rate_limit=None if rate is None else RateLimit(rate, read_monotonic),
        self_audit=self_audit,
        metadata=metadata,
        federation=Federation(tenancy, metadata, issuer, behaviour.token_seconds),
    )
    log = RequestLog()
    control = Control(tenancy, services.source, services.faults, log, present, issuer, key_ring, behaviour.seed)
    service = Service(services, Present(read_clock, None))
    server = Server(service, control, log, behaviour.latency_ms / 1000)
    return Assembly(tenancy, services.key_ring, service, control, log, server)


def make_source(tenancy: Tenancy, behaviour: Behaviour, present: Present) -> EventSource:
    """Make the source of events: a file if one is given, the made tenancy's otherwise.

    Raises: EventFileError.
    """
    if behaviour.events_file is not None:
        return _open_event_files(behaviour.events_file, tenancy, behaviour)
    if behaviour.more_events:
        message = "--events-also stands beside --events, which is missing; --events FILE gives the home region's events"
        raise EventFileError(message)
    calendar = SpecialCalendar(tenancy, behaviour.seed)
    return VisibleEvents(GeneratedEvents(tenancy, behaviour, calendar.list_specials), present)


def _open_event_files(path: Path, tenancy: Tenancy, behaviour: Behaviour) -> EventSource:
    """Open the file of events, and those of other regions beside it.

    Raises: EventFileError.
    """
    files = {behaviour.events_region or HOME_REGION: path}
    for region, more in behaviour.more_events:
        if region in files:
            message = f"--events-also {region}={more}: this region has a file already; put the events into one"
            raise EventFileError(message)
        files[region] = more
    return RegionalEvents(
        {
            region: open_event_file(one, tenancy, replace(behaviour, events_region=region))
            for region, one in files.items()
        }
    )
