"""A proof of one event, out of a log's database or a bundle of the whole log.

What: finds the event, a checkpoint over it, and the hashes between.
It must not: hand out what does not check.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import PermanentError, UserError
from ..policy.audit_bundle import (
    BundleError,
    EventLine,
    EventProof,
    check_proof,
    read_event_line,
    read_json,
    read_proof_line,
)
from ..policy.audit_tree import DerivedTiles, Fetch
from ..policy.audit_verify import Note
from ..policy.checkpoint import Checkpoint, CheckpointError, LogVerifier
from ..policy.merkle import make_inclusion_proof
from ..policy.tiles import MissingTileError, TileHashes
from ..storage.audit_files import Bundle
from ..storage.audit_offline import OfflineLog


def prove_from_database(
    log: OfflineLog, sequence: int, key: LogVerifier, notes: Sequence[Note] = ()
) -> EventProof:
    """Proof of an event of a database.

    Parameters
    ----------
    notes
        Checkpoints to lead to, the newest first; the database's own if none is given.

    Raises
    ------
    UserError
        There is no such event, or no checkpoint over it.
    PermanentError
        The log is not such that it can be proved.
    """
    shape = log.shape()
    rows = log.rows(sequence, 1)
    body, people = rows[0][1:3] if rows else (None, None)
    if body is None or people is None:
        raise UserError(f"The log has no event {sequence} (any more).")
    event = EventLine(body, _read_people(sequence, people))
    fetch = DerivedTiles(log.full_tile, log.leaf_hashes).fetch
    return _prove(event, sequence, key, notes or shape.inside, fetch, shape.last)


def prove_from_bundle(
    bundle: Bundle, sequence: int, key: LogVerifier, notes: Sequence[Note] = ()
) -> EventProof:
    """Proof of an event of a bundle. Parameters and errors as `prove_from_database` has them."""
    manifest = bundle.manifest
    found = bundle.notes()
    proofs = bundle.proofs() if manifest.kind == "selection" else None
    for line in bundle.events():
        try:
            event = read_event_line(line)
            index, path = read_proof_line(next(proofs, b"")) if proofs is not None else (-1, [])
            said = read_json(event.body).get("sequence")
        except BundleError as e:
            raise PermanentError(f"The bundle cannot be read: {e}.") from e
        if said != sequence:
            continue
        if proofs is None:
            return _prove(event, sequence, key, notes or found, bundle.fetch, manifest.size)
        if not found:
            raise PermanentError("The bundle has no checkpoint.")
        return _checked(EventProof(event, index, manifest.size, path, found[0].text), key)
    raise UserError(f"The bundle has no event {sequence}.")


def _prove(
    event: EventLine,
    sequence: int,
    key: LogVerifier,
    notes: Iterable[Note],
    fetch: Fetch,
    last: int,
) -> EventProof:
    note, checkpoint = _choose(notes, key, sequence, last)
    try:
        tree = TileHashes(checkpoint.size, fetch)
        path = make_inclusion_proof(sequence - 1, checkpoint.size, tree.range_hash)
    except MissingTileError as e:
        raise PermanentError(
            f"The log's hashes are not whole ({e}): look at it with `audit verify`."
        ) from e
    return _checked(EventProof(event, sequence - 1, checkpoint.size, path, note.text), key)


def _choose(
    notes: Iterable[Note], key: LogVerifier, sequence: int, last: int
) -> tuple[Note, Checkpoint]:
    """The newest checkpoint over an event."""
    found = []
    for note in notes:
        try:
            checkpoint = key.open(note.text)
        except CheckpointError:
            continue
        if sequence <= checkpoint.size <= last:
            found.append((note, checkpoint))
    if not found:
        raise UserError(
            f"There is no checkpoint of this key over event {sequence} yet. Wait for the next, or"
            " check the key."
        )
    return max(found, key=lambda chosen: chosen[1].size)


def _checked(proof: EventProof, key: LogVerifier) -> EventProof:
    try:
        check_proof(proof, key)
    except BundleError as e:
        raise PermanentError(
            f"The event cannot be proved: {e}. Look at the log with `audit verify`."
        ) from e
    return proof


def _read_people(sequence: int, text: bytes) -> dict[str, dict[str, str]]:
    try:
        return read_json(text) if text else {}
    except BundleError as e:
        raise PermanentError(f"Who is kept beside event {sequence} cannot be read: {e}.") from e
