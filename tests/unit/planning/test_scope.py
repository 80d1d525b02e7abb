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
    make_targets,
)

ROOT = "root"


@st.composite
def draw_listing(draw: st.DrawFn) -> list[Compartment]:
    """Draw a listing: a tree, some of whose compartments have a parent that is not listed, in any order."""
    number = draw(st.integers(0, 8))
    parents = [
        draw(st.sampled_from([ROOT, "gone", *(f"c{j}" for j in range(number) if j != i)])) for i in range(number)
    ]
    listed = [Compartment(f"c{i}", f"name {i}", parent, "ACTIVE") for i, parent in enumerate(parents)]
    return draw(st.permutations(listed))


def lies_below(listed: list[Compartment], ocid: str, top: str) -> bool:
    """Walk up from a compartment, for as many steps as there are compartments."""
    parents = {each.id: each.parent_id for each in listed}
    for _ in range(len(listed) + 1):
        if ocid == top:
            return True
        ocid = parents.get(ocid, "")
    return False


@given(draw_listing())
def test_without_a_choice_everything_is_asked(listed: list[Compartment]) -> None:
    """The root and every listed compartment, orphans and circles too."""
    everything = tuple(sorted({ROOT, *(each.id for each in listed)}))
    assert choose_compartments(listed, (), tenancy=ROOT) == everything
    assert choose_compartments(listed, (ROOT,), tenancy=ROOT) == everything


@given(draw_listing(), st.data())
def test_a_named_compartment_brings_all_below_it(listed: list[Compartment], data: st.DataObject) -> None:
    """Those named and all that lies below them, each once, in order, and nothing else."""
    names = [each.id for each in listed]
    asked = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)) if names else [ROOT]
    chosen = choose_compartments(listed, asked, tenancy=ROOT)
    if ROOT not in asked:
        assert chosen == tuple(sorted(n for n in names if any(lies_below(listed, n, top) for top in asked)))


@given(draw_listing())
def test_an_unlisted_compartment_is_an_error(listed: list[Compartment]) -> None:
    """A name that the listing does not have is never an empty scope; alone it can be asked unseen."""
    with pytest.raises(UsageError, match="no compartment other"):
        choose_compartments(listed, (ROOT, "other"), tenancy=ROOT)
    assert choose_compartments(listed, ("other", "other"), tenancy=ROOT, is_subtree=False) == ("other",)
    assert choose_compartments(listed, (), tenancy=ROOT, is_subtree=False) == (ROOT,)


LISTED = [
    Region("uk-london-1", "READY", False),
    Region("eu-frankfurt-1", "READY", True),
    Region("x", "IN_PROGRESS", False),
]


def test_without_a_choice_every_ready_region_is_asked() -> None:
    """Every READY one, in order; named ones each once."""
    assert choose_regions(LISTED, ()) == ("eu-frankfurt-1", "uk-london-1")
    assert choose_regions(LISTED, ["uk-london-1", "uk-london-1"]) == ("uk-london-1",)


@pytest.mark.parametrize("name", ["us-ashburn-1", "x", ""])
def test_a_region_that_is_not_ready_is_an_error(name: str) -> None:
    """A named region that is not subscribed and ready is refused, with those that are."""
    with pytest.raises(UsageError, match="has not subscribed") as caught:
        choose_regions(LISTED, ["uk-london-1", name])
    assert "eu-frankfurt-1" in caught.value.hint


@pytest.mark.parametrize("listed", [[], LISTED[2:]])
def test_a_listing_without_a_ready_region_is_no_empty_scope(listed: list[Region]) -> None:
    """Asking everywhere never means asking nowhere: the run stops instead of being complete with nothing."""
    with pytest.raises(ScopeUnreadable):
        choose_regions(listed, ())


def test_places_are_every_pair_once_in_order() -> None:
    """Region by region, compartment by compartment."""
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
    """An OCID of a compartment or tenancy, of any realm, comes back."""
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
def test_what_is_no_ocid_of_a_compartment_is_refused(text: str) -> None:
    """Anything else is a usage error that shows what an OCID looks like."""
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
def test_a_region_has_a_form(text: str, expected: bool) -> None:
    """Nothing with a dot, slash or capital passes for the name of a region."""
    assert bool(REGION.fullmatch(text)) == expected
