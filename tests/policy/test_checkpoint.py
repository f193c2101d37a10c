"""Checkpoints: what is signed is read back, what anybody changed is not."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.policy.checkpoint import (
    Checkpoint,
    CheckpointError,
    KeyTextError,
    LogSigner,
    LogVerifier,
)

ORIGIN = "collab.example.org/audit"
AT = datetime(2027, 3, 1, 10, 0, 0, tzinfo=timezone.utc)
ROOT = hashlib.sha256(b"head").digest()
SIGNER = LogSigner.generate(ORIGIN)
NOTE = SIGNER.sign(1234, ROOT, AT)


def test_what_is_signed_is_read_back_with_the_texts_of_the_keys() -> None:
    signer = LogSigner.from_text(SIGNER.to_text())
    verifier = LogVerifier.from_text(signer.verifier.to_text())
    assert verifier.open(NOTE) == Checkpoint(ORIGIN, 1234, ROOT, AT)
    assert signer.sign(1234, ROOT, AT) == NOTE


def test_the_form_is_that_of_other_logs() -> None:
    lines = NOTE.splitlines()
    assert lines[0] == ORIGIN
    assert lines[1] == "1234"
    assert lines[3] == "time 2027-03-01T10:00:00Z"
    assert lines[4] == ""
    assert lines[5].startswith(f"\u2014 {ORIGIN} ")


def test_a_known_key_of_signed_notes() -> None:
    # The example in the documentation of Go's golang.org/x/mod/sumdb/note.
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert LogVerifier.from_text(text).to_text() == text


@given(st.integers(0, len(NOTE) - 1), st.characters(codec="utf-8"))
def test_no_changed_character_passes(place: int, character: str) -> None:
    changed = NOTE[:place] + character + NOTE[place + 1 :]
    if changed == NOTE:
        return
    try:
        found = SIGNER.verifier.open(changed)
    except CheckpointError:
        return
    # Only the form of the signature may differ, never what was signed.
    assert found == Checkpoint(ORIGIN, 1234, ROOT, AT)


@given(st.text(max_size=300))
def test_any_text_is_a_checkpoint_or_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        SIGNER.verifier.open(text)


def test_another_key_and_another_log() -> None:
    with pytest.raises(CheckpointError, match="not signed by this key"):
        LogSigner.generate(ORIGIN).verifier.open(NOTE)
    with pytest.raises(CheckpointError, match="not of"):
        LogSigner.generate("another").verifier.open(NOTE)


@pytest.mark.parametrize(
    "text",
    ["", "a+b+c", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "x" * 999],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(KeyTextError) as public:
        LogVerifier.from_text(text)
    with pytest.raises(KeyTextError) as private:
        LogSigner.from_text(text)
    assert not text or (text not in str(public.value) and text not in str(private.value))


@pytest.mark.parametrize("origin", ["", "two words", "plus+plus", "a\nb", "x" * 201])
def test_names_that_a_log_cannot_have(origin: str) -> None:
    with pytest.raises(KeyTextError):
        LogSigner.generate(origin)
