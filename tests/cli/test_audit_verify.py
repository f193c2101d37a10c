"""`jupyterhub-collab audit verify` and `prove`: exit codes, sentences, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from jupyterhub_collab.cli.main import app
from jupyterhub_collab.policy.audit_bundle import check_proof, read_proof_file
from jupyterhub_collab.policy.checkpoint import LogSigner
from tests.policy.audit_logs import SIGNER
from tests.storage.written_log import ANCHORED, SIZE, START, Written, export, zipped

KEY = SIGNER.verifier.to_text()


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    written = Written(f"sqlite:///{tmp_path}/log.sqlite", tmp_path)
    yield written
    written.engine.dispose()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_an_untouched_log(written: Written, tmp_path: Path) -> None:
    key = tmp_path / "audit.pub"
    key.write_text(KEY + "\n")
    database = tmp_path / "log.sqlite"
    note = tmp_path / "mail.txt"
    note.write_text(written.notes[0].text.replace("\n", "\r\n"))
    for given in (KEY, key):
        for where in (database, written.url):
            done = run("verify", "--key", given, "--database", where, "--anchor", written.anchor)
            assert done.exit_code == 0, done.output
            assert done.stdout.splitlines() == [
                f"Events 1 to {ANCHORED} are what they were, by 2 checkpoints from outside.",
                f"Not anchored: events {ANCHORED + 1} to {SIZE}. No checkpoint from outside vouches"
                " for them.",
            ]
    done = run("verify", "--key", KEY, "--database", database, "--checkpoint", note, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["anchored"] == 600
    done = run("verify", "--key", KEY, "--database", database, "--inside-only", "--processes", 2)
    assert done.exit_code == 0
    assert "Nothing from outside vouches for them." in done.stdout
    bundle = zipped(export(written, tmp_path))
    done = run("verify", "--key", KEY, "--bundle", bundle, "--anchor", written.anchor)
    assert done.exit_code == 0
    assert f"Events 1 to {ANCHORED} are what they were" in done.stdout


def test_a_log_that_was_tampered_with(written: Written) -> None:
    written.execute(
        "UPDATE audit_events SET body = REPLACE(body, 'token', 'taken') WHERE sequence = 303",
        "UPDATE audit_people SET name = 'eve-' || name",
    )
    arguments = ("verify", "--key", KEY, "--database", written.url, "--anchor", written.anchor)
    done = run(*arguments)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("TAMPERED. ")
    assert any("Event 303 was edited." in line for line in lines)
    assert any("and " in line and "more (--json" in line for line in lines)
    assert len(lines) < 30
    done = run(*arguments, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["fine"], found["firstBad"]["exact"]) == (False, True)
    assert found["counts"]["index"] > 1000
    assert len(found["findings"]) < 300
    assert "user-" not in done.stdout
    assert "eve-" not in done.stdout


def test_what_cannot_be_checked(written: Written, tmp_path: Path) -> None:
    database, anchor = tmp_path / "log.sqlite", written.anchor
    other = LogSigner.generate(SIGNER.origin).verifier.to_text()
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in (
        (("--database", database), "Nothing from outside to check against"),
        (("--anchor", anchor), "--database or --bundle"),
        (("--database", database, "--bundle", empty, "--anchor", anchor), "one of them"),
        (("--database", database, "--anchor", empty), "holds no checkpoints"),
        (("--database", database, "--anchor", tmp_path / "none"), "no folder or zip"),
        (("--database", database, "--checkpoint", tmp_path / "none"), "cannot be read"),
        (("--database", tmp_path / "none", "--anchor", anchor), "There is no database"),
        (("--bundle", empty, "--anchor", anchor), "is no bundle"),
        (("--database", anchor / "checkpoint", "--anchor", anchor), "cannot be read as an audit"),
    ):
        done = run("verify", "--key", KEY, *arguments)
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert done.stderr.startswith("Cannot check: ")
        assert done.stdout == ""
    for key, words in (
        (other, "signed by this key"),
        ("nothing", "The key cannot be read"),
        (SIGNER.to_text(), "The key cannot be read"),
        (str(anchor / "checkpoint"), "cannot be read"),
    ):
        done = run("verify", "--key", key, "--database", database, "--anchor", anchor)
        assert done.exit_code == 2
        assert words in done.stderr
        assert SIGNER.to_text() not in done.stderr
    done = run("verify", "--key", KEY, "--database", database, "--anchor", anchor, "--processes", 0)
    assert done.exit_code == 2  # the parser's own


def test_names_in_a_log_do_not_command_the_terminal(written: Written, tmp_path: Path) -> None:
    false = tmp_path / "false.txt"
    note = LogSigner.generate("\x1b[31mred").sign(5, bytes(32), START)
    false.write_text(note)
    done = run(
        *("verify", "--key", KEY, "--database", written.url),
        *("--anchor", written.anchor, "--checkpoint", false),
    )
    assert done.exit_code == 1
    assert "of the log ?[31mred" in done.stdout
    assert "\x1b[31mred" not in done.stdout


def test_a_proof(written: Written, tmp_path: Path) -> None:
    out = tmp_path / "proof.json"
    done = run("prove", 1000, "--key", KEY, "--database", written.url, "--out", out)
    assert done.exit_code == 0, done.output
    assert f"event 1000 is one of the first {SIZE} of {SIGNER.origin}." in done.stdout
    proof = read_proof_file(out.read_bytes())
    assert check_proof(proof, SIGNER.verifier).size == SIZE
    assert proof.event.people
    done = run("prove", 1000, "--key", KEY, "--database", written.url, "--out", out)
    assert (done.exit_code, "cannot be written" in done.stderr) == (2, True)
    out.unlink()
    bundle, note = export(written, tmp_path), written.anchor / "checkpoints" / str(ANCHORED)
    done = run(
        *("prove", 1000, "--key", KEY, "--bundle", bundle, "--checkpoint", note),
        *("--no-people", "--out", out),
    )
    assert done.exit_code == 0, done.output
    proof = read_proof_file(out.read_bytes())
    assert check_proof(proof, SIGNER.verifier).size == ANCHORED
    assert not proof.event.people
    out.unlink()
    for arguments, words in (
        ((9999, "--database", written.url), "no event 9999"),
        ((1250, "--database", written.url, "--checkpoint", note), "no checkpoint of this key"),
        ((1,), "--database or --bundle"),
    ):
        done = run("prove", *arguments, "--key", KEY, "--out", out)
        assert (done.exit_code, words in done.stderr) == (2, True), done.output
        assert not out.exists()
