"""The script in docs/audit-verify.md: cut out of the page, run as a sponsor would run it."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyterhub_collab.policy import audit_bundle
from jupyterhub_collab.policy.audit_bundle import EventLine, EventProof
from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.policy.merkle import make_inclusion_proof, root_of
from tests.policy.audit_logs import SIGNER, START, hashes_of, make_event, make_row

PAGE = Path(__file__).parents[2] / "docs" / "audit-verify.md"
SIZE = 300
KEY = SIGNER.verifier.to_text()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (found,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path_factory.mktemp("sponsor") / "check_proof.py"
    path.write_text(found)
    return path


def make_proof(index: int, size: int = SIZE, signer: LogSigner = SIGNER) -> dict[str, Any]:
    rows = [make_row(n, make_event(n)) for n in range(1, size + 1)]
    leaves = hashes_of(rows)
    path = make_inclusion_proof(index, size, lambda a, b: root_of(leaves[a:b]))
    row = rows[index]
    event = EventLine(row.body or b"", json.loads(row.people) if row.people else {})
    proof = EventProof(event, index, size, path, signer.sign(size, root_of(leaves), START))
    found: dict[str, Any] = json.loads(audit_bundle.proof_file(proof, signer.origin))
    return found


def run(script: Path, proof: Any, key: str = KEY) -> subprocess.CompletedProcess[str]:
    file = script.with_name("proof.json")
    file.write_text(proof if isinstance(proof, str) else json.dumps(proof))
    return subprocess.run(
        [sys.executable, "-I", str(script), key, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, SIZE), (40, SIZE), (299, SIZE), (6, 7)])
def test_a_good_proof(script: Path, index: int, size: int) -> None:
    done = run(script, make_proof(index, size))
    assert done.returncode == 0, done.stderr
    assert f"PROVED: event {index + 1} is among the first {size} of this log" in done.stdout
    assert done.stderr == ""


def test_it_prints_who_and_what(script: Path) -> None:
    done = run(script, make_proof(40))
    assert '"name": "user-11"' in done.stdout
    bare = make_proof(40)
    bare["event"]["people"] = {}
    done = run(script, bare)
    assert done.returncode == 0
    assert "user-11" not in done.stdout


def _text(old: str, new: str) -> Callable[[dict[str, Any]], Any]:
    def change(proof: dict[str, Any]) -> Any:
        text = json.dumps(proof)
        assert old in text
        return text.replace(old, new, 1)

    return change


def _set(value: Any, *path: Any) -> Callable[[dict[str, Any]], Any]:
    def change(proof: dict[str, Any]) -> Any:
        place: Any = proof
        for key in path[:-1]:
            place = place[key]
        assert place[path[-1]] != value
        place[path[-1]] = value
        return proof

    return change


def _in_note(old: str, new: str) -> Callable[[dict[str, Any]], Any]:
    def change(proof: dict[str, Any]) -> Any:
        assert old in proof["checkpoint"]
        return {**proof, "checkpoint": proof["checkpoint"].replace(old, new, 1)}

    return change


BAD: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another text": _text("egress.connect", "dataset.read"),
    "another person": _text("user-11", "user-12"),
    "another salt": lambda p: _set("00" * 16, "event", "people", "subject", "salt")(p),
    "another index": _set(41, "index"),
    "index below 0": _set(-260, "index"),
    "index of truth": _set(True, "index"),
    "another size": _set(SIZE + 1, "size"),
    "a path that is shorter": lambda p: {**p, "path": p["path"][:-1]},
    "a path that is longer": lambda p: {**p, "path": [*p["path"], p["path"][0]]},
    "a path turned round": lambda p: {**p, "path": p["path"][::-1]},
    "no path": _set([], "path"),
    "a path of numbers": _set([1, 2], "path"),
    "another size in the note": _in_note("\n300\n", "\n301\n"),
    "another time in the note": _in_note("time 2027", "time 2026"),
    "no signature": lambda p: {**p, "checkpoint": p["checkpoint"].split("\n\n")[0]},
    "no note": _set("", "checkpoint"),
    "a note that is a number": _set(1, "checkpoint"),
    "no people": _set(None, "event", "people"),
    "somebody put in": lambda p: {
        **p,
        "event": {**p["event"], "people": {"actor": p["event"]["people"]["subject"]}},
    },
    "nothing": lambda p: {},
    "a list": lambda p: [],
    "no JSON": lambda p: "nothing",
    "a name twice": lambda p: json.dumps(p)[:-1] + ', "index": 40}',
    "deep": lambda p: "[" * 100_000,
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_proof(script: Path, name: str) -> None:
    done = run(script, BAD[name](make_proof(40)))
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("NOT PROVED: ")
    assert "Traceback" not in done.stderr
    assert "PROVED: event" not in done.stdout


def test_another_key_is_refused(script: Path) -> None:
    other = LogSigner.generate(SIGNER.origin).verifier.to_text()
    for key in (other, KEY.replace("+", "+0", 1), "nothing", "a+b+c", KEY[:-4]):
        done = run(script, make_proof(40), key)
        assert done.returncode == 1
        assert done.stderr.startswith("NOT PROVED: ")


# RFC 8032, 7.1: TEST 1, 2 and 3: key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def test_its_signatures_are_those_of_rfc_8032(script: Path) -> None:
    is_signed = runpy.run_path(str(script))["is_signed"]
    for key, message, signature in VECTORS:
        k, m, s = (bytes.fromhex(text) for text in (key, message, signature))
        assert is_signed(k, m, s)
        assert not is_signed(k, m + b"x", s)
        for at in range(64):
            assert not is_signed(k, m, s[:at] + bytes([s[at] ^ 1]) + s[at + 1 :])
        # A second S for the same signature must not pass (RFC 8032, 5.1.7: S < L).
        larger = int.from_bytes(s[32:], "little") + 2**252 + 27742317777372353535851937790883648493
        assert not is_signed(k, m, s[:32] + larger.to_bytes(32, "little"))
        assert not is_signed(k[:-1], m, s)
        assert not is_signed(k, m, s[:-1])
    for number in range(20):
        key_pair = Ed25519PrivateKey.generate()
        public, message_bytes = key_pair.public_key().public_bytes_raw(), bytes([number]) * number
        assert is_signed(public, message_bytes, key_pair.sign(message_bytes))
        assert not is_signed(public, message_bytes + b"0", key_pair.sign(message_bytes))
