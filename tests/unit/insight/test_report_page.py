import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.insight.report_page import encode_for_page, hash_source, show_hidden

JSON = st.recursive(
    st.text() | st.integers(-(2**53), 2**53) | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_data_cannot_leave_its_element(value) -> None:
    """Nothing in the block can end it, begin a comment or break a line of script, and it reads back as it was."""
    text = encode_for_page(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


@given(st.text())
def test_nothing_hidden_stays_hidden(text) -> None:
    """Every character that cannot be seen is named, and every other one stays."""
    shown = show_hidden(text)
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [one for one in shown if unicodedata.category(one) in hidden]
    assert [one for one in text if unicodedata.category(one) not in hidden] == [
        one for one in text if one in shown and unicodedata.category(one) not in hidden
    ]


def test_hidden_characters_are_named_by_number() -> None:
    """A reader sees which one it was."""
    assert show_hidden("a\u202eb\x1bc\U000e0041") == "a⟨U+202E⟩b⟨U+001B⟩c⟨U+E0041⟩"
    assert show_hidden("jörg 東京") == "jörg 東京"


def test_a_source_is_known_by_its_hash() -> None:
    """The form is that of a content security policy."""
    assert hash_source("alert('Hello, world.');") == "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
