"""Distinguished names of a directory, so that two spellings of one name are one. Pure.

``CN=Ocean,OU=Teams`` and ``cn=ocean, ou=teams`` name the same group; ``CN=a\\,CN=ocean`` names
another one than ``CN=a,CN=ocean``. Texts that are no distinguished names are None, and whoever asks
compares them as they are.

Letters are compared without case where both are ASCII or neither is: the Kelvin sign is not a
``k`` here, whatever Unicode says. A directory may call more names the same than this does, so a
rule may give less than its author meant, never more.

Notes
-----
RFC 4514 (string form), RFC 4517 section 4.2.11 (caseIgnoreMatch).
"""

from __future__ import annotations

import re
import unicodedata

Rdn = frozenset[tuple[str, str]]
"""One step of a name: attribute types, in lower case, with their values; nearly always one."""

MAX_LENGTH = 4096  # characters; Active Directory's own bound is 255 for each step
_PART = re.compile(
    r""" *([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*) *= *((?:\\.|[^\\,+;"])*)([,+;]|\Z)""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
_SPACES = re.compile(r" +")
# Greek question mark, Greek varia, Kelvin sign: all that composing turns into ASCII.
_LOOKALIKES = re.compile("([\u037e\u1fef\u212a])")


def split_dn(text: str) -> list[tuple[str, bytes, str]]:
    """Attribute type, value and separator of each part of a name, as it came; empty if it is none.

    Not ldap3's: that takes names for none which are some, such as ``cn=C# group,o=x``.

    Notes
    -----
    RFC 4514; a semicolon separates too (RFC 2253, section 4).
    """
    parts: list[tuple[str, bytes, str]] = []
    position, separator = 0, ","
    while separator:
        found = _PART.match(text, position)
        if found is None:
            return []
        kind, value, separator = found.groups()
        shorter = value.rstrip(" ")
        if (len(shorter) - len(shorter.rstrip("\\"))) % 2:
            shorter += " "  # an escaped one
        parts.append((kind.lower(), _unescape(shorter), separator))
        position = found.end()
    return parts


def parse_dn(text: str) -> tuple[Rdn, ...] | None:
    """Steps of a distinguished name as they are compared, the leaf first; None when it is none.

    One step alone is none here but a text with an equals sign, and so is a name that holds a type
    twice in one step, which no directory gives.
    """
    if len(text) > MAX_LENGTH or "\x00" in text:
        return None
    steps: list[Rdn] = []
    step: dict[str, str] = {}
    try:
        for kind, raw, separator in split_dn(text):
            value = fold(raw.decode())
            if not value or kind in step:
                return None
            step[kind] = value
            if separator != "+":
                steps.append(frozenset(step.items()))
                step = {}
    except UnicodeError:  # no text, or half of a surrogate pair
        return None
    return tuple(steps) if len(steps) > 1 else None


def fold(value: str) -> str:
    """A value as it is compared: composed, without case, runs of spaces as one."""
    parts = _LOOKALIKES.split(value)
    parts[0::2] = [unicodedata.normalize("NFC", part) for part in parts[0::2]]
    lowered = "".join(_lower(letter) for letter in "".join(parts))
    return _SPACES.sub(" ", lowered).strip(" ")


def _lower(letter: str) -> str:
    lowered = letter.lower()
    return lowered if lowered.isascii() == letter.isascii() else letter


def _unescape(value: str) -> bytes:
    """Bytes of an attribute value."""
    raw = bytearray()
    position = 0
    for found in _ESCAPED.finditer(value):
        raw += value[position : found.start()].encode(errors="surrogateescape")
        escaped = found[1]
        raw += bytes.fromhex(escaped) if len(escaped) == 2 else escaped.encode()
        position = found.end()
    return bytes(raw + value[position:].encode(errors="surrogateescape"))
