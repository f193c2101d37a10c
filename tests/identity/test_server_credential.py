"""The server credential: signs what it should, and nothing else passes for one."""

import base64
import json
import os
import stat
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyterhub_collab.identity import server_credential as sc

NOW = datetime(2027, 1, 31, 12, 0, tzinfo=timezone.utc)
CLAIMS = sc.ServerClaims("hub", "ada", "", "ocean", "sea", "id-1", NOW)


@pytest.fixture
def issuer():
    return sc.CredentialIssuer(Ed25519PrivateKey.generate())


def claims_of(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def test_says_what_was_minted(issuer):
    assert issuer.verify(issuer.mint(CLAIMS), hub_id="hub") == CLAIMS


def test_anyone_verifies_with_the_published_keys(issuer):
    keys = sc.from_jwks(json.loads(json.dumps(issuer.to_jwks())))
    assert sc.verify(issuer.mint(CLAIMS), keys, hub_id="hub") == CLAIMS


def test_published_keys_hold_nothing_private(issuer):
    (key,) = issuer.to_jwks()["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}
    assert issuer.key_id in repr(issuer)
    assert "PRIVATE" not in repr(issuer)


def test_one_changed_character_anywhere_is_refused(issuer):
    token = issuer.mint(CLAIMS)
    for i in range(len(token) - 1):
        if token[i] == ".":
            continue
        changed = token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :]
        with pytest.raises(sc.CredentialError):
            issuer.verify(changed, hub_id="hub")


def encode(payload, key, *, algorithm="EdDSA", **headers):
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


def test_a_clock_that_was_put_back_ends_no_credential(issuer):
    ahead = replace(CLAIMS, issued_at=NOW + timedelta(days=36500))
    assert issuer.verify(issuer.mint(ahead), hub_id="hub") == ahead


def test_other_algorithms_are_refused_even_with_the_right_key_id(issuer):
    payload = claims_of(issuer.mint(CLAIMS))
    public = issuer._key.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    head = {"kid": issuer.key_id, "typ": sc.TYPE}
    forged = [
        jwt.encode(payload, "", algorithm="none", headers=head),
        jwt.encode(payload, public, algorithm="HS256", headers=head),
        jwt.encode(payload, issuer._key, algorithm="EdDSA", headers={"kid": issuer.key_id}),
        jwt.encode(payload, issuer._key, algorithm="EdDSA", headers={**head, "kid": "other"}),
        jwt.encode(payload, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers=head),
    ]
    for token in forged:
        with pytest.raises(sc.CredentialError):
            issuer.verify(token, hub_id="hub")


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "other-hub"},
        {"aud": "somebody-else"},
        {"aud": None},
        {"team": None},
        {"team": 1},
        {"jti": None},
        {"iat": None},
        {"iat": "yesterday"},
        {"iat": True},
        {"iat": 10**18},
        {"sub": ["ada"]},
        {"admin": True},
    ],
    ids=str,
)
def test_wrong_claims_are_refused(issuer, change):
    payload = {**claims_of(issuer.mint(CLAIMS)), **change}
    payload = {k: v for k, v in payload.items() if v is not None}
    token = encode(payload, issuer._key, kid=issuer.key_id, typ=sc.TYPE)
    with pytest.raises(sc.CredentialError):
        issuer.verify(token, hub_id="hub")


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "a" * 5000, "\x00", "é.é.é", "{}.{}.{}", None, 7, b"x"]
)
def test_nonsense_is_refused(issuer, token):
    with pytest.raises(sc.CredentialError):
        issuer.verify(token, hub_id="hub")


def test_a_refusal_does_not_repeat_the_credential(issuer):
    token = encode({"aud": "x"}, issuer._key, kid=issuer.key_id, typ=sc.TYPE)
    with pytest.raises(sc.CredentialError) as refused:
        issuer.verify(token, hub_id="hub")
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    "jwks",
    [{}, {"keys": None}, {"keys": [1]}, {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}],
)
def test_broken_key_sets_are_refused(jwks):
    with pytest.raises(sc.CredentialError):
        sc.from_jwks(jwks)


def test_other_kinds_of_key_are_passed_over():
    assert sc.from_jwks({"keys": [{"kty": "RSA"}]}) == {}


def test_key_file_is_its_owners_alone_and_stays(tmp_path):
    path = tmp_path / "new" / "credential-key.pem"
    first = sc.key_id(sc.load_or_create_key(path).public_key())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sc.key_id(sc.load_or_create_key(path).public_key()) == first
    assert os.listdir(path.parent) == [path.name]


def test_hubs_that_start_at_once_share_one_key(tmp_path):
    path = tmp_path / "key.pem"
    found = []
    barrier = threading.Barrier(8)

    def load():
        barrier.wait()
        found.append(sc.key_id(sc.load_or_create_key(path).public_key()))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert os.listdir(tmp_path) == ["key.pem"]


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----\n", "nonsense"])
def test_half_a_key_is_one_sentence_and_is_not_overwritten(tmp_path, text):
    path = tmp_path / "key.pem"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(sc.CredentialKeyError, match="does not hold a private key"):
        sc.load_or_create_key(path)
    assert path.read_text() == text


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_key_may_be_readable_by_its_group_as_kubernetes_mounts_it(tmp_path, mode):
    path = tmp_path / "key.pem"
    made = sc.load_or_create_key(path)
    path.chmod(mode)
    assert sc.load_or_create_key(path).public_key() == made.public_key()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_key_that_others_can_read_or_change_is_refused(tmp_path, mode):
    path = tmp_path / "key.pem"
    sc.load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(sc.CredentialKeyError, match="chmod 600"):
        sc.load_or_create_key(path)
