"""What leaves the audit log to be checked elsewhere: bundles, and proofs of single events.

A **bundle** is a folder or a zip. `events.jsonl` holds a line per event, `bundle.json` says what it
is. A bundle of the whole log (`log`) holds every event from the first that is kept, and the tiles
and checkpoints as an anchor folder has them. A bundle of some events (`selection`) holds in
`proofs.jsonl` a line per event that leads to the head in `checkpoint`; it shows nothing of others.
A **proof** is a JSON file with one event, its way to a head, and the checkpoint that signs it.

`key` in a bundle is for convenience. Whoever checks must have the log's key from elsewhere.

It must not: read or write files.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from .audit_leaf import is_committed
from .checkpoint import Checkpoint, CheckpointError, LogVerifier
from .merkle import HASH_BYTES, is_included, leaf_hash

MANIFEST: Final = "bundle.json"
EVENTS: Final = "events.jsonl"
PROOFS: Final = "proofs.jsonl"
CHECKPOINT: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints"  # a folder: one note a size
KEY: Final = "key"
README: Final = "README.txt"

BODY_BYTES_MAX: Final = 64 * 1024  # an event has at most 32 KiB; the log adds less than one
LINE_BYTES_MAX: Final = 512 * 1024  # a body in a JSON text may be longer than it is by itself
PROOF_BYTES_MAX: Final = 1024 * 1024
DEPTH_MAX: Final = 12  # events nest three deep
PATH_MAX: Final = 63  # of 2^63 events

BUNDLE_FORMAT: Final = "jupyterhub-collab audit bundle v1"
PROOF_FORMAT: Final = "jupyterhub-collab audit proof v1"


class BundleError(ValueError):
    """Not in the form of this page. The text says why and repeats nothing of what was read."""


@dataclass(frozen=True)
class EventLine:
    """One line of `EVENTS`: the text that was hashed, and what is personal beside it."""

    body: bytes
    people: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What a bundle is.

    Attributes
    ----------
    kind
        ``log`` or ``selection``.
    origin
        Name of the log.
    size
        Events of the log under the bundle's checkpoint.
    first
        Of a whole log, the first event that is kept; those before are retired.
    """

    kind: str
    origin: str
    size: int
    first: int = 1


@dataclass(frozen=True)
class EventProof:
    """One event, and that the log holds it.

    Attributes
    ----------
    index
        Of its leaf, from 0: its sequence less one.
    size
        Events under the checkpoint's head.
    path
        As `merkle.make_inclusion_proof` makes it.
    note
        The signed checkpoint.
    """

    event: EventLine
    index: int
    size: int
    path: Sequence[bytes]
    note: str


def event_line(body: bytes, people: Mapping[str, Any]) -> bytes:
    """A line of `EVENTS`, with its end."""
    return _to_line({"body": body.decode(), "people": people})


def read_event_line(line: bytes) -> EventLine:
    """An event of a line. Raises BundleError."""
    found = read_json(line)
    body, people = found.get("body"), found.get("people")
    if set(found) != {"body", "people"} or not isinstance(body, str):
        raise BundleError("it is not an event with body and people")
    if not isinstance(people, dict) or not all(isinstance(kept, dict) for kept in people.values()):
        raise BundleError("its people cannot be read")
    try:
        return EventLine(body.encode(), people)
    except UnicodeEncodeError:
        raise BundleError("its body holds half a character") from None


def proof_line(index: int, path: Sequence[bytes]) -> bytes:
    """A line of `PROOFS`, with its end."""
    return _to_line({"index": index, "path": _to_texts(path)})


def read_proof_line(line: bytes) -> tuple[int, list[bytes]]:
    """Index and path of a line. Raises BundleError."""
    found = read_json(line)
    if set(found) != {"index", "path"}:
        raise BundleError("it is not a proof with index and path")
    return _to_number(found["index"]), _from_texts(found["path"])


def manifest_file(manifest: Manifest) -> bytes:
    """`MANIFEST`."""
    return _to_file(
        {
            "format": BUNDLE_FORMAT,
            "kind": manifest.kind,
            "origin": manifest.origin,
            "size": manifest.size,
            "first": manifest.first,
        }
    )


def read_manifest(data: bytes) -> Manifest:
    """What `MANIFEST` says. Raises BundleError."""
    found = read_json(data)
    if found.get("format") != BUNDLE_FORMAT:
        raise BundleError(f"it is not of the form {BUNDLE_FORMAT!r}")
    kind, origin = found.get("kind"), found.get("origin")
    if kind not in ("log", "selection") or not isinstance(origin, str):
        raise BundleError("it does not say of which kind and which log it is")
    first = _to_number(found.get("first"))
    if first < 1:
        raise BundleError("it does not say where it begins")
    return Manifest(kind, origin, _to_number(found.get("size")), first)


def proof_file(proof: EventProof, key_name: str, *, with_people: bool = True) -> bytes:
    """A file that shows one event.

    Parameters
    ----------
    key_name
        Name of the key that checks it, for people: the log's origin.
    with_people
        Show who is in the event. Without, the proof is as good.
    """
    people = proof.event.people if with_people else {}
    return _to_file(
        {
            "format": PROOF_FORMAT,
            "key": key_name,
            "index": proof.index,
            "size": proof.size,
            "path": _to_texts(proof.path),
            "checkpoint": proof.note,
            "event": {"body": proof.event.body.decode(), "people": people},
        }
    )


def read_proof_file(data: bytes) -> EventProof:
    """A proof as it was written. Nothing is checked but its form. Raises BundleError."""
    if len(data) > PROOF_BYTES_MAX:
        raise BundleError(f"it is longer than {PROOF_BYTES_MAX} bytes")
    found = read_json(data)
    if found.get("format") != PROOF_FORMAT:
        raise BundleError(f"it is not of the form {PROOF_FORMAT!r}")
    event, note = found.get("event"), found.get("checkpoint")
    if not isinstance(event, dict) or not isinstance(note, str):
        raise BundleError("it holds no event or no checkpoint")
    return EventProof(
        read_event_line(json.dumps(event).encode()),
        _to_number(found.get("index")),
        _to_number(found.get("size")),
        _from_texts(found.get("path")),
        note,
    )


def check_proof(proof: EventProof, key: LogVerifier) -> Checkpoint:
    """The checkpoint under which the log holds the event, if all of a proof is right.

    Raises
    ------
    BundleError
        It is not: the text says what does not fit.
    """
    try:
        checkpoint = key.open(proof.note)
    except CheckpointError as e:
        raise BundleError(f"the checkpoint cannot be trusted: {e}") from e
    if checkpoint.size != proof.size:
        raise BundleError(f"the checkpoint is of {checkpoint.size} events, not of {proof.size}")
    leaf = leaf_hash(proof.event.body)
    if not is_included(leaf, proof.index, proof.size, proof.path, checkpoint.root):
        raise BundleError("the event is not under the checkpoint's head")
    body = read_json(proof.event.body)
    if body.get("sequence") != proof.index + 1:
        raise BundleError(f"the event does not say that its place is {proof.index + 1}")
    commitments = body.get("people", {})
    for part, kept in proof.event.people.items():
        commitment = commitments.get(part) if isinstance(commitments, dict) else None
        if not isinstance(commitment, str) or not is_committed(commitment, kept):
            raise BundleError(f"who is given as {part} is not who was recorded")
    return checkpoint


def read_json(data: bytes) -> dict[str, Any]:
    """A JSON object that can be read one way only. Raises BundleError.

    A name said twice, NaN, deep nesting and what is not UTF-8 are refused.
    """
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=_to_object, parse_constant=_refuse_constant
        )
    except _RefusedError as e:
        raise BundleError(str(e)) from None
    except UnicodeDecodeError:
        raise BundleError("it is not UTF-8") from None
    except RecursionError:
        raise BundleError("it nests too deep") from None
    except ValueError:
        raise BundleError("it is not JSON") from None
    if not isinstance(found, dict):
        raise BundleError("it is no JSON object")
    level: list[object] = [found]
    for _ in range(DEPTH_MAX):
        level = [item for outer in level for item in _inside(outer)]
    if level:
        raise BundleError("it nests too deep")
    return found


def _inside(outer: object) -> Iterable[object]:
    found: Iterable[object] = ()
    if isinstance(outer, dict):
        found = outer.values()
    elif isinstance(outer, list):
        found = outer
    return [item for item in found if isinstance(item, dict | list)]


class _RefusedError(ValueError):
    """Well-formed, and still refused."""


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError("it says a name twice")
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise _RefusedError("it holds NaN or Infinity")


def _to_line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _to_file(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _to_texts(path: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(item).decode() for item in path]


def _from_texts(texts: Any) -> list[bytes]:
    if not isinstance(texts, list) or len(texts) > PATH_MAX:
        raise BundleError("its path cannot be read")
    try:
        path = [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, TypeError, ValueError):
        raise BundleError("its path cannot be read") from None
    if any(len(item) != HASH_BYTES for item in path):
        raise BundleError("its path is not of hashes")
    return path


def _to_number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise BundleError("its numbers cannot be read")
    return value
