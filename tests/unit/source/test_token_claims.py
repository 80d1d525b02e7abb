import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.source.token_claims import Claims, read_claims


def make_token(claims: object) -> str:
    """Make a token that nobody signed."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


def test_the_claims_of_a_token_are_read() -> None:
    """Who, where, until when, and the key are read; what is not known is left aside."""
    key = json.dumps({"kty": "RSA", "n": base64.urlsafe_b64encode((65537).to_bytes(3, "big")).decode(), "e": "AQAB"})
    claims = read_claims(
        make_token({"sub": "ocid1.user.oc1..a", "tenant": "t", "exp": 9, "iat": 1, "jwk": key, "x": []})
    )
    assert (claims.principal, claims.tenancy, claims.exp, claims.iat) == ("ocid1.user.oc1..a", "t", 9.0, 1.0)
    assert claims.key_modulus == 65537


def test_a_resource_is_at_home_in_its_own_tenancy() -> None:
    """The tenancy of the resource goes before that of the sign-in."""
    assert read_claims(make_token({"tenant": "a", "res_tenant": "b"})).tenancy == "b"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "token",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "a." + "[" * 100_000 + ".c",
        make_token([]),
        make_token({"exp": "x"}),
    ],
)
def test_what_is_no_token_has_no_claims(token: str) -> None:
    """A text of another form is no error: the service will judge it."""
    assert read_claims(token) == Claims()


@pytest.mark.parametrize("jwk", [None, "", "{}", "[]", '{"n": 1}', '{"n": "é"}', "{" * 100_000])
def test_a_token_without_a_readable_key_is_bound_to_none(jwk: str | None) -> None:
    """A key that cannot be read tells nothing."""
    assert Claims(jwk=jwk).key_modulus is None


@pytest.mark.parametrize("name", ["\x1b[31m", "two words", "ü", "a" * 300, '"', ""])
def test_a_name_that_cannot_be_printed_is_none(name: str) -> None:
    """Only a plain name gets into a manifest or onto a screen."""
    assert Claims(sub=name, tenant=name).principal is None
    assert Claims(sub=name, tenant=name).tenancy is None


@given(st.text(max_size=60) | st.builds(make_token, st.recursive(st.none() | st.text(), st.lists, max_leaves=4)))
def test_no_text_is_too_odd(token: str) -> None:
    """Whatever stands in a token's file, reading it ends with claims or none."""
    assert isinstance(read_claims(token), Claims)
