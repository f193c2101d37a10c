"""The certificate: one text for one end, checked offline, and no change of it unnoticed."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyterhub_collab.policy.checkpoint import CheckpointError, LogSigner
from jupyterhub_collab.policy.teardown_certificate import (
    Asked,
    CertificateError,
    EndedTeam,
    KeptVolume,
    Scan,
    TeardownCertificate,
    certificate_sha256,
    sign_certificate,
    tell_certificate,
    verify_certificate,
    volume_labels,
)

GOLDEN = Path(__file__).parent / "golden" / "teardown-certificate.txt"
AT = datetime(2027, 7, 1, 12, tzinfo=timezone.utc)
SIGNER = LogSigner("hub.example.org/contests", Ed25519PrivateKey.from_private_bytes(b"s" * 32))


def make_certificate() -> TeardownCertificate:
    """Of a small contest: one team's volumes are kept, another's were not."""
    audit = LogSigner("hub.example.org/audit", Ed25519PrivateKey.from_private_bytes(b"a" * 32))
    return TeardownCertificate(
        contest="reef",
        at=AT,
        asked=Asked(17, AT - timedelta(days=2), "person", "person"),
        teams=(
            EndedTeam(
                "ocean", "team-ocean", 3, 2, archived_at=AT - timedelta(days=1), destroyed_at=AT
            ),
            EndedTeam("river", "team-river", 2, 1, 1, 1 << 30, destroyed_at=AT),
        ),
        kept=(
            KeptVolume(
                "ocean",
                "team",
                "s3",
                "reef/ocean.0123456789abcdef.17.tar",
                1000,
                "a" * 64,
                AT - timedelta(days=1),
                AT + timedelta(days=365),
                files=12,
                missed=1,
            ),
            KeptVolume(
                "ocean", "personal-1", "s3", "reef/x.tar", 24, "b" * 64, AT - timedelta(days=1)
            ),
        ),
        scan=Scan(AT, ("Job", "Namespace", "hub groups"), {"Secret": "Nobody lists these."}),
        audit_checkpoint=audit.sign(5, b"r" * 32, AT),
    )


def test_the_text_is_as_it_was(request: pytest.FixtureRequest) -> None:
    """Written anew by hand only: certificates that were given must be read for years."""
    assert sign_certificate(make_certificate(), SIGNER) == GOLDEN.read_text()


def test_what_was_signed_is_read_as_it_was_said() -> None:
    note = sign_certificate(make_certificate(), SIGNER)
    assert verify_certificate(note, SIGNER.verifier) == make_certificate()
    assert len(certificate_sha256(note)) == 64


def test_any_change_is_noticed() -> None:
    note = sign_certificate(make_certificate(), SIGNER)
    chance = random.Random(7)
    for place in chance.sample(range(len(note)), 300):
        other = chr((ord(note[place]) + 1 + chance.randrange(90)) % 0x300)
        changed = note[:place] + other + note[place + 1 :]
        if changed.rstrip("\n") == note.rstrip("\n"):
            continue
        with pytest.raises(CertificateError):
            verify_certificate(changed, SIGNER.verifier)


@pytest.mark.parametrize(
    "change",
    [
        lambda note: "",
        lambda note: note[: len(note) // 2],
        lambda note: note.replace('"missed": 1', '"missed": 0'),
        lambda note: note.replace("team-river", "team-rivet"),
        lambda note: note.partition("\n\n")[0] + "\n",
        lambda note: note.replace("\n", "\r\n"),
        lambda note: "x" + note,
    ],
)
def test_what_is_not_whole_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CertificateError):
        verify_certificate(change(sign_certificate(make_certificate(), SIGNER)), SIGNER.verifier)


def test_another_key_is_told() -> None:
    other = LogSigner.generate("hub.example.org/contests")
    with pytest.raises(CertificateError, match="not signed by this key"):
        verify_certificate(sign_certificate(make_certificate(), SIGNER), other.verifier)
    with pytest.raises(CertificateError, match="not signed by this key"):
        verify_certificate(
            sign_certificate(make_certificate(), SIGNER), LogSigner.generate("elsewhere").verifier
        )


def test_a_certificate_is_no_checkpoint_and_a_checkpoint_no_certificate() -> None:
    checkpoint = SIGNER.sign(5, b"r" * 32, AT)
    with pytest.raises(CertificateError, match="no certificate"):
        verify_certificate(checkpoint, SIGNER.verifier)
    with pytest.raises(CheckpointError):
        SIGNER.verifier.open(sign_certificate(make_certificate(), SIGNER))


def test_what_is_signed_and_of_another_form_is_refused() -> None:
    good = make_certificate().to_text()
    for text in (
        good.replace("certificate v1", "certificate v2"),
        good.replace('"contest": "reef"', '"contest": "roof"'),
        good.replace('"teams": 2', '"teams": 3'),
        good.replace('"operation": 17', '"operation":  17'),
        good.replace('"by": "person"', '"by": "person", "new": 1'),
        "jupyterhub-collab teardown certificate v1\n",
        "jupyterhub-collab teardown certificate v1\nreef\n[]\n",
    ):
        assert text != good
        with pytest.raises(CertificateError):
            verify_certificate(SIGNER.sign_text(text), SIGNER.verifier)


def test_it_is_told_to_people() -> None:
    told = "\n".join(tell_certificate(make_certificate()))
    assert "2 teams with 5 members and 3 volumes" in told
    assert "1 volumes were destroyed without a copy" in told
    assert "approved by a second person" in told
    assert "1 entries of volumes could not be copied" in told
    quiet = replace(make_certificate(), kept=())
    assert "could not be copied" not in "\n".join(tell_certificate(quiet))


def test_volumes_are_named_without_naming_people() -> None:
    claims = ["personal-grace-1", "team", "personal-ada-0"]
    assert volume_labels(claims, team_claim="team") == {
        "personal-ada-0": "personal-1",
        "personal-grace-1": "personal-2",
        "team": "team",
    }


def test_a_note_has_no_blank_lines_but_its_own() -> None:
    for text in ("a\n\nb\n", "a", ""):
        with pytest.raises(ValueError, match="note"):
            SIGNER.sign_text(text)


def test_the_manuals_check_by_openssl_alone_says_the_same(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: not proved that the manual's check works")
    manual = (Path(__file__).parents[2] / "docs" / "teardown.md").read_text()
    [script] = re.findall(r"```sh\n(.*?openssl.*?)```", manual, re.DOTALL)
    note = sign_certificate(make_certificate(), SIGNER)
    (tmp_path / "key.txt").write_text(SIGNER.verifier.to_text() + "\n")
    for text, is_right in ((note, True), (note.replace('"missed": 1', '"missed": 0'), False)):
        (tmp_path / "certificate.txt").write_text(text)
        done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode == 0) is is_right, done.stdout + done.stderr
