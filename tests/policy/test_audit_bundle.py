"""Bundles and proofs: what was written is read, what was changed is refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from jupyterhub_collab.models.audit import AuditEvent, Person, Verb
from jupyterhub_collab.policy import audit_bundle
from jupyterhub_collab.policy.audit_bundle import BundleError, EventLine, EventProof
from jupyterhub_collab.policy.audit_leaf import SALT_BYTES, Leaf, Origin, make_leaf
from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.policy.merkle import leaf_hash, make_inclusion_proof, root_of

AT = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
SIGNER = LogSigner.generate("collab.example.org/audit")


def make_leaves(count: int) -> list[Leaf]:
    def leaf(number: int) -> Leaf:
        event = AuditEvent(time=AT, verb=Verb.LOGIN, subject=Person(name=f"Zoë \u2028 {number}"))
        salts = bytes([number % 256]) * (3 * SALT_BYTES)
        return make_leaf(event, Origin(number + 1, AT, "hub", "0" * 32, number + 1), salts)

    return [leaf(number) for number in range(count)]


def make_proof(index: int = 3, size: int = 11) -> EventProof:
    leaves = make_leaves(size)
    hashes = [leaf_hash(leaf.body) for leaf in leaves]
    path = make_inclusion_proof(index, size, lambda a, b: root_of(hashes[a:b]))
    event = EventLine(leaves[index].body, leaves[index].people)
    return EventProof(event, index, size, path, SIGNER.sign(size, root_of(hashes), AT))


def test_what_was_written_is_read() -> None:
    leaf = make_leaves(1)[0]
    line = audit_bundle.event_line(leaf.body, leaf.people)
    assert line.count(b"\n") == 1
    assert audit_bundle.read_event_line(line) == EventLine(leaf.body, leaf.people)
    path = [bytes(32), bytes(range(32))]
    assert audit_bundle.read_proof_line(audit_bundle.proof_line(7, path)) == (7, path)
    manifest = audit_bundle.Manifest("log", "a/b", 5000, 257)
    assert audit_bundle.read_manifest(audit_bundle.manifest_file(manifest)) == manifest
    proof = make_proof()
    assert audit_bundle.read_proof_file(audit_bundle.proof_file(proof, "a")) == proof


def test_a_proof_shows_its_event_and_nothing_of_others() -> None:
    proof = make_proof()
    data = audit_bundle.proof_file(proof, SIGNER.origin)
    assert audit_bundle.check_proof(audit_bundle.read_proof_file(data), SIGNER.verifier).size == 11
    for other in (0, 1, 2, 4, 10):
        assert f"\u2028 {other}".encode() not in data
    bare = json.loads(data)
    bare["event"]["people"] = {}  # whoever hands it on may leave people out
    audit_bundle.check_proof(
        audit_bundle.read_proof_file(json.dumps(bare).encode()), SIGNER.verifier
    )


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(proof: dict[str, Any]) -> None:
        place: Any = proof
        for key in path[:-1]:
            place = place[key]
        old = place[path[-1]]
        place[path[-1]] = to(old) if callable(to) else to

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("event", "body", to=lambda b: b.replace("login", "share")), "not under the"),
        (_set("index", to=4), "not under the"),
        (_set("size", to=12), "is of 11 events, not of 12"),
        (_set("path", to=lambda p: p[::-1]), "not under the"),
        (_set("path", to=lambda p: p[:-1]), "not under the"),
        (_set("checkpoint", to=lambda n: n.replace("\n11\n", "\n12\n")), "cannot be trusted"),
        (_set("checkpoint", to=""), "cannot be trusted"),
        (_set("event", "people", "subject", "value", "name", to="eve"), "not who was recorded"),
        (_set("event", "people", "subject", "salt", to="00" * 16), "not who was recorded"),
        (_set("event", "people", to={"actor": {"salt": "", "value": {}}}), "not who was recorded"),
    ],
)
def test_a_changed_proof_is_refused(change: Callable[[dict[str, Any]], None], words: str) -> None:
    proof = json.loads(audit_bundle.proof_file(make_proof(), "a"))
    change(proof)
    read = audit_bundle.read_proof_file(json.dumps(proof).encode())
    with pytest.raises(BundleError, match=words):
        audit_bundle.check_proof(read, SIGNER.verifier)


def test_a_proof_by_another_key_is_refused() -> None:
    with pytest.raises(BundleError, match="cannot be trusted"):
        audit_bundle.check_proof(make_proof(), LogSigner.generate(SIGNER.origin).verifier)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"\xff",
        b"nothing",
        b'{"body":"a"}',
        b'{"body":1,"people":{}}',
        b'{"body":"a","people":[]}',
        b'{"body":"a","people":{"subject":1}}',
        b'{"body":"a","people":{},"more":1}',
        b'{"body":"a","body":"b","people":{}}',
        b'{"body":"a","people":{"a":{"value":NaN}}}',
        b'{"body":"\\ud800","people":{}}',
        b'{"body":"a","people":{"a":{"b":' + b"[" * 5000 + b"]" * 5000 + b"}}}",
        b'{"body":"a","people":{"a":' + b'{"b":' * 50 + b"1" + b"}" * 50 + b"}}",
        b"[" * 200_000,
    ],
)
def test_hostile_lines_are_refused_in_words(line: bytes) -> None:
    with pytest.raises(BundleError, match=r"^it[s]? "):
        audit_bundle.read_event_line(line)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"index":-1,"path":[]}',
        b'{"index":true,"path":[]}',
        b'{"index":1e3,"path":[]}',
        b'{"index":1,"path":{}}',
        b'{"index":1,"path":[1]}',
        b'{"index":1,"path":["a"]}',
        b'{"index":1,"path":["AAAA"]}',
        b'{"index":1,"path":[' + b'"",' * 63 + b'""]}',
    ],
)
def test_hostile_proofs_are_refused_in_words(line: bytes) -> None:
    with pytest.raises(BundleError, match=r"^it[s]? "):
        audit_bundle.read_proof_line(line)
