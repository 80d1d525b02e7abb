"""Puts the emulator together from a behaviour.

Owns: which part gets which collaborator.
Must not: start anything.

The command line: flags become a behaviour, and the server runs until it is told to end.

Owns: flags, their checks, what is printed, and the exit code.
Must not: be imported by anything but `__main__`.

Invariants:
- the first line on stdout is the base URL, written when connections are accepted;
- everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ociaudit_emulator.behaviour import Behaviour, PageSize
from ociaudit_emulator.config_files import ConfigFolderError, ConfigRequest, trust_config, write_config
from ociaudit_emulator.control import Control, RequestLog
from ociaudit_emulator.event_file import EventFileError, open_event_file
from ociaudit_emulator.event_source import EventSource
from ociaudit_emulator.events import GeneratedEvents, Present, RegionalEvents, SelfAudit, VisibleEvents
from ociaudit_emulator.faults import FaultTable
from ociaudit_emulator.federation import Federation, TokenIssuer
from ociaudit_emulator.http import TokenCodec
from ociaudit_emulator.instance_metadata import InstanceMetadata
from ociaudit_emulator.instants import parse_instant_ms, read_clock_seconds
from ociaudit_emulator.server import HOST, Server
from ociaudit_emulator.service import RateLimit, Service, Services
from ociaudit_emulator.signature import KeyRing
from ociaudit_emulator.special_events import SpecialCalendar
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy, make_tenancy

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


EXIT_OK, EXIT_USAGE = 0, 2
_PROGRAM = "oci-audit emulator"
_DESCRIPTION = (
    "Serve a made Oracle Cloud tenancy on this machine: the Audit and Identity services over HTTP on loopback, for "
    "trying, testing and measuring without an account. Oracle's own command and SDK accept it. The first line on "
    "stdout is its base URL; it runs until SIGINT or SIGTERM."
)
_EPILOG = "Clients, scripted faults and what the emulator does not fake: docs/reference/emulator.md."


class TlsError(Exception):
    """A certificate that cannot be served; the text says what to do."""


def main(arguments: Sequence[str]) -> int:
    """Run the emulator; give the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        assembly = assemble(read_behaviour(options), read_clock_seconds, time.monotonic)
        _prepare_keys(options, assembly)
        return asyncio.run(_run(options, assembly, _make_tls(options.tls_cert, options.tls_key)))
    except (ConfigFolderError, EventFileError, TlsError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"cannot listen on {HOST}:{options.port}: {error.strerror}; choose another --port, or 0")


def _fail(message: str) -> int:
    """Say what is wrong and give the exit code for it."""
    sys.stderr.write(f"{_PROGRAM}: error: {message}\n")
    return EXIT_USAGE


def make_parser() -> argparse.ArgumentParser:
    """Describe the flags."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    _add_server_flags(parser)
    _add_event_flags(parser)
    _add_behaviour_flags(parser)
    return parser


def _add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Describe the flags about the process and its keys."""
    add = parser.add_argument_group("server and keys").add_argument
    add("--port", type=_read_port, default=0, help="port on 127.0.0.1; 0 takes a free one (default)")
    add("--until-stdin-closes", action="store_true", help="end when standard input reaches its end")
    add("--write-config", type=Path, metavar="DIR", help="write an OCI config and fresh keys, and trust them")
    add("--trust-config", type=Path, metavar="DIR", help="trust the keys of a DIR written earlier")
    add("--pass-phrase", metavar="TEXT", help="encrypt the written keys with it")
    add("--session-minutes", type=_read_positive, default=60.0, help="how long the written tokens last (60)")
    add("--token-seconds", type=_read_positive, default=1200.0, help="how long an instance's token lasts (1200)")
    add("--tls-cert", type=Path, metavar="FILE", help="serve https with this certificate (PEM, its chain behind it)")
    add("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")


_ALSO_HELP = "with --events: serve FILE's events in another region; repeatable"


def _add_event_flags(parser: argparse.ArgumentParser) -> None:
    """Describe the flags about the events."""
    add = parser.add_argument_group("events").add_argument
    add("--seed", type=int, default=1, help="what the tenancy and its events are made from (1)")
    add("--events", type=Path, metavar="FILE", help="serve these events (JSON array or NDJSON) instead")
    add("--events-compartment", metavar="OCID", help="put all of FILE's events into this compartment")
    add("--events-region", metavar="NAME", help="put all of FILE's events into this region")
    add("--events-also", type=_read_region_file, action="append", default=[], metavar="REGION=FILE", help=_ALSO_HELP)
    add("--compartments", type=_read_count, default=0, metavar="N", help="so many quiet compartments more (0)")
    add("--events-per-day", type=_read_count, default=2000, help="made events a day, whole tenancy (2000)")
    add("--now", type=_read_time, metavar="TIME", help="serve as if it were this moment, for ever")
    add("--retention-days", type=_read_count, help="how long events are kept (365; with --events for ever)")
    add("--late-share", type=_read_share, default=0.0, help="share of events processed late, 0 to 1 (0)")
    add("--late-minutes", type=_read_count_from_one, default=30, help="how late they are at most (30)")
    add("--self-audit", action="store_true", help="every ListEvents call becomes an event")


def _add_behaviour_flags(parser: argparse.ArgumentParser) -> None:
    """Describe the flags about the answers."""
    add = parser.add_argument_group("answers").add_argument
    add("--page-size", type=_read_page_size, default=PageSize(), metavar="N|N-M", help="events a page (100)")
    add("--latency-ms", type=_read_amount, default=0.0, help="wait this long with each page (0)")
    add("--rate-limit", type=_read_positive, metavar="N", help="Audit requests a second and region")
    add("--retry-after", type=_read_count, metavar="SECONDS", help="send Retry-After with each 429")
    add("--strict-minutes", action="store_true", help="refuse times with seconds")
    add("--no-shuffle", action="store_true", help="keep the order of processing inside a page")
    add("--gzip", action="store_true", help="compress for clients that accept it")


def read_behaviour(options: argparse.Namespace) -> Behaviour:
    """Turn the flags into a behaviour."""
    return Behaviour(
        seed=options.seed,
        events_file=options.events,
        events_compartment=options.events_compartment,
        events_region=options.events_region,
        more_events=tuple(options.events_also),
        more_compartments=options.compartments,
        events_per_day=options.events_per_day,
        page_size=options.page_size,
        latency_ms=options.latency_ms,
        rate_limit_per_second=options.rate_limit,
        retry_after_seconds=options.retry_after,
        late_share=options.late_share,
        late_minutes=options.late_minutes,
        retention_days=options.retention_days,
        now_ms=options.now,
        is_strict_about_minutes=options.strict_minutes,
        is_self_auditing=options.self_audit,
        is_shuffling=not options.no_shuffle,
        is_gzip_allowed=options.gzip,
        token_seconds=options.token_seconds,
    )


def _prepare_keys(options: argparse.Namespace, assembly: Assembly) -> None:
    """Write and trust the configurations that were named."""
    if options.write_config is not None:
        request = ConfigRequest(
            options.write_config, options.pass_phrase, options.session_minutes, read_clock_seconds()
        )
        write_config(request, assembly.tenancy, assembly.key_ring)
    if options.trust_config is not None:
        trust_config(options.trust_config, assembly.tenancy, assembly.key_ring)


def _make_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Make the server's side of TLS, if a certificate is given.

    Raises: TlsError.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        message = "--tls-cert and --tls-key belong together; give both"
        raise TlsError(message)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        message = (
            f"--tls-cert {certificate} --tls-key {key}: not a certificate and its key without pass phrase ({error})"
        )
        raise TlsError(message) from error
    return context


async def _run(options: argparse.Namespace, assembly: Assembly, context: ssl.SSLContext | None) -> int:
    """Serve until a signal or the end of standard input."""
    is_over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, is_over.set)
    runner, port = await assembly.server.start(options.port, context)
    if options.until_stdin_closes:
        _watch_stdin(loop, is_over)
    sys.stdout.write(f"{'https' if context else 'http'}://{HOST}:{port}\n")
    sys.stdout.flush()
    await is_over.wait()
    await runner.cleanup()
    return EXIT_OK


def _watch_stdin(loop: asyncio.AbstractEventLoop, is_over: asyncio.Event) -> None:
    """Notice the end of standard input; what comes before it is ignored."""
    descriptor = sys.stdin.fileno()

    def read_on() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            is_over.set()

    try:
        loop.add_reader(descriptor, read_on)
    except PermissionError:
        # A file or the null device cannot be watched, and has no writer whose end could be waited for.
        is_over.set()


def _read_region_file(text: str) -> tuple[str, Path]:
    """Read a region and the file of its events."""
    region, _, path = text.partition("=")
    _check(0, text, "a region and a file, such as eu-frankfurt-1=events.ndjson", is_good=bool(region and path))
    return region, Path(path)


def _read_port(text: str) -> int:
    """Read a port."""
    port = _read_count(text)
    return int(_check(port, text, "a port from 0 to 65535", is_good=port < 65536))


def _read_count(text: str) -> int:
    """Read a whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        message = f"{text!r} is not a whole number from 0"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _read_count_from_one(text: str) -> int:
    """Read a whole number from 1."""
    is_good = text.isascii() and text.isdigit() and int(text) > 0
    return int(_check(int(text) if is_good else 0, text, "a whole number from 1", is_good=is_good))


def _read_amount(text: str) -> float:
    """Read a number from 0."""
    number = _read_float(text)
    return _check(number, text, "a number from 0", is_good=0 <= number < float("inf"))


def _read_positive(text: str) -> float:
    """Read a number above 0."""
    number = _read_float(text)
    return _check(number, text, "a number above 0", is_good=0 < number < float("inf"))


def _read_share(text: str) -> float:
    """Read a number from 0 to 1."""
    number = _read_float(text)
    return _check(number, text, "a number from 0 to 1", is_good=0 <= number <= 1)


def _read_float(text: str) -> float:
    """Read a number; what is none becomes one that no check accepts."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _read_page_size(text: str) -> PageSize:
    """Read a page size such as `100` or `50-150`."""
    smallest, _, largest = text.partition("-")
    size = PageSize(_read_count(smallest), _read_count(largest or smallest))
    _check(0, text, "a number from 1, or a range such as 50-150", is_good=1 <= size.smallest <= size.largest)
    return size


def _read_time(text: str) -> int:
    """Read a moment, in milliseconds since 1970."""
    try:
        return parse_instant_ms(text)
    except ValueError as error:
        message = f"{text!r} is no time; write it as 2025-12-01T00:00:00Z"
        raise argparse.ArgumentTypeError(message) from error


def _check(number: float, text: str, wanted: str, *, is_good: bool) -> float:
    """Give the number back if it is good."""
    if not is_good:
        message = f"{text!r} is not {wanted}"
        raise argparse.ArgumentTypeError(message)
    return number
