"""The emulator's command line: flags become settings, the parts are assembled, and the server runs until it ends.

Invariants:
- the first line on stdout is the base URL, written when connections are accepted;
- everything else goes to stderr;
- invalid flags, files and folders end the process with exit code 2 before it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ociaudit_emulator.config_files import ConfigFolderError, ConfigRequest, trust_config, write_config
from ociaudit_emulator.control import Control, RequestLog
from ociaudit_emulator.event_file import EventFileError, open_event_file
from ociaudit_emulator.event_store import EventStore
from ociaudit_emulator.events import (
    Appearance,
    AppearanceRule,
    GeneratedEvents,
    RegionalEvents,
    SelfAudit,
    ServiceClock,
    VisibleEvents,
)
from ociaudit_emulator.faults import FaultTable
from ociaudit_emulator.federation import Federation, InstanceMetadata, TokenIssuer
from ociaudit_emulator.http import TokenCodec
from ociaudit_emulator.object_api import ObjectApi
from ociaudit_emulator.object_store import ObjectStore
from ociaudit_emulator.request_handler import RateLimit, RequestHandler, ServiceParts
from ociaudit_emulator.server import HOST, Server
from ociaudit_emulator.settings import PageSize, Settings
from ociaudit_emulator.signature import DateCheck, KeyRing
from ociaudit_emulator.special_events import SpecialCalendar
from ociaudit_emulator.tenancy import HOME_REGION, ChangeError, Tenancy, Timeline, make_tenancy
from ociaudit_emulator.time_formats import parse_span_ms, parse_time_ms, read_clock_seconds

_EXIT_OK, _EXIT_USAGE = 0, 2
_PROGRAM = "oci-audit emulator"
_DESCRIPTION = (
    "Serve a synthetic Oracle Cloud tenancy on this machine: the Audit, Identity and Object Storage services over HTTP "
    "on loopback, for trials, tests and measurements without an account. Oracle's own CLI and SDKs work with it. The "
    "first line on stdout is the base URL. The server runs until SIGINT or SIGTERM."
)
_EPILOG = "For client configuration, scripted faults and limitations, see docs/reference/emulator.md."
_ALSO_HELP = "with --events: serve the events of FILE in another region; repeatable"
ReadSeconds = Callable[[], float]


class TlsError(Exception):
    """A certificate that cannot be served; the text says why."""


def main(arguments: Sequence[str]) -> int:
    """Run the emulator and return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        assembly = assemble(read_settings(options), read_clock_seconds, time.monotonic)
        _prepare_keys(options, assembly)
        return asyncio.run(_run(options, assembly, _make_tls(options.tls_cert, options.tls_key)))
    except (ChangeError, ConfigFolderError, EventFileError, TlsError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"cannot listen on {HOST}:{options.port}: {error.strerror}; choose another --port, or 0")


def _fail(message: str) -> int:
    """Print an error and return its exit code."""
    sys.stderr.write(f"{_PROGRAM}: error: {message}\n")
    return _EXIT_USAGE


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    _add_server_flags(parser)
    _add_event_flags(parser)
    _add_time_flags(parser)
    _add_object_flags(parser)
    _add_response_flags(parser)
    return parser


def _add_server_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("server and keys").add_argument
    add("--port", type=_parse_port, default=0, help="port on 127.0.0.1; 0 selects a free one (default: 0)")
    add("--until-stdin-closes", action="store_true", help="end when standard input is closed")
    add("--write-config", type=Path, metavar="DIR", help="write an OCI configuration with new keys, and trust them")
    add("--trust-config", type=Path, metavar="DIR", help="trust the keys in a folder written by --write-config")
    add("--pass-phrase", metavar="TEXT", help="encrypt the written keys with this pass phrase")
    add("--session-minutes", type=_parse_positive, default=60.0, help="lifetime of the written tokens (default: 60)")
    add("--token-seconds", type=_parse_positive, default=1200.0, help="lifetime of an instance's token (default: 1200)")
    add("--tls-cert", type=Path, metavar="FILE", help="serve HTTPS with this certificate chain (PEM, leaf first)")
    add("--tls-key", type=Path, metavar="FILE", help="private key of the certificate (PEM)")


def _add_event_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("events").add_argument
    add("--seed", type=int, default=1, help="seed of the tenancy and its events (default: 1)")
    add("--events", type=Path, metavar="FILE", help="serve the events of FILE (JSON array or NDJSON) instead")
    add("--events-compartment", metavar="OCID", help="assign all events of FILE to this compartment")
    add("--events-region", metavar="NAME", help="assign all events of FILE to this region")
    add("--events-also", type=_parse_region_file, action="append", default=[], metavar="REGION=FILE", help=_ALSO_HELP)
    add("--compartments", type=_parse_count, default=0, metavar="N", help="add N quiet compartments (default: 0)")
    add("--events-per-day", type=_parse_count, default=2000, help="generated events per day (default: 2000)")
    add("--retention-days", type=_parse_count, help="retention period (default: 365; unlimited with --events)")
    add("--late-share", type=_parse_share, default=0.0, help="share of events processed late, 0 to 1 (default: 0)")
    add("--late-minutes", type=_parse_count_from_one, default=30, help="maximum delay of late events (default: 30)")
    add("--self-audit", action="store_true", help="record every ListEvents call as an event")


def _add_time_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the course of time")
    add = group.add_argument
    clock = group.add_mutually_exclusive_group().add_argument
    clock("--now", type=_parse_time, metavar="TIME", help="stop the service's clock at this time")
    clock("--clock-start", type=_parse_time, metavar="TIME", help="start the service's clock at this time")
    add("--delayed-share", type=_parse_share, default=0.0, help="share of events that appear later (default: 0)")
    add("--delayed-by", type=_parse_span, default="3h", metavar="SPAN", help="longest such delay (default: 3h)")
    add("--delay-distribution", choices=("uniform", "exponential", "fixed"), default="uniform", help="of the delays")
    add("--reserialised-share", type=_parse_share, default=0.0, help="share served in other bytes later (default: 0)")
    add("--reserialised-after", type=_parse_span, default="1m", metavar="SPAN", help="how much later (default: 1m)")
    add("--expired-empty", action="store_true", help="give no events before the retention period, instead of 400")
    add("--changes", type=Path, metavar="FILE", help="change compartments and regions as this JSON file says")


def _add_object_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("object storage").add_argument
    add("--bucket", action="append", default=[], metavar="NAME", help="create a bucket; repeatable")
    add("--commit-unconditional", action="store_true", help="ignore the conditions of a multipart commit")


def _add_response_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("responses").add_argument
    add(
        "--page-size", type=_parse_page_size, default=PageSize(), metavar="N|N-M", help="events per page (default: 100)"
    )
    add("--search-cap", type=_parse_count_from_one, metavar="N", help="Logging Search gives at most N results a query")
    add("--latency-ms", type=_parse_amount, default=0.0, help="delay of each page of events (default: 0)")
    add("--rate-limit", type=_parse_positive, metavar="N", help="Audit requests per second and region")
    add("--retry-after", type=_parse_count, metavar="SECONDS", help="send Retry-After with each 429")
    add("--strict-minutes", action="store_true", help="reject times with seconds")
    add("--no-shuffle", action="store_true", help="keep the processing order within a page")
    add("--gzip", action="store_true", help="compress responses for clients that accept gzip")


def read_settings(options: argparse.Namespace) -> Settings:
    """Return the settings that the flags describe."""
    return Settings(
        seed=options.seed,
        events_file=options.events,
        events_compartment=options.events_compartment,
        events_region=options.events_region,
        more_events=tuple(options.events_also),
        more_compartments=options.compartments,
        events_per_day=options.events_per_day,
        page_size=options.page_size,
        search_cap=options.search_cap,
        latency_ms=options.latency_ms,
        rate_limit_per_second=options.rate_limit,
        retry_after_seconds=options.retry_after,
        late_share=options.late_share,
        late_minutes=options.late_minutes,
        retention_days=options.retention_days,
        now_ms=options.now,
        clock_start_ms=options.clock_start,
        delayed_share=options.delayed_share,
        delayed_by=options.delayed_by,
        delay_distribution=options.delay_distribution,
        reserialised_share=options.reserialised_share,
        reserialised_after=options.reserialised_after,
        is_expired_empty=options.expired_empty,
        changes_file=options.changes,
        buckets=tuple(options.bucket),
        is_commit_unconditional=options.commit_unconditional,
        is_strict_about_minutes=options.strict_minutes,
        is_self_auditing=options.self_audit,
        is_shuffling=not options.no_shuffle,
        is_gzip_allowed=options.gzip,
        token_seconds=options.token_seconds,
    )


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of an emulator that is ready to start."""

    tenancy: Tenancy
    key_ring: KeyRing
    handler: RequestHandler
    control: Control
    server: Server
    objects: ObjectStore


def assemble(settings: Settings, read_clock: ReadSeconds, read_monotonic: ReadSeconds) -> Assembly:
    """Create the parts of an emulator and connect them.

    Raises: EventFileError when the file of events cannot be served, ChangeError for invalid changes.
    """
    tenancy = make_tenancy(settings.seed, more_compartments=settings.more_compartments)
    clock = make_clock(settings, read_clock)
    timeline = _make_timeline(tenancy, settings, clock)
    appearance = make_appearance(settings)
    dates = DateCheck(read_clock)
    store = VisibleEvents(
        make_store(tenancy, settings), clock, timeline, appearance, is_always_there=settings.events_file is not None
    )
    self_audit = SelfAudit(store, tenancy, settings, clock) if settings.is_self_auditing else None
    rate = settings.rate_limit_per_second
    key_ring = KeyRing(read_clock)
    issuer = TokenIssuer(tenancy, key_ring, read_clock)
    metadata = InstanceMetadata(tenancy)
    objects = _make_object_store(tenancy, settings, clock)
    parts = ServiceParts(
        timeline=timeline,
        appearance=appearance,
        settings=settings,
        store=self_audit or store,
        codec=TokenCodec(settings.seed),
        key_ring=key_ring,
        clock=clock,
        dates=dates,
        faults=FaultTable(),
        rate_limit=None if rate is None else RateLimit(rate, read_monotonic),
        self_audit=self_audit,
        metadata=metadata,
        federation=Federation(tenancy, metadata, issuer, settings.token_seconds),
        objects=ObjectApi(tenancy, objects, is_commit_unconditional=settings.is_commit_unconditional),
    )
    log = RequestLog()
    control = Control(
        timeline,
        self_audit or store,
        appearance,
        dates,
        parts.faults,
        log,
        clock,
        issuer,
        key_ring,
        settings.seed,
        objects,
    )
    handler = RequestHandler(parts)
    server = Server(handler, control, log, objects, settings.latency_ms / 1000)
    return Assembly(tenancy, key_ring, handler, control, server, objects)


def make_clock(settings: Settings, read_clock: ReadSeconds) -> ServiceClock:
    """Return the services' clock: the machine's, a stopped one, or one that runs from a given time."""
    offset_ms = 0
    if settings.clock_start_ms is not None:
        offset_ms = settings.clock_start_ms - int(read_clock() * 1000)
    return ServiceClock(read_clock, settings.now_ms, offset_ms)


def make_appearance(settings: Settings) -> Appearance:
    """Return how events appear, as the flags say."""
    delay = AppearanceRule(settings.delayed_share, parse_span_ms(settings.delayed_by), settings.delay_distribution)
    later = AppearanceRule(settings.reserialised_share, parse_span_ms(settings.reserialised_after))
    return Appearance(
        settings.seed,
        delays=[delay] if settings.delayed_share else [],
        reserialised=[later] if settings.reserialised_share else [],
        is_expired_empty=settings.is_expired_empty,
    )


def _make_timeline(tenancy: Tenancy, settings: Settings, clock: ServiceClock) -> Timeline:
    """Return the tenancy in the course of time, with the changes of the file if there is one.

    Raises: ChangeError.
    """
    timeline = Timeline(tenancy, settings.seed, settings.kept_days)
    path = settings.changes_file
    if path is None:
        return timeline
    try:
        timeline.add(json.loads(path.read_bytes()), clock.read_ms())
    except (OSError, ValueError, ChangeError) as error:
        message = f"--changes {path}: {error}"
        raise ChangeError(message) from error
    return timeline


def _make_object_store(tenancy: Tenancy, settings: Settings, clock: ServiceClock) -> ObjectStore:
    """Return Object Storage with the buckets of the flags, in the home region."""
    objects = ObjectStore(clock.read_ms)
    for name in settings.buckets:
        objects.create_bucket(HOME_REGION, name, tenancy.id)
    return objects


def make_store(tenancy: Tenancy, settings: Settings) -> EventStore:
    """Return the store of events, future ones included: of the given files, otherwise of the synthetic tenancy.

    Raises: EventFileError.
    """
    if settings.events_file is not None:
        return _open_event_files(settings.events_file, tenancy, settings)
    if settings.more_events:
        message = "--events-also requires --events; add --events FILE for the events of the home region"
        raise EventFileError(message)
    calendar = SpecialCalendar(tenancy, settings.seed)
    return GeneratedEvents(tenancy, settings, calendar.list_specials)


def _open_event_files(path: Path, tenancy: Tenancy, settings: Settings) -> EventStore:
    """Open the file of `--events`, and one file for each other region.

    Raises: EventFileError.
    """
    files = {settings.events_region or HOME_REGION: path}
    for region, other in settings.more_events:
        if region in files:
            message = f"--events-also {region}={other}: this region already has a file; put all its events into one"
            raise EventFileError(message)
        files[region] = other
    return RegionalEvents(
        {
            region: open_event_file(one, tenancy, replace(settings, events_region=region))
            for region, one in files.items()
        }
    )


def _prepare_keys(options: argparse.Namespace, assembly: Assembly) -> None:
    """Write or trust the configurations that the options name."""
    if options.write_config is not None:
        request = ConfigRequest(
            options.write_config, options.pass_phrase, options.session_minutes, read_clock_seconds()
        )
        write_config(request, assembly.tenancy, assembly.key_ring)
    if options.trust_config is not None:
        trust_config(options.trust_config, assembly.tenancy, assembly.key_ring)


def _make_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the context of a TLS server; None without a certificate.

    Raises: TlsError.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        message = "--tls-cert and --tls-key require each other; set both"
        raise TlsError(message)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        message = (
            f"--tls-cert {certificate} --tls-key {key}: cannot load the certificate ({error}); "
            "set a PEM certificate and its unencrypted private key"
        )
        raise TlsError(message) from error
    return context


async def _run(options: argparse.Namespace, assembly: Assembly, context: ssl.SSLContext | None) -> int:
    """Serve until a signal arrives or standard input is closed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner, port = await assembly.server.start(options.port, context)
    if options.until_stdin_closes:
        _watch_stdin(loop, stop)
    sys.stdout.write(f"{'https' if context else 'http'}://{HOST}:{port}\n")
    sys.stdout.flush()
    await stop.wait()
    await runner.cleanup()
    assembly.objects.close()
    return _EXIT_OK


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set the event when standard input is closed; its content is ignored."""
    descriptor = sys.stdin.fileno()

    def read_input() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            stop.set()

    try:
        loop.add_reader(descriptor, read_input)
    except PermissionError:
        # A regular file or the null device cannot be watched; it has no writer that could close it.
        stop.set()


def _parse_region_file(text: str) -> tuple[str, Path]:
    """Parse a region and the file of its events."""
    region, _, path = text.partition("=")
    _check(0, text, "a region and a file, such as eu-frankfurt-1=events.ndjson", is_valid=bool(region and path))
    return region, Path(path)


def _parse_port(text: str) -> int:
    port = _parse_count(text)
    return int(_check(port, text, "a port from 0 to 65535", is_valid=port < 65536))


def _parse_count(text: str) -> int:
    """Parse a whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        message = f"{text!r} is not a whole number from 0"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _parse_count_from_one(text: str) -> int:
    """Parse a whole number from 1."""
    is_valid = text.isascii() and text.isdigit() and int(text) > 0
    return int(_check(int(text) if is_valid else 0, text, "a whole number from 1", is_valid=is_valid))


def _parse_amount(text: str) -> float:
    """Parse a number from 0."""
    number = _parse_float(text)
    return _check(number, text, "a number from 0", is_valid=0 <= number < float("inf"))


def _parse_positive(text: str) -> float:
    """Parse a number above 0."""
    number = _parse_float(text)
    return _check(number, text, "a number above 0", is_valid=0 < number < float("inf"))


def _parse_share(text: str) -> float:
    """Parse a number from 0 to 1."""
    number = _parse_float(text)
    return _check(number, text, "a number from 0 to 1", is_valid=0 <= number <= 1)


def _parse_float(text: str) -> float:
    """Parse a number; any other text becomes NaN, which no check accepts."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _parse_page_size(text: str) -> PageSize:
    """Parse a page size such as `100` or `50-150`."""
    smallest, _, largest = text.partition("-")
    size = PageSize(_parse_count(smallest), _parse_count(largest or smallest))
    _check(0, text, "a number from 1, or a range such as 50-150", is_valid=1 <= size.smallest <= size.largest)
    return size


def _parse_span(text: str) -> str:
    """Check a span such as `3h` or `1d12h`."""
    try:
        is_valid = parse_span_ms(text) > 0
    except ValueError:
        is_valid = False
    _check(0, text, "a span such as 3h or 1d12h", is_valid=is_valid)
    return text


def _parse_time(text: str) -> int:
    """Parse a time, in milliseconds since 1970."""
    try:
        return parse_time_ms(text)
    except ValueError as error:
        message = f"{text!r} is not a time; write it as 2025-12-01T00:00:00Z"
        raise argparse.ArgumentTypeError(message) from error


def _check(number: float, text: str, expected: str, *, is_valid: bool) -> float:
    """Return the number if it is valid."""
    if not is_valid:
        message = f"{text!r} is not {expected}"
        raise argparse.ArgumentTypeError(message)
    return number
