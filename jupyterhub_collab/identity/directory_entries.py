"""Texts of LDAP: what goes into filters and names, and what comes out of entries. Pure.

Nothing that a person typed or a directory said goes into a filter or a distinguished name but
through here.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..policy.distinguished_name import split_dn

MAX_USERNAME: Final = 256  # characters; no directory's names are longer
MAX_PASSWORD: Final = 1024
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_@")
_PLACEHOLDER = re.compile(r"\{(username|dn)\}")
_NOT_IN_ACCOUNT_NAMES = frozenset('"/\\[]:;|=,+*?<>@')  # of Active Directory
_SPECIAL_IN_NAMES = frozenset(' "#+,;<=>\\')
_RANGE = re.compile(r"(.+);range=(\d+)-(\d+|\*)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One entry as it came. Names of attributes are in lower case."""

    dn: str
    values: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def raw(self, attribute: str) -> Sequence[bytes]:
        return self.values.get(attribute.lower(), ())

    def texts(self, attribute: str) -> list[str]:
        """Values as text; those that are none as hex digits."""
        return [_to_text(value) for value in self.raw(attribute)]


def _to_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def is_typable(username: str, password: str) -> bool:
    """Whether a directory may be asked at all.

    A bind with an empty password succeeds, as nobody (RFC 4513, 5.1.2). So does one with a
    password that a client's preparation (RFC 4013) empties, which is why none is done here.
    """
    try:
        (username + password).encode()
    except UnicodeEncodeError:
        return False
    return (
        0 < len(username.strip()) <= len(username) <= MAX_USERNAME
        and 0 < len(password.strip()) <= len(password) <= MAX_PASSWORD
        and username.isprintable()
        and "\0" not in password
    )


def to_filter_value(value: str | bytes) -> str:
    """Value for a filter, all that is not plainly harmless as hex (RFC 4515)."""
    raw = value.encode() if isinstance(value, str) else value
    return "".join(chr(byte) if byte in _SAFE else f"\\{byte:02x}" for byte in raw)


def to_rdn_value(value: str) -> str:
    """Value for a distinguished name, all that could mean something there as hex (RFC 4514)."""
    return "".join(
        f"\\{ord(sign):02x}" if sign in _SPECIAL_IN_NAMES or ord(sign) < 32 else sign
        for sign in value
    )


def substitute(template: str, *, username: str = "", dn: str = "") -> str:
    """Fill in a template in one pass: braces in a value are no placeholders."""
    values = {"username": username, "dn": dn}
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)


def to_bind_name(template: str, username: str) -> str | None:
    """Name to bind with, from a template; None when no account can be called so."""
    if is_dn(template.replace("{username}", "x")):
        return substitute(template, username=to_rdn_value(username))
    if _NOT_IN_ACCOUNT_NAMES & set(username):
        return None
    return substitute(template, username=username)


def is_dn(name: str) -> bool:
    """Whether this is a distinguished name, rather than name@domain or DOMAIN\\name."""
    return bool(split_dn(name))


def any_of(filters: Iterable[str]) -> str:
    """A filter that fits what one of these fits."""
    return f"(|{''.join(filters)})"


def all_of(*filters: str) -> str:
    """A filter that fits what all of these fit; empty ones are left out."""
    return f"(&{''.join(text for text in filters if text)})"


def to_rdn_filter(dn: str) -> str | None:
    """Filter that an entry of this name fits (others may too); None when it is not a name."""
    parts = []
    for attribute, value, separator in split_dn(dn):
        parts.append(f"({attribute}={to_filter_value(value)})")
        if separator != "+":
            return all_of(*parts)
    return None


def normalise_dn(dn: str) -> str:
    """One text for all spellings of a distinguished name that mean the same here.

    Notes
    -----
    RFC 4514 allows several escapes for one character, and white space and case that do not count.
    """
    texts = []
    for attribute, value, separator in split_dn(dn):
        raw = " ".join(value.decode(errors="surrogateescape").split())
        sign = "+" if separator == "+" else ","
        texts.append(f"{attribute}={to_filter_value(_casefold(raw))}{sign}")
    return "".join(texts) or dn.casefold()


def _casefold(text: str) -> bytes:
    return text.casefold().encode(errors="surrogateescape")


def to_subject(attribute: str, value: bytes) -> str:
    """Text of an identity: Active Directory's 16 bytes (mixed-endian) or the text of entryUUID.

    Raises
    ------
    ValueError
        It is neither.
    """
    if attribute == "objectGUID":
        return str(uuid.UUID(bytes_le=bytes(value)))
    return str(uuid.UUID(value.decode()))


def to_identity_filter(attribute: str, subject: str) -> str:
    """Filter for the entry of one identity.

    Raises
    ------
    ValueError
        ``subject`` is no UUID.
    """
    key = uuid.UUID(subject)
    if attribute == "objectGUID":
        return "(objectGUID=" + "".join(f"\\{byte:02x}" for byte in key.bytes_le) + ")"
    return f"({attribute}={key})"


def to_sid_filter(sid: bytes) -> str:
    """Filter for the entry of a security identifier (MS-DTYP 2.4.2.2)."""
    return "(objectSid=" + "".join(f"\\{byte:02x}" for byte in sid) + ")"


def to_group_sid(person_sid: bytes, primary_group_id: int) -> bytes:
    """Security identifier of a person's primary group: of the same domain, another last part.

    Raises
    ------
    ValueError
        ``person_sid`` is none.
    """
    if len(person_sid) < 12 or len(person_sid) != 8 + 4 * person_sid[1]:
        raise ValueError("an objectSid is not a security identifier")
    return person_sid[:-4] + primary_group_id.to_bytes(4, "little")


def to_relative_id(sid: bytes) -> int:
    """Last part of a security identifier: what primaryGroupID holds."""
    return int.from_bytes(sid[-4:], "little")


def find_ranges(entry: Entry) -> list[tuple[str, int]]:
    """Attributes that came in part, each with the number of its next value.

    Notes
    -----
    MS-ADTS 3.1.1.3.1.3.3: ``member;range=0-1499``; the last part ends with ``*``.
    """
    found = (_RANGE.fullmatch(name) for name in entry.values)
    return [(part[1], int(part[3]) + 1) for part in found if part and part[3] != "*"]


def merge_range(entry: Entry, more: Entry | None = None) -> Entry:
    """Entry with the parts of its attributes put together, and those of ``more``."""
    values: dict[str, list[bytes]] = {}
    for part in (entry, more) if more else (entry,):
        for name, raw in part.values.items():
            found = _RANGE.fullmatch(name)
            values.setdefault(found[1] if found else name, []).extend(raw)
    return Entry(entry.dn, values)


def to_username(entry: Entry, attribute: str) -> str | None:
    """The one name that this entry goes by, however it was typed.

    Of several values the one in its distinguished name, else the first in order: a directory
    returns them in any.
    """
    names = sorted(entry.texts(attribute))
    for name, value, separator in split_dn(entry.dn):
        said = value.decode(errors="replace")
        if name == attribute.lower() and said in names:
            return said
        if separator != "+":
            break
    return names[0] if names else None


def to_password_policy_error(value: bytes) -> int | None:
    """Error of a password policy's response control; None when there is none.

    Notes
    -----
    draft-behera-ldap-password-policy-10, 6.2: SEQUENCE { [0] warning, [1] ENUMERATED error }, both
    optional; all of it shorter than 128 bytes.
    """
    if len(value) < 2 or value[0] != 0x30 or value[1] != len(value) - 2:
        return None
    rest = value[2:]
    while len(rest) >= 2:
        tag, length = rest[0], rest[1]
        if tag == 0x81 and length == 1 and len(rest) >= 3:
            return rest[2]
        rest = rest[2 + length :]
    return None
