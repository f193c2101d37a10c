"""Reading the text of many events at once, strictly: what is not canonical is told.

An event has one text (see `audit_leaf`), so a regular expression over all texts of a block checks
the form and takes out what a check of the log needs, without making an object of each. Texts with
escaped characters, which are rare, are read slowly; both ways accept the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from ..models.audit import PARTS, SCHEMA_VERSION
from .audit_bundle import BODY_BYTES_MAX, BundleError, read_json
from .audit_leaf import SALT_BYTES, canonical_json


class Facts(NamedTuple):
    """What a check needs of an event's text, as it stands there; empty for what does not.

    `datasets`, `details` and `people` are JSON.
    """

    contest: bytes
    datasets: bytes
    details: bytes
    emitter: bytes
    emitter_sequence: bytes
    incarnation: bytes
    outcome: bytes
    people: bytes
    sequence: bytes
    stored: bytes
    team: bytes
    verb: bytes


class FormError(ValueError):
    """Not the text of an event. The text says why and repeats nothing of it."""


_PLAIN: Final = rb'[^"]'  # nor \\ and control characters, which are looked for before
_ESCAPED: Final = b"\\" + bytes(set(range(32)) - {ord("\n")})
_OTHERS: Final = bytes.maketrans(_ESCAPED, bytes(ord("x") for _ in _ESCAPED))
_TIME: Final = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
_NUMBER: Final = rb"[1-9][0-9]{0,18}"
_LIST: Final = rb'\["' + _PLAIN + rb'*"(?:,"' + _PLAIN + rb'*")*\]'
_DETAIL: Final = (
    rb'"[a-z][a-z0-9_]*":(?:"' + _PLAIN + rb'*"|-?[1-9][0-9]*|0|true|false|\[\]|' + _LIST + rb")"
)
_BLIND: Final = rb"[0-9a-f]{%d}" % (2 * SALT_BYTES)
_COMMITMENT: Final = rb'"(?:' + b"|".join(p.encode() for p in PARTS) + rb')":"[0-9a-f]{64}"'
# What may be missing is written as one of two: an optional group takes longer.
_TEXT: Final = b"".join(
    (
        rb'\{(?:"blind":"' + _BLIND + rb'",|)',
        rb'(?:"contest":"(' + _PLAIN + rb'+)",|)',
        rb'(?:"correlation":"' + _PLAIN + rb'+",|)',
        rb'(?:"datasets":(' + _LIST + rb"),|)",
        rb'(?:"details":(\{' + _DETAIL + rb"(?:," + _DETAIL + rb")*\}),|)",
        rb'"emitter":"(' + _PLAIN + rb'+)",',
        rb'"emitterSequence":(' + _NUMBER + rb"),",
        rb'"incarnation":"([0-9a-f]{32})",',
        rb'(?:"late":true,|)',
        rb'"outcome":"([a-z]+)",',
        rb'(?:"people":(\{' + _COMMITMENT + rb"(?:," + _COMMITMENT + rb")*\}),|)",
        rb'(?:"reason":"' + _PLAIN + rb'+",|)',
        rb'"schema":%d,' % SCHEMA_VERSION,
        rb'"sequence":(' + _NUMBER + rb"),",
        rb'"stored":"(' + _TIME + rb')",',
        rb'(?:"team":"(' + _PLAIN + rb'+)",|)',
        rb'(?:"thing":"' + _PLAIN + rb'+",|)',
        rb'"time":"' + _TIME + rb'",',
        rb'"verb":"([a-z.-]+)"\}',
    )
)
_LINES: Final = re.compile(rb"^" + _TEXT + rb"$", re.MULTILINE)
_LINE: Final = re.compile(_TEXT)
# The same with fields that may be anything up to their end: what they are is looked at afterwards,
# for all events at once, or once for all that say the same.
_LOOSE: Final = re.compile(
    rb'^\{(?:"blind":"'
    + _BLIND
    + rb'",|)(?:"contest":"([^"]+)",|)(?:"correlation":"[^"]+",|)(?:"datasets":(\[[^]]*\]),|)'
    rb'(?:"details":(\{[^}]*\}),|)"emitter":"([^"]+)","emitterSequence":([^,]+),'
    rb'"incarnation":"([^"]+)",(?:"late":true,|)"outcome":"([^"]+)",(?:"people":(\{[^}]+\}),|)'
    rb'(?:"reason":"[^"]+",|)"schema":%d,"sequence":([^,]+),"stored":"([^"]+)",'
    rb'(?:"team":"([^"]+)",|)(?:"thing":"[^"]+",|)"time":"([^"]+)","verb":"([^"]+)"\}$'
    % SCHEMA_VERSION,
    re.MULTILINE,
)
_DATASETS: Final = re.compile(_LIST)
_DETAILS: Final = re.compile(rb"\{" + _DETAIL + rb"(?:," + _DETAIL + rb")*\}")
_INCARNATION: Final = re.compile(rb"[0-9a-f]{32}")
_NUMBER_DIGITS_MAX: Final = 19
_LETTERS: Final = bytes(range(ord("a"), ord("z") + 1))
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789", b"000000000")
_TIME_OF_0: Final = b"0000-00-00T00:00:00.000000Z"
_ONE_COMMITMENT: Final = len(b'{"subject":""}') + 64
_TIME_TEXT: Final = re.compile(_TIME.decode())


NO_FACTS: Final = Facts(*[b""] * len(Facts._fields))


def read_forms(bodies: Sequence[bytes]) -> tuple[list[Facts], dict[int, FormError]]:
    """Facts of each text; for what is no event's text `NO_FACTS`, and why, by its index."""
    found = _read_lines(bodies)
    if found is not None:
        return found, {}
    facts: list[Facts] = []
    errors: dict[int, FormError] = {}
    for at, body in enumerate(bodies):
        is_line = len(body) <= BODY_BYTES_MAX and b"\n" not in body and is_plain(body)
        line = _LINE.fullmatch(body) if is_line else None
        one = Facts._make(line.groups(b"")) if line else NO_FACTS
        if not one.verb or not _are_sorted([one]):
            read = _read_slowly(body)
            one = NO_FACTS if isinstance(read, FormError) else read
            if isinstance(read, FormError):
                errors[at] = read
        facts.append(one)
    return facts, errors


def _read_lines(bodies: Sequence[bytes]) -> list[Facts] | None:
    """Facts of texts without escaped characters, as plain tuples. None: look at each."""
    lines = b"\n".join(bodies)
    if max(map(len, bodies), default=0) > BODY_BYTES_MAX or not is_plain(lines):
        return None
    if lines.count(b"\n") != len(bodies) - 1:
        return None
    found: list[Facts] = _LINES.findall(lines)
    return found if len(found) == len(bodies) and _are_sorted(found) else None


def read_columns(lines: bytes, bodies: Sequence[bytes]) -> Any:
    """Facts of texts without escaped characters, each a column of all. None: look at each.

    The caller knows what has to stand in `people`, here anything between braces, and in `sequence`.

    Parameters
    ----------
    bodies
        The texts that stand in `lines`, one a line.
    """
    if max(map(len, bodies), default=0) > BODY_BYTES_MAX or not is_plain(lines):
        return None
    found = _LOOSE.findall(lines)
    if not found or len(found) != len(bodies):
        return None
    *facts, times, verbs = zip(*found, strict=True)
    columns: Any = Facts._make((*facts, verbs))
    are_right = (
        _are_times(columns.stored)
        and _are_times(times)
        and _are_numbers(columns.emitter_sequence)
        and all(map(_INCARNATION.fullmatch, set(columns.incarnation)))
        and not b"".join(columns.outcome).translate(None, _LETTERS)
        and not b"".join(verbs).translate(None, _LETTERS + b".-")
        and all(map(_DATASETS.fullmatch, set(columns.datasets) - {b""}))
        and _are_details(set(columns.details) - {b""})
    )
    return columns if are_right else None


def _are_times(texts: Sequence[bytes]) -> bool:
    lines = b"\n".join(texts).translate(_DIGITS_TO_0)
    return lines == b"\n".join([_TIME_OF_0] * len(texts))


def _are_numbers(texts: Sequence[bytes]) -> bool:
    """Whether each is one of `_NUMBER`."""
    lines = b"\n".join([b"", *texts])
    return (
        not lines.translate(None, b"\n0123456789")
        and b"\n0" not in lines
        and max(map(len, texts)) <= _NUMBER_DIGITS_MAX
    )


def _are_details(texts: Iterable[bytes]) -> bool:
    return all(map(_DETAILS.fullmatch, texts)) and _are_objects_sorted(texts)


def _are_sorted(found: Iterable[Facts]) -> bool:
    """Whether names in details and people are in their order, and none stands twice."""
    texts = {facts[2] for facts in found}
    texts.update(facts[7] for facts in found if len(facts[7]) > _ONE_COMMITMENT)
    texts.discard(b"")
    return _are_objects_sorted(texts)


def _are_objects_sorted(texts: Iterable[bytes]) -> bool:
    # Each is one balanced object without escapes, so all can be read at once.
    listed = b"[" + b",".join(texts) + b"]"
    objects = from_json(listed)
    return to_json(objects) == listed and all(list(each) == sorted(each) for each in objects)


def _is_blind(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(_BLIND.decode(), value) is not None


def is_plain(data: bytes) -> bool:
    """Whether this is UTF-8 without \\ and control characters but the ends of lines."""
    if data.translate(_OTHERS) != data:
        return False
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_slowly(body: bytes) -> Facts | FormError:
    try:
        return _to_facts(_read_body(body))
    except FormError as e:
        return e


def _read_body(body: bytes) -> dict[str, Any]:
    if len(body) > BODY_BYTES_MAX:
        raise FormError(f"its text is longer than {BODY_BYTES_MAX} bytes")
    try:
        found = read_json(body)
        is_canonical = canonical_json(found) == body
    except BundleError as e:
        raise FormError(f"its text cannot be read: {e}") from None
    except ValueError:  # halves of characters, numbers without end
        raise FormError("its text cannot be read") from None
    if not is_canonical:
        raise FormError("its text is not canonical JSON")
    schema = found.get("schema")
    if type(schema) is not int or schema != SCHEMA_VERSION:
        raise FormError("its schema is not one that this program knows")
    return found


def _to_facts(body: dict[str, Any]) -> Facts:
    optional = {"contest", "correlation", "reason", "team", "thing"}
    needed = {"emitter", "incarnation", "outcome", "stored", "time", "verb"}
    numbers = {"sequence", "emitterSequence"}
    more = {"schema", "late", "datasets", "details", "people", "blind"}
    is_whole = needed | numbers <= set(body) <= needed | numbers | more | optional
    texts = [body[key] for key in (needed | optional) & set(body)]
    if not is_whole or not all(isinstance(text, str) and text for text in texts):
        raise FormError("it does not have the fields of an event")
    if not all(type(body[key]) is int and 0 < body[key] < 2**63 for key in numbers):
        raise FormError("its numbers are not those of an event")
    if not all(_TIME_TEXT.fullmatch(body[key]) for key in ("stored", "time")):
        raise FormError("its times are not those of an event")
    if not re.fullmatch(r"[0-9a-f]{32}", body["incarnation"]):
        raise FormError("its incarnation is not one of an emitter")
    datasets, details, people = (body.get(key) for key in ("datasets", "details", "people"))
    blind = body.get("blind")
    is_right = (
        None not in body.values()
        and body.get("late", True) is True
        and (datasets is None or (_is_texts(datasets) and bool(datasets)))
        and (details is None or _is_details(details))
        and (people is None or _are_commitments(people))
        and (blind is None or _is_blind(blind))
    )
    if not is_right:
        raise FormError("its lists, details or people are not those of an event")

    def text(key: str) -> bytes:
        value = body.get(key, "")
        return value.encode() if isinstance(value, str) else canonical_json(value)

    return Facts(
        *(
            text(key)
            for key in (
                *("contest", "datasets", "details", "emitter", "emitterSequence", "incarnation"),
                *("outcome", "people", "sequence", "stored", "team", "verb"),
            )
        )
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_details(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            re.fullmatch(r"[a-z][a-z0-9_]*", key)
            and (isinstance(item, str | int) or _is_texts(item))
            for key, item in value.items()
        )
    )


def _are_commitments(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            part in PARTS and isinstance(item, str) and re.fullmatch(r"[0-9a-f]{64}", item)
            for part, item in value.items()
        )
    )
