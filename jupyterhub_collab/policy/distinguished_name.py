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
_TYPE = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)")
_SPECIAL = frozenset(' "#+,;<=>\\')
_HEX = re.compile(r"[0-9a-fA-F]{2}")
# Greek question mark, Greek varia, Kelvin sign: all that composing turns into ASCII.
_LOOKALIKES = re.compile("([\u037e\u1fef\u212a])")
_SPACES = re.compile(r" +")


def parse_dn(text: str) -> tuple[Rdn, ...] | None:
    """Steps of a distinguished name, the leaf first; None when it is none."""
    if not text or len(text) > MAX_LENGTH:
        return None
    steps: list[Rdn] = []
    for step in _split(text, ","):
        pairs = [_parse_pair(pair) for pair in _split(step, "+")]
        known = [pair for pair in pairs if pair is not None]
        if len({kind for kind, _ in known}) < len(pairs):
            return None  # no such pair, or one type twice, which no directory gives
        steps.append(frozenset(known))
    return tuple(steps) if len(steps) > 1 else None  # one step alone is a text with an equals sign


def fold(value: str) -> str:
    """A value as it is compared: composed, without case, runs of spaces as one."""
    parts = _LOOKALIKES.split(value)
    parts[0::2] = [unicodedata.normalize("NFC", part) for part in parts[0::2]]
    lowered = "".join(_lower(letter) for letter in "".join(parts))
    return _SPACES.sub(" ", lowered).strip(" ")


def _lower(letter: str) -> str:
    lowered = letter.lower()
    return lowered if lowered.isascii() == letter.isascii() else letter


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that are not escaped."""
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def _parse_pair(text: str) -> tuple[str, str] | None:
    kind, equals, rest = text.partition("=")
    kind = kind.strip(" ")
    if not equals or not _TYPE.fullmatch(kind):
        return None
    value = _unescape(_strip(rest))
    return None if value is None or not value.strip(" ") else (kind.lower(), fold(value))


def _strip(text: str) -> str:
    """Without the spaces around it; one that is escaped stays."""
    text = text.lstrip(" ")
    bare = text.rstrip(" ")
    escapes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if escapes % 2 and bare != text else bare


def _unescape(text: str) -> str | None:
    """The value that is meant; None where the escapes mean none."""
    raw, at = bytearray(), 0
    while at < len(text):
        letter = text[at]
        if letter in '"<>;' or ord(letter) == 0:
            return None
        if letter != "\\":
            try:
                raw += letter.encode()
            except UnicodeEncodeError:  # half of a surrogate pair
                return None
            at += 1
        elif at + 1 < len(text) and text[at + 1] in _SPECIAL:
            raw += text[at + 1].encode()
            at += 2
        elif _HEX.fullmatch(text[at + 1 : at + 3]):
            raw.append(int(text[at + 1 : at + 3], 16))
            at += 3
        else:
            return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
