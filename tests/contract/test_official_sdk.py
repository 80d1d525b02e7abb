import json

LISTING = """
compartment, start, end = arguments
options = {"compartment_id": compartment, "start_time": read_time(start), "end_time": read_time(end)}
"""
RESULTS = (
    LISTING
    + """
events = oci.pagination.list_call_get_all_results(audit.list_events, **options).data
json.dump([oci.util.to_dict(event)["event_id"] for event in events], sys.stdout)
"""
)
GENERATOR = (
    LISTING
    + """
pages = oci.pagination.list_call_get_all_results_generator(audit.list_events, "record", **options)
json.dump([oci.util.to_dict(event)["event_id"] for event in pages], sys.stdout)
"""
)
COMPARTMENTS = """
found = oci.pagination.list_call_get_all_results(
    identity.list_compartments, arguments[0], access_level="ANY", compartment_id_in_subtree=True, limit=4
).data
json.dump([one.id for one in found], sys.stdout)
"""
SINGLE = """
tenancy = identity.get_tenancy(arguments[0]).data
regions = identity.list_region_subscriptions(arguments[0]).data
first = identity.get_compartment(arguments[1]).data
days = audit.get_configuration(arguments[0]).data.retention_period_days
json.dump([tenancy.name, [one.region_name for one in regions], first.name, days], sys.stdout)
"""
ERRORS = (
    LISTING
    + """
found = {}
def attempt(name, call, *positional, **named):
    try:
        call(*positional, **named)
    except oci.exceptions.ServiceError as error:
        found[name] = [error.status, error.code, bool(error.request_id)]
attempt("unknown", audit.list_events, **{**options, "compartment_id": compartment + "x"})
attempt("reversed", audit.list_events, **{**options, "start_time": options["end_time"]})
attempt("foreign token", audit.list_events, **options, page="x")
attempt("subtree", identity.list_compartments, compartment, compartment_id_in_subtree=True)
sao_paulo = oci.audit.AuditClient(
    config, service_endpoint=url + "/sa-saopaulo-1/20190901", retry_strategy=none
)
attempt("region", sao_paulo.list_events, **options)
json.dump(found, sys.stdout)
"""
)
EVERYWHERE = """
start, end, regions, compartments = arguments
options = {"start_time": read_time(start), "end_time": read_time(end)}
counts = {}
for region in json.loads(regions):
    client = oci.audit.AuditClient(config, service_endpoint=f"{url}/{region}/20190901", retry_strategy=none)
    for one in json.loads(compartments):
        found = oci.pagination.list_call_get_all_results(client.list_events, compartment_id=one, **options).data
        counts[f"{region} {one}"] = [len(found), sum(event.event_id is None for event in found)]
json.dump(counts, sys.stdout)
"""


def list_true_ids(emulator, tenancy, window):
    """The ids of the events in a window, from the ground truth."""
    return sorted(json.loads(one)["eventId"] for one in emulator.events("us-ashburn-1", tenancy["id"], *window))


def test_the_sdk_collects_every_event(clients, emulator, tenancy, week):
    """`list_call_get_all_results` returns each event of the ground truth once."""
    ids = clients.run_sdk(RESULTS, tenancy["id"], *week)
    assert sorted(ids) == list_true_ids(emulator, tenancy, week)


def test_the_sdk_generates_every_event(clients, emulator, tenancy, week):
    """`list_call_get_all_results_generator` returns each event of the ground truth once."""
    ids = clients.run_sdk(GENERATOR, tenancy["id"], *week)
    assert sorted(ids) == list_true_ids(emulator, tenancy, week)


def test_the_sdk_reads_every_target(clients, emulator, tenancy, week):
    """In every region and readable compartment, the SDK reads all events, none of them empty."""
    regions = [one["name"] for one in tenancy["regions"] if one["status"] == "READY"]
    compartments = [one["id"] for one in tenancy["compartments"] if not one["isForbidden"]]
    counts = clients.run_sdk(EVERYWHERE, *week, json.dumps(regions), json.dumps(compartments))
    assert counts == {
        f"{region} {one}": [len(emulator.events(region, one, *week)), 0] for region in regions for one in compartments
    }


def test_the_sdk_pages_through_compartments(clients, tenancy):
    """The SDK's pagination finds every compartment of the tree in pages of four."""
    ids = clients.run_sdk(COMPARTMENTS, tenancy["id"])
    assert ids == [one["id"] for one in tenancy["compartments"] if one["parentId"]]


def test_the_sdk_reads_the_unpaged_responses(clients, tenancy):
    """Tenancy, region subscriptions, a compartment and the retention period are read as the SDK's models."""
    first = next(one for one in tenancy["compartments"] if one["parentId"])
    regions = [one["name"] for one in tenancy["regions"]]
    assert clients.run_sdk(SINGLE, tenancy["id"], first["id"]) == [tenancy["name"], regions, first["name"], 365]


def test_the_sdk_reads_every_error(clients, tenancy, week):
    """Errors raise the SDK's ServiceError with status, code and request id."""
    compartment = next(one["id"] for one in tenancy["compartments"] if one["name"] == "payments")
    assert clients.run_sdk(ERRORS, compartment, *week) == {
        "unknown": [404, "NotAuthorizedOrNotFound", True],
        "reversed": [400, "InvalidParameter", True],
        "foreign token": [400, "PaginationTokenFormat", True],
        "subtree": [400, "InvalidParameter", True],
        "region": [401, "NotAuthenticated", True],
    }
