"""What an export would ask, in words and as JSON. Owns: the lines of the dry run. Must not: print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ociaudit.cli.wording import count, describe_bytes, describe_seconds
from ociaudit.jobs.preview import Preview
from ociaudit.plan.estimate import Amount, Estimate
from ociaudit.plan.window import MINUTES_PER_DAY, format_minute

_REGIONS_SHOWN = 40
_REFUSED_SHOWN = 10


def describe_preview(preview: Preview) -> Iterator[str]:
    """Yield the dry run, line by line."""
    plan = preview.plan
    regions, compartments = _list_scope(preview)
    more = f", and {len(regions) - _REGIONS_SHOWN:,} more" if len(regions) > _REGIONS_SHOWN else ""
    yield f"dry run: {count(preview.requests_made, 'request')} made, nothing written"
    yield (
        f"range       {format_minute(plan.window.start)} to {format_minute(plan.window.end)} "
        f"(processed time, end exclusive; {plan.window.minutes / MINUTES_PER_DAY:,.2f} days)"
    )
    yield f"regions     {len(regions):,}: {', '.join(regions[:_REGIONS_SHOWN])}{more}"
    yield f"places      {len(regions):,} × {count(compartments, 'compartment')} = {len(plan.places):,}"
    per_place = preview.windows // max(1, len(plan.places))
    yield (
        f"requests    at least {preview.windows:,}: {count(per_place, 'window')} of at most "
        f"{count(preview.max_window_days, 'day')} for each place, and a page or more for each"
    )
    yield f"retention   {_describe_retention(preview)}"
    yield f"settled     {_describe_horizon(preview)}"
    if preview.estimate is not None:
        yield from _describe_estimate(preview, preview.estimate)
    for shard, error in preview.refused[:_REFUSED_SHOWN]:
        request_id = f" (opc-request-id {error.request_id})" if error.request_id else ""
        yield f"refused     {shard}: {error}{request_id}"
    if len(preview.refused) > _REFUSED_SHOWN:
        yield f"refused     and {len(preview.refused) - _REFUSED_SHOWN:,} more"


def show_preview(preview: Preview) -> dict[str, Any]:
    """Return the dry run as one JSON object."""
    plan, estimate = preview.plan, preview.estimate
    regions, compartments = _list_scope(preview)
    return {
        "start": format_minute(plan.window.start),
        "end": format_minute(plan.window.end),
        "regions": regions,
        "compartments": compartments,
        "places": len(plan.places),
        "max_window_days": preview.max_window_days,
        "requests_at_least": preview.windows,
        "requests_made": preview.requests_made,
        "retention_days": plan.retention_days,
        "is_beyond_retention": preview.is_beyond_retention,
        "settled_until": format_minute(preview.settled_until),
        "is_provisional": plan.window.end > preview.settled_until,
        "estimate": _show_estimate(preview, estimate) if estimate else None,
        "refused": [
            {
                "region": shard.place.region,
                "compartment": shard.place.compartment,
                "start": format_minute(shard.window.start),
                "end": format_minute(shard.window.end),
                "reason": str(error),
                "request_id": error.request_id,
            }
            for shard, error in preview.refused
        ],
    }


def _list_scope(preview: Preview) -> tuple[list[str], int]:
    places = preview.plan.places
    return sorted({place.region for place in places}), len({place.compartment for place in places})


def _describe_retention(preview: Preview) -> str:
    days = preview.plan.retention_days
    if days is None:
        return "not known: GetConfiguration did not answer"
    if preview.is_beyond_retention:
        return f"{count(days, 'day')}: THE RANGE BEGINS BEFORE THAT; older events are gone"
    return f"{count(days, 'day')}: the whole range is kept"


def _describe_horizon(preview: Preview) -> str:
    horizon = format_minute(preview.settled_until)
    if preview.plan.window.end > preview.settled_until:
        return f"until {horizon}; what lies after it is asked and marked provisional (--settle 15m leaves it out)"
    return f"until {horizon}: nothing asked is provisional"


def _describe_estimate(preview: Preview, estimate: Estimate) -> Iterator[str]:
    yield (
        f"sample      {count(preview.probes, 'question')}: the first page of {estimate.sampled:,} of "
        f"{count(estimate.windows, 'window')}, {estimate.dense:,} of them with more pages"
        f"{' and slices of those' if estimate.dense else ''}; {estimate.seconds_per_request:.2f} s each"
    )
    yield f"events      {_describe_amount(estimate.events, is_exact=estimate.is_exact)}"
    size = estimate.size_bytes
    size_range = "" if estimate.is_exact else f" ({describe_bytes(size.low)} to {describe_bytes(size.high)})"
    yield f"bytes       about {describe_bytes(size.likely)}{size_range}, uncompressed"
    yield f"requests    {_describe_amount(estimate.requests, is_exact=estimate.is_exact)}"
    time, most = estimate.seconds, preview.speed.max_per_second
    cap = f" and at most {most:g} per second" if most else ""
    time_range = "" if estimate.is_exact else f" ({describe_seconds(time.low)} to {describe_seconds(time.high)})"
    yield (
        f"time        about {describe_seconds(time.likely)}{time_range} with "
        f"{count(preview.speed.concurrency, 'request')} in flight{cap}, if the service asks for no pause"
    )
    if not estimate.is_exact:
        yield (
            "method      mean density of the sample, root compartments apart, times all windows; the range is two "
            "standard errors of the sample"
        )
    if estimate.unlike_share:
        yield (
            f"            up to {estimate.unlike_share:.0%} of the windows may be unlike all that were sampled: "
            "a few dense places can be missed"
        )


def _describe_amount(amount: Amount, *, is_exact: bool) -> str:
    if is_exact:
        return f"{round(amount.likely):,}"
    return f"about {_round(amount.likely):,} ({_round(amount.low):,} to {_round(amount.high):,})"


def _round(number: float) -> int:
    """Keep three digits: more would pretend to be known."""
    whole = round(number)
    return round(whole, 3 - len(str(whole))) if whole >= 1000 else whole


def _show_estimate(preview: Preview, estimate: Estimate) -> dict[str, Any]:
    def show(amount: Amount) -> dict[str, float]:
        return {"likely": round(amount.likely), "low": round(amount.low), "high": round(amount.high)}

    return {
        "questions": preview.probes,
        "windows": estimate.windows,
        "windows_sampled": estimate.sampled,
        "windows_dense": estimate.dense,
        "unlike_share": round(estimate.unlike_share, 4),
        "is_exact": estimate.is_exact,
        "concurrency": preview.speed.concurrency,
        "max_requests_per_second": preview.speed.max_per_second,
        "seconds_per_request": round(estimate.seconds_per_request, 4),
        "events": show(estimate.events),
        "bytes": show(estimate.size_bytes),
        "requests": show(estimate.requests),
        "seconds": show(estimate.seconds),
    }
