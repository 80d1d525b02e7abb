import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import ScopeUnreadable, UsageError
from ociaudit.planning.scope import (
    REGION,
    Compartment,
    Region,
    check_ocid,
    choose_compartments,
    choose_regions,
    find_compartment,
    find_home_region,
    make_targets,
    name_compartments,
)

ROOT = "root"


@st.composite
def draw_listing(draw: st.DrawFn) -> list[Compartment]:
    """Draw a listing in any order: a tree in which some compartments have a parent that is not listed."""
    number = draw(st.integers(0, 8))
    parents = [
        draw(st.sampled_from([ROOT, "gone", *(f"c{j}" for j in range(number) if j != i)])) for i in range(number)
    ]
    listed = [Compartment(f"c{i}", f"name {i}", parent, "ACTIVE") for i, parent in enumerate(parents)]
    return draw(st.permutations(listed))


def lies_below(listed: list[Compartment], ocid: str, top: str) -> bool:
    """Return whether walking up from a compartment reaches `top`."""
    parents = {each.id: each.parent_id for each in listed}
    for _ in range(len(listed) + 1):
        if ocid == top:
            return True
        ocid = parents.get(ocid, "")
    return False


@given(draw_listing())
def test_the_default_scope_is_every_compartment(listed: list[Compartment]) -> None:
    """The default is the root and every listed compartment, including orphans and cycles."""
    everything = tuple(sorted({ROOT, *(each.id for each in listed)}))
    assert choose_compartments(listed, (), tenancy=ROOT) == everything
    assert choose_compartments(listed, (ROOT,), tenancy=ROOT) == everything


@given(draw_listing(), st.data())
def test_a_requested_compartment_includes_all_below_it(listed: list[Compartment], data: st.DataObject) -> None:
    """The scope is the requested compartments and everything below them, each once, in order, and nothing else."""
    names = [each.id for each in listed]
    requested = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)) if names else [ROOT]
    chosen = choose_compartments(listed, requested, tenancy=ROOT)
    if ROOT not in requested:
        assert chosen == tuple(sorted(n for n in names if any(lies_below(listed, n, top) for top in requested)))


@given(draw_listing())
def test_an_unlisted_compartment_is_an_error(listed: list[Compartment]) -> None:
    """A compartment that is not listed is an error, unless exactly the requested compartments are wanted."""
    with pytest.raises(UsageError, match="no compartment other"):
        choose_compartments(listed, (ROOT, "other"), tenancy=ROOT)
    assert choose_compartments(listed, ("other", "other"), tenancy=ROOT, is_subtree=False) == ("other",)
    assert choose_compartments(listed, (), tenancy=ROOT, is_subtree=False) == (ROOT,)


@given(draw_listing())
def test_every_compartment_has_a_path(listed: list[Compartment]) -> None:
    """Every listed compartment has a path that ends with its name, below its parent's unless that is not listed."""
    paths = name_compartments(listed, tenancy=ROOT)
    assert paths.keys() == {ROOT, *(each.id for each in listed)}
    for each in listed:
        assert paths[each.id].endswith(f"/{each.name}")
        if lies_below(listed, each.id, ROOT):
            assert paths[each.id] == f"{paths[each.parent_id]}/{each.name}"
        else:
            assert paths[each.id].startswith("?/")


PATHS = {
    "ocid1.tenancy.oc1..t": "root",
    "ocid1.compartment.oc1..p": "root/production",
    "ocid1.compartment.oc1..pp": "root/production/payments",
    "ocid1.compartment.oc1..tp": "root/test/payments",
    "ocid1.compartment.oc1..tr": "root/test/root",
    "ocid1.compartment.oc1..v": "root/Vault",
}


@pytest.mark.parametrize(
    ("text", "ocid"),
    [
        ("root", "ocid1.tenancy.oc1..t"),
        ("production", "ocid1.compartment.oc1..p"),
        ("root/production", "ocid1.compartment.oc1..p"),
        ("production/payments", "ocid1.compartment.oc1..pp"),
        ("root/test/payments", "ocid1.compartment.oc1..tp"),
        ("/root/test/payments/", "ocid1.compartment.oc1..tp"),
        ("test/root", "ocid1.compartment.oc1..tr"),
        ("vault", "ocid1.compartment.oc1..v"),
        ("ocid1.compartment.oc1..anything", "ocid1.compartment.oc1..anything"),
    ],
)
def test_a_compartment_is_found_by_name_path_and_ocid(text: str, ocid: str) -> None:
    """A name, a path, the end of a path and an OCID each mean one compartment."""
    assert find_compartment(text, PATHS) == ocid


def test_an_ambiguous_name_lists_the_candidates() -> None:
    """A name of several compartments is an error whose hint has their paths and OCIDs."""
    with pytest.raises(UsageError, match="names 2 compartments") as caught:
        find_compartment("payments", PATHS)
    for ocid in ("ocid1.compartment.oc1..pp", "ocid1.compartment.oc1..tp"):
        assert f"{PATHS[ocid]} = {ocid}" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "suggestion"), [("paymets", "payments"), ("prodction/payments", "root/production/payments"), ("x", "path")]
)
def test_an_unknown_name_is_an_error_with_a_suggestion(text: str, suggestion: str) -> None:
    """A name that no compartment has is an error that suggests a similar one, or what to type."""
    with pytest.raises(UsageError, match="lists no compartment") as caught:
        find_compartment(text, PATHS)
    assert suggestion in caught.value.hint


LISTED = [
    Region("uk-london-1", "READY", False),
    Region("eu-frankfurt-1", "READY", True),
    Region("x", "IN_PROGRESS", False),
]


def test_the_default_scope_is_every_ready_region() -> None:
    """The default is every READY region, in order; requested regions are kept once each."""
    assert choose_regions(LISTED, ()) == ("eu-frankfurt-1", "uk-london-1")
    assert choose_regions(LISTED, ["uk-london-1", "uk-london-1"]) == ("uk-london-1",)


@pytest.mark.parametrize("name", ["us-ashburn-1", "x", ""])
def test_a_region_that_is_not_ready_is_an_error(name: str) -> None:
    """A requested region that is not READY is a usage error whose hint lists those that are."""
    with pytest.raises(UsageError, match="has not subscribed") as caught:
        choose_regions(LISTED, ["uk-london-1", name])
    assert "eu-frankfurt-1" in caught.value.hint


def test_a_region_nearly_named_is_suggested_and_one_in_progress_said_so() -> None:
    """The hint suggests the subscribed region that was probably meant; one in progress is called that."""
    with pytest.raises(UsageError) as caught:
        choose_regions(LISTED, ["eu-frankfurt-2"])
    assert "did you mean eu-frankfurt-1?" in caught.value.hint
    with pytest.raises(UsageError, match="in progress: x"):
        choose_regions(LISTED, ["x"])
    assert find_home_region(LISTED) == "eu-frankfurt-1"
    assert find_home_region([]) is None


@pytest.mark.parametrize("listed", [[], LISTED[2:]])
def test_a_listing_without_a_ready_region_is_not_an_empty_scope(listed: list[Region]) -> None:
    """A listing without a READY region stops the run, which would otherwise be complete with nothing."""
    with pytest.raises(ScopeUnreadable):
        choose_regions(listed, ())


def test_targets_are_every_pair_once_in_order() -> None:
    """Targets are every pair of region and compartment once, ordered by region and then compartment."""
    targets = make_targets(["b", "a", "b"], ["y", "x"])
    assert [(target.region, target.compartment) for target in targets] == [
        ("a", "x"),
        ("a", "y"),
        ("b", "x"),
        ("b", "y"),
    ]


@pytest.mark.parametrize(
    "ocid",
    [
        "ocid1.compartment.oc1..aaaaaaaa",
        "ocid1.tenancy.oc1..aaaaaaaa",
        "ocid1.compartment.oc19.eu-dcc-milan-1.aaaa",
        "ocid1.compartment.oc1.phx.aaaa.bbbb",
    ],
)
def test_an_ocid_is_accepted(ocid: str) -> None:
    """The OCID of a compartment or tenancy, in any realm, is returned as given."""
    assert check_ocid(ocid) == ocid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "root",
        "ocid1.user.oc1..aaaa",
        "ocid1.compartment.oc1..",
        "ocid1.compartment",
        "OCID1.compartment.oc1..aaaa",
        "ocid1.compartment.oc1..aa aa",
        "ocid1.compartment.oc1..aaaa\n",
        "ocid1.compartment.oc1..a/../b",
        "ocid1..oc1..aaaa",
    ],
)
def test_any_other_text_is_not_an_ocid(text: str) -> None:
    """Any other text is a usage error whose hint shows what an OCID looks like."""
    with pytest.raises(UsageError, match="OCID") as caught:
        check_ocid(text)
    assert "ocid1.compartment" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eu-frankfurt-1", True),
        ("us-gov-ashburn-1", True),
        ("us-dcc-phoenix-2", True),
        ("fra", False),
        ("", False),
        ("eu-frankfurt-1.evil.example", False),
        ("eu-frankfurt-1/", False),
        ("EU-FRANKFURT-1", False),
        ("a-1", False),
    ],
)
def test_a_region_name_has_a_fixed_form(text: str, expected: bool) -> None:
    """A text with a dot, a slash or a capital letter is not a region name."""
    assert bool(REGION.fullmatch(text)) == expected
