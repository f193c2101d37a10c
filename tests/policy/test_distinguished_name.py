"""Two spellings of one name are one; two names never are."""

from __future__ import annotations

import itertools
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.policy.distinguished_name import fold, parse_dn

OCEAN = "CN=Ocean,OU=Teams,DC=x"


@pytest.mark.parametrize(
    "same",
    [
        "cn=ocean,ou=teams,dc=x",
        "CN = OCEAN , OU=  Teams,DC=x ",
        "CN=Ocean;OU=Teams;DC=x",
        r"CN=\4fcean,OU=Te\61ms,DC=x",
        r"CN=Oc\65an,OU=Teams,DC=x",
    ],
)
def test_one_name_in_other_spellings(same: str) -> None:
    assert parse_dn(same) == parse_dn(OCEAN) is not None


@pytest.mark.parametrize(
    "other",
    [
        r"CN=Ocean\,OU=Teams,DC=x",
        r"CN=x\,CN=Ocean,OU=Teams,DC=x",
        "CN=Ocean,OU=Teams,DC=x,DC=y",
        "OU=Teams,CN=Ocean,DC=x",
        "CN=Ocean+UID=1,OU=Teams,DC=x",
        r"CN=Ocean\20,OU=Teams,DC=y",
        "O=Ocean,OU=Teams,DC=x",
    ],
)
def test_another_name(other: str) -> None:
    assert parse_dn(other) != parse_dn(OCEAN)
    assert parse_dn(other) is not None


def test_a_letter_of_another_script_is_another_letter() -> None:
    kelvin, long_s = "\u212a", "\u017f"
    assert parse_dn(f"CN={kelvin}elp,DC=x") != parse_dn("CN=kelp,DC=x")
    assert parse_dn(f"CN=o{long_s}ean,DC=x") != parse_dn("CN=osean,DC=x")
    assert parse_dn("CN=\u00d6l,DC=x") == parse_dn("cn=o\u0308l,dc=x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ocean",
        "ocean-captains",
        "team=ocean",
        "CN=Ocean,",
        ",CN=Ocean",
        "CN=,OU=x",
        "=Ocean,OU=x",
        "CN=a+CN=b,OU=x",
        'CN="Ocean",OU=x',
        "CN=Oc\\",
        r"CN=\ff,DC=x",
        "CN=a\x00b,DC=x",
        "CN=\ud800,DC=x",
        "1CN=a,DC=x",
        "CN=" + "a" * 5000 + ",DC=x",
    ],
)
def test_what_is_no_distinguished_name(text: str) -> None:
    assert parse_dn(text) is None


def escaped(value: str) -> str:
    """Every byte as RFC 4514 lets it be written: one way to write any value."""
    return "".join(f"\\{byte:02x}" for byte in value.encode())


values = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=20
).filter(lambda text: text.strip(" ") != "")


@given(st.lists(values, min_size=2, max_size=4))
def test_values_never_leak_into_the_structure(name: list[str]) -> None:
    found = parse_dn(",".join(f"CN={escaped(value)}" for value in name))
    assert found is not None
    assert found == tuple(frozenset({("cn", fold(value))}) for value in name)


def test_only_these_letters_become_ascii_when_composed() -> None:
    beyond = map(chr, itertools.chain(range(0x80, 0xD800), range(0xE000, sys.maxunicode + 1)))
    found = {c for c in beyond if unicodedata.normalize("NFC", c).isascii()}
    assert found == {"\u037e", "\u1fef", "\u212a"}


@given(st.text(max_size=60))
def test_any_text_is_answered(text: str) -> None:
    parse_dn(text)
