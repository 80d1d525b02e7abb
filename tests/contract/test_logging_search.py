"""Oracle's own clients and the emulator's Logging Search: LogSearchClient, `oci logging-search`."""

from datetime import UTC, datetime, timedelta

import pytest

from support.truth import find_compartment, list_compartments

SCRIPT = """
from oci.loggingsearch import LogSearchClient
from oci.loggingsearch.models import SearchLogsDetails
client = LogSearchClient(config, service_endpoint=url + "/20190909", retry_strategy=none)

def search(query, start, end, **options):
    details = SearchLogsDetails(time_start=start, time_end=end, search_query=query, is_return_field_info=False)
    try:
        return client.search_logs(details, **options)
    except oci.exceptions.ServiceError as error:
        return [error.status, error.code]

def read_all(query, start, end, **options):
    found, pages, token = [], 0, None
    while True:
        response = search(query, start, end, **options, **({"page": token} if token else {}))
        found += [one.data for one in response.data.results]
        pages += 1
        token = response.headers.get("opc-next-page")
        if not token:
            return found, pages, response.data.summary.result_count
"""


@pytest.fixture
def sdk(clients):
    """Run a script with the SDK's client for Logging Search."""
    return lambda script, *arguments: clients.run_sdk(SCRIPT + script, *arguments)


def test_the_sdk_reads_every_event_of_a_compartment_page_by_page(sdk, emulator, week):
    """The SDK's client gets the events of ListEvents as CloudEvents, in the order asked for, over several pages."""
    compartment = find_compartment(emulator, "payments")
    result = sdk(
        """
compartment, start, end = arguments
query = f'search "{compartment}/_Audit" | sort by datetime asc'
found, pages, count = read_all(query, start, end, limit=100)
newest, _, _ = read_all(query.replace("asc", "desc"), start, end, limit=1000)
listed = oci.pagination.list_call_get_all_results(
    audit.list_events, compartment, read_time(start), read_time(end)).data
names = {one.event_id: one for one in listed}
print(json.dumps({
    "pages": pages,
    "last": count,
    "ids": sorted(one["logContent"]["id"] for one in found) == sorted(names),
    "types": all(names[one["logContent"]["id"]].event_type == one["logContent"]["type"] for one in found),
    "names": all(
        names[one["logContent"]["id"]].data.event_name == one["logContent"]["data"].get("eventName") for one in found),
    "ascending": [one["datetime"] for one in found] == sorted(one["datetime"] for one in found),
    "reversed": [one["datetime"] for one in found] == [one["datetime"] for one in newest][::-1],
    "compartments": sorted({one["logContent"]["oracle"]["compartmentid"] for one in found}),
}))
""",
        compartment,
        *week,
    )
    last = result.pop("last")
    assert result.pop("pages") > 3
    assert 0 < last <= 100
    assert result == {
        **dict.fromkeys(("ids", "types", "names", "ascending", "reversed"), True),
        "compartments": [compartment],
    }


def test_the_whole_tenancy_is_one_search(sdk, emulator, tenancy, week):
    """`_Audit_Include_Subcompartment` of the tenancy covers every readable compartment."""
    start = (datetime.fromisoformat(week[1]) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:00Z")
    result = sdk(
        """
tenancy, start, end = arguments
query = f'search "{tenancy}/_Audit_Include_Subcompartment" | sort by datetime asc'
found, _, _ = read_all(query, start, end, limit=1000)
print(json.dumps(sorted({one["logContent"]["oracle"]["compartmentid"] for one in found})))
""",
        tenancy["id"],
        start,
        week[1],
    )
    assert len(result) > 3
    assert not set(result) & set(list_compartments(emulator, is_forbidden=True))


def test_what_oracle_refuses_is_refused(sdk, emulator, tenancy):
    """More than 14 days, an unknown query and a bad token are 400, a forbidden compartment is 404."""
    denied = list_compartments(emulator, is_forbidden=True)[0]
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    times = [(now - timedelta(days=days)).isoformat() for days in (15, 0, 1)]
    result = sdk(
        """
tenancy, denied, early, now, late = arguments
query = f'search "{tenancy}/_Audit"'
print(json.dumps([
    search(query, early, now),
    search(query, now, late),
    search("search everything", late, now),
    search(query, late, now, page="unknown"),
    search(f'search "{denied}/_Audit"', late, now),
    len(search(query, late, now, limit=5000).data.results) <= 1000,
]))
""",
        tenancy["id"],
        denied,
        *times,
    )
    assert result == [
        *[[400, "InvalidParameter"]] * 3,
        [400, "PaginationTokenFormat"],
        [404, "NotAuthorizedOrNotFound"],
        True,
    ]


def test_the_command_line_of_oracle_searches(clients, emulator, week):
    """`oci logging-search search-logs` gives the results of one page."""
    compartment = find_compartment(emulator, "payments")
    found = clients.read_cli(
        *("logging-search", "search-logs", "--search-query", f'search "{compartment}/_Audit" | sort by datetime desc'),
        *("--time-start", week[0], "--time-end", week[1], "--limit", "7"),
    )
    assert len(found["results"]) == 7
    assert found["results"][0]["data"]["logContent"]["specversion"] == "1.0"
