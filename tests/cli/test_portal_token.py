"""`jupyterhub-collab portal-token`: makes keys that nobody else reads, and what a portal signs."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner

from jupyterhub_collab.cli.main import app
from jupyterhub_collab.errors import UserError
from tests.identity.publishing import claims_of

FOR = ["--issuer", "https://portal.example.org", "--hub", "https://hub.example.org/"]
LOGIN = ["--contest", "ocean", "--subject", "7", "--nonce", "n"]


def run(*arguments: str) -> str:
    """Its stdout. Expected failures are raised: `main` makes them sentences."""
    done = CliRunner().invoke(app, ["portal-token", *arguments])
    if isinstance(done.exception, Exception):
        raise done.exception
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "portal.pem"
    run("--new-key", str(path))
    return path


@pytest.mark.parametrize(("kind", "algorithm"), [("ed25519", "EdDSA"), ("p-256", "ES256")])
def test_a_key_and_a_token_that_it_signed(tmp_path: Path, kind: str, algorithm: str) -> None:
    path = tmp_path / "portal.pem"
    printed = run("--new-key", str(path), "--kind", kind)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in printed
    (jwk,) = json.loads(printed)["keys"]
    assert not {"d", "k"} & set(jwk)
    more = ["--username", "ada", "--group", "a", "--group", "b", "--claim", 'country="IT"']
    token = run("--key", str(path), *FOR, *LOGIN, *more, "--lifetime", "90")
    header = jwt.get_unverified_header(token)
    assert header == {"alg": algorithm, "kid": jwk["kid"], "typ": "portal+jwt"}
    claims = jwt.decode(
        token, jwt.PyJWK(jwk), algorithms=[algorithm], audience="https://hub.example.org#ocean"
    )
    assert (claims["sub"], claims["groups"], claims["country"]) == ("7", ["a", "b"], "IT")
    assert claims["exp"] - claims["iat"] == 90


def test_a_revocation(key: Path) -> None:
    token = run("--key", str(key), *FOR, "--revoke", "7", "--revoke", "8")
    assert jwt.get_unverified_header(token)["typ"] == "portal-revocation+jwt"
    claims = claims_of(token)
    assert (claims["aud"], claims["subs"]) == ("https://hub.example.org", ["7", "8"])


def test_no_key_is_written_over(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(UserError, match="is there already"):
        run("--new-key", str(key))
    assert key.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing: --key --issuer --hub --contest --subject --nonce"),
        (["--revoke", "7"], "missing: --key --issuer --hub"),
        (["--key", "nowhere.pem", *FOR, *LOGIN], "cannot be read"),
    ],
)
def test_what_is_missing_is_said(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(*arguments)


def test_a_key_that_others_read_and_a_bad_claim_are_refused(key: Path) -> None:
    with pytest.raises(UserError, match="--claim x: not NAME=JSON"):
        run("--key", str(key), *FOR, *LOGIN, "--claim", "x")
    with pytest.raises(UserError, match="claims: names one"):
        run("--key", str(key), *FOR, *LOGIN, "--claim", 'sub="8"')
    key.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        run("--key", str(key), *FOR, *LOGIN)
