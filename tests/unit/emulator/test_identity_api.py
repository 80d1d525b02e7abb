import json

import pytest

from ociaudit_emulator.http import NEXT_PAGE_HEADER

COMPARTMENTS = "/20160918/compartments"


def list_names(service, **parameters):
    """The names of the compartments in a listing."""
    response = service.get(COMPARTMENTS, compartmentId=service.tenancy.id, **parameters)
    assert response.status == 200, response.body
    return [one["name"] for one in json.loads(response.body)]


def read_code(response):
    """The status and the code of an error."""
    return response.status, json.loads(response.body)["code"]


def test_the_subscribed_regions_are_listed(service):
    """Three regions are READY, one is in progress, and us-ashburn-1 is the home region."""
    response = service.get(f"/20160918/tenancies/{service.tenancy.id}/regionSubscriptions")
    regions = json.loads(response.body)
    assert [one["status"] for one in regions] == ["READY", "READY", "READY", "IN_PROGRESS"]
    assert [one["regionName"] for one in regions if one["isHomeRegion"]] == ["us-ashburn-1"]
    assert regions[0]["regionKey"] == "IAD"


def test_the_subtree_is_every_compartment_except_root(service):
    """The subtree of the tenancy has all compartments of every state and depth, except root."""
    names = list_names(service, compartmentIdInSubtree="true", accessLevel="ANY")
    assert names == [one.name for one in service.tenancy.compartments[1:]]
    assert {"web-shop-cache", "retired-2019", "investigations"} <= set(names)


def test_without_subtree_only_children_are_listed(service):
    """A listing without subtree has the direct children of the requested compartment."""
    assert "payments" not in list_names(service)
    parent = service.find_compartment("production")
    children = json.loads(service.get(COMPARTMENTS, compartmentId=parent).body)
    assert {one["name"] for one in children} == {"payments", "web-shop"}
    assert all(one["compartmentId"] == parent for one in children)


def test_accessible_omits_the_forbidden_compartment(service):
    """With accessLevel ACCESSIBLE, the forbidden compartment is not listed."""
    names = list_names(service, compartmentIdInSubtree="true", accessLevel="ACCESSIBLE")
    assert "investigations" not in names
    assert len(names) == len(service.tenancy.compartments) - 2


def test_a_listing_can_be_limited_to_a_state(service):
    """With lifecycleState, only compartments of that state are listed."""
    assert list_names(service, compartmentIdInSubtree="true", lifecycleState="DELETED") == ["retired-2019"]


@pytest.mark.parametrize("limit", [1, 4, 13, 14, 1000])
def test_pages_of_any_limit_hold_every_compartment_once(service, limit):
    """Following the tokens returns each compartment once, whatever the limit."""
    parameters = {
        "compartmentId": service.tenancy.id,
        "compartmentIdInSubtree": "true",
        "limit": str(limit),
    }
    names, page = [], {}
    while True:
        response = service.get(COMPARTMENTS, **parameters, **page)
        names += [one["name"] for one in json.loads(response.body)]
        if NEXT_PAGE_HEADER not in response.headers:
            break
        page = {"page": response.headers[NEXT_PAGE_HEADER]}
    assert names == [one.name for one in service.tenancy.compartments[1:]]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, (400, "MissingParameter")),
        ({"compartmentId": "ocid1.compartment.oc1..x"}, (404, "NotAuthorizedOrNotFound")),
        ({"compartmentId": "payments", "compartmentIdInSubtree": "true"}, (400, "InvalidParameter")),
        ({"compartmentId": "root", "accessLevel": "SOME"}, (400, "InvalidParameter")),
        ({"compartmentId": "root", "lifecycleState": "GONE"}, (400, "InvalidParameter")),
        ({"compartmentId": "root", "limit": "0"}, (400, "InvalidParameter")),
        ({"compartmentId": "root", "limit": "many"}, (400, "InvalidParameter")),
        ({"compartmentId": "root", "page": "x"}, (400, "PaginationTokenFormat")),
    ],
)
def test_an_invalid_listing_is_rejected(service, parameters, expected):
    """Missing, unknown and invalid parameters get Oracle's error codes."""
    known = {one.name: one.id for one in service.tenancy.compartments}
    sent = {name: known.get(value, value) for name, value in parameters.items()}
    assert read_code(service.get(COMPARTMENTS, **sent)) == expected


def test_a_token_of_another_listing_is_rejected(service):
    """A token sent with other parameters than those of its request gets 400."""
    first = service.get(COMPARTMENTS, compartmentId=service.tenancy.id, compartmentIdInSubtree="true", limit="2")
    token = first.headers[NEXT_PAGE_HEADER]
    response = service.get(COMPARTMENTS, compartmentId=service.tenancy.id, limit="2", page=token)
    assert read_code(response) == (400, "InvalidParameter")


def test_the_tenancy_and_single_compartments_can_be_read(service):
    """The tenancy has its name and home region, a compartment has its name, and a forbidden one is 404."""
    tenancy = json.loads(service.get(f"/20160918/tenancies/{service.tenancy.id}").body)
    assert (tenancy["name"], tenancy["homeRegionKey"]) == (service.tenancy.name, "IAD")
    payments = service.get(f"{COMPARTMENTS}/{service.find_compartment('payments')}")
    assert json.loads(payments.body)["name"] == "payments"
    assert service.get(f"{COMPARTMENTS}/{service.find_compartment('investigations')}").status == 404
    assert service.get("/20160918/tenancies/ocid1.tenancy.oc1..other").status == 404


def test_every_region_serves_identity(service):
    """The Identity operations are served below the prefix of every READY region."""
    path = f"20160918/tenancies/{service.tenancy.id}/regionSubscriptions"
    bodies = {service.get(f"{prefix}/{path}").body for prefix in ("", "/us-ashburn-1", "/ap-tokyo-1")}
    assert len(bodies) == 1
