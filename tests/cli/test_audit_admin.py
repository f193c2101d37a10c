"""`audit keygen` and `audit emitter`, as an administrator meets them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jupyterhub_collab.cli.main import app
from jupyterhub_collab.errors import UserError
from jupyterhub_collab.policy.audit_emitters import read_emitters
from jupyterhub_collab.policy.checkpoint import LogSigner, LogVerifier


def run(*arguments: str | Path) -> str:
    """What it printed. Raises as it does."""
    done = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    key = tmp_path / "log.key"
    said = run("keygen", "hub.test/audit", "--out", key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    signer = LogSigner.from_text(key.read_text())
    assert LogVerifier.from_text(said) == signer.verifier
    assert key.read_text().strip() not in said
    assert run("pubkey", key) == said
    (tmp_path / "no.key").write_text("PRIVATE+KEY+secret")
    for wrong, why in (("no.key", "does not hold"), ("nowhere", "cannot be read")):
        with pytest.raises(UserError, match=why) as refused:
            run("pubkey", tmp_path / wrong)
        assert "PRIVATE" not in str(refused.value)
    with pytest.raises(UserError, match="is there already; it is left as it is"):
        run("keygen", "hub.test/audit", "--out", key)
    assert LogSigner.from_text(key.read_text()).verifier == signer.verifier
    with pytest.raises(UserError, match="no white space"):
        run("keygen", "hub test", "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_emitters_come_and_go(tmp_path: Path) -> None:
    file = tmp_path / "emitters.json"
    token = run("emitter", "add", "hub", "--file", file).strip()
    assert token not in file.read_text()
    found = read_emitters(file.read_text()).find(token)
    assert found is not None
    assert found.name == "hub"
    assert "server.*" in found.verbs
    out = tmp_path / "gateway.token"
    said = run(
        *("emitter", "add", "gateway", "--file", file, "--verb", "dataset.read"),
        *("--token-out", out),
    )
    assert said == ""
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    listed = run("emitter", "list", "--file", file)
    assert listed.splitlines()[1] == "gateway\tdataset.read"
    assert token not in listed
    run("emitter", "remove", "hub", "--file", file)
    assert read_emitters(file.read_text()).find(token) is None
    assert read_emitters(file.read_text()).find(out.read_text().strip()) is not None


def test_mistakes_are_a_sentence_and_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "emitters.json"
    run("emitter", "add", "hub", "--file", file)
    before = file.read_text()
    for arguments, said in [
        (("add", "hub"), "There is an emitter hub; remove it first"),
        (("add", "jobs"), "Say what jobs may tell"),
        (("add", "jobs", "--verb", "audit.erase"), "only the service does"),
        (("add", "audit", "--verb", "login"), "the service's own"),
        (("add", "Jobs", "--verb", "login"), "No such emitter can be"),
        (("remove", "jobs"), "There is no emitter jobs"),
    ]:
        with pytest.raises(UserError, match=said):
            run("emitter", *arguments, "--file", file)
        assert file.read_text() == before
    with pytest.raises(UserError, match="cannot be read: No such file"):
        run("emitter", "list", "--file", tmp_path / "none")
    with pytest.raises(UserError, match="Say who asks"):
        run("erase", "ada", "--reason", "x", "--url", "http://127.0.0.1:9/")


def test_a_token_that_cannot_be_written_makes_no_emitter(tmp_path: Path) -> None:
    file, out = tmp_path / "emitters.json", tmp_path / "none" / "token"
    with pytest.raises(UserError, match="cannot be written"):
        run("emitter", "add", "hub", "--file", file, "--token-out", out)
    assert not file.exists()
