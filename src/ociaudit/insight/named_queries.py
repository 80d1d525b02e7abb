"""Queries that are asked again and again, by name.

Owns: their text. docs/queries.md shows each of them; a test holds the two together.
"""

from __future__ import annotations

import difflib
from types import MappingProxyType
from typing import NamedTuple

from ociaudit.errors import UsageError


class NamedQuery(NamedTuple):
    """What a query answers, and its SQL."""

    question: str
    sql: str


NAMED_QUERIES = MappingProxyType(
    {
        "top-events": NamedQuery(
            "What happens most?",
            """
SELECT event_name, count(*) AS events, count(DISTINCT principal_name) AS principals,
       count(*) FILTER (outcome = 'failure') AS failures
FROM events GROUP BY event_name ORDER BY events DESC, event_name LIMIT 25""",
        ),
        "principals": NamedQuery(
            "Who does how much, from how many addresses, and how often does it fail?",
            """
SELECT coalesce(principal_name, principal_id) AS principal, count(*) AS events,
       count(*) FILTER (outcome = 'failure') AS failures, count(DISTINCT ip_address) AS addresses,
       min(event_time) AS first_seen, max(event_time) AS last_seen
FROM events GROUP BY principal ORDER BY events DESC, principal""",
        ),
        "sign-in-failures": NamedQuery(
            "Whose sign-ins failed, from where, and did one succeed afterwards?",
            """
SELECT principal_name, ip_address, count(*) FILTER (outcome = 'failure') AS failures,
       count(*) FILTER (outcome = 'success') AS successes,
       min(event_time) FILTER (outcome = 'failure') AS first_failure, max(event_time) AS last_event
FROM events WHERE event_type LIKE '%IdentitySignOn.%'
GROUP BY ALL HAVING failures > 0 ORDER BY failures DESC, first_failure""",
        ),
        "iam-changes": NamedQuery(
            "Who changed users, groups, policies or credentials?",
            """
SELECT event_time, event_name, principal_name, ip_address, resource_name, resource_id, event_id
FROM events WHERE event_type LIKE '%identityControlPlane.%' AND outcome = 'success'
  AND NOT regexp_matches(event_name, '^(Get|List|Search|Validate)')
ORDER BY event_time""",
        ),
        "new-api-keys": NamedQuery(
            "Which API keys were made, by whom, and what is their fingerprint?",
            """
SELECT event_time, principal_name, ip_address, resource_id AS user_id,
       event->>'$.data.response.payload.fingerprint' AS fingerprint, event_id
FROM events WHERE event_name IN ('UploadApiKey', 'CreateApiKey') AND outcome = 'success' ORDER BY event_time""",
        ),
        "new-addresses": NamedQuery(
            "Which addresses did a principal use for the first time in the last quarter of the file?",
            """
WITH seen AS (
  SELECT principal_name, ip_address, min(event_time) AS first_seen, count(*) AS events
  FROM events WHERE ip_address IS NOT NULL GROUP BY ALL),
bounds AS (SELECT min(event_time) AS first_event, max(event_time) AS last_event FROM events)
SELECT seen.principal_name, seen.ip_address, seen.first_seen, seen.events
FROM seen, bounds WHERE first_seen > last_event - (last_event - first_event) / 4 ORDER BY first_seen""",
        ),
        "failures": NamedQuery(
            "What is refused to whom?",
            """
SELECT event_name, status, principal_name, count(*) AS events
FROM events WHERE outcome = 'failure' GROUP BY ALL ORDER BY events DESC, event_name, principal_name LIMIT 50""",
        ),
        "deletions": NamedQuery(
            "What was deleted or terminated?",
            """
SELECT event_time, event_name, principal_name, ip_address, resource_name, compartment_name
FROM events WHERE regexp_matches(event_name, '^(Delete|Terminate|Remove|Purge)') AND outcome = 'success'
ORDER BY event_time""",
        ),
        "per-hour": NamedQuery(
            "How many events are there in each hour?",
            """
SELECT date_trunc('hour', event_time) AS hour, count(*) AS events, count(*) FILTER (outcome = 'failure') AS failures
FROM events GROUP BY hour ORDER BY hour""",
        ),
        "tools": NamedQuery(
            "With which tools is the tenancy used?",
            """
SELECT regexp_extract(user_agent, '^[^ ]+') AS tool, count(*) AS events, count(DISTINCT principal_name) AS principals
FROM events GROUP BY tool ORDER BY events DESC, tool LIMIT 25""",
        ),
    }
)


def find_named_query(name: str) -> NamedQuery:
    """Return the query of a name.

    Raises:
        UsageError: there is none; near names are in the message.
    """
    query = NAMED_QUERIES.get(name.casefold())
    if query is None:
        near = difflib.get_close_matches(name.casefold(), NAMED_QUERIES, n=3, cutoff=0.4)
        meant = f"; near: {', '.join(near)}" if near else ""
        raise UsageError(f"no query is named {name!r}{meant}", hint="`oci-audit query --list` shows all of them")
    return query
