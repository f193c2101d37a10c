"""The folder of an embedded cluster: certificates, token, kubeconfig, leases.

Everything that proves who one is is made at once and moved into place whole, so that a kill
leaves no half of it. Files are readable by their owner only.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import secrets
import shutil
import socket
import ssl
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import PermanentError

_LIFE: Final = timedelta(days=3650)  # of the certificates; a laptop's folder is made anew sooner
_HOST: Final = "127.0.0.1"
_PKI: Final = ("ca.crt", "server.crt", "server.key", "token")


@dataclass(frozen=True)
class Paths:
    """Where things are in an embedded cluster's folder."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def database(self) -> Path:
        return self.root / "state.db"

    @property
    def volumes(self) -> Path:
        """Data of persistent volumes: volumes/NAMESPACE/CLAIM."""
        return self.root / "volumes"

    @property
    def pods(self) -> Path:
        """A folder for each pod, by UID."""
        return self.root / "pods"

    @property
    def ca_certificate(self) -> Path:
        return self.root / "pki" / "ca.crt"

    @property
    def token(self) -> str:
        """The one bearer token; its holder may do everything."""
        return (self.root / "pki" / "token").read_text()

    @property
    def server(self) -> str:
        """URL of the API server."""
        config = json.loads(self.kubeconfig.read_text())
        return str(config["clusters"][0]["cluster"]["server"])

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pki = self.root / "pki"
        context.load_cert_chain(pki / "server.crt", pki / "server.key")
        return context


def _certificate(
    name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate of the CA (`issuer` None) or of the server."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    signer = issuer[1] if issuer else key
    usage = x509.KeyUsage(
        digital_signature=issuer is not None,
        key_cert_sign=issuer is None,
        crl_sign=issuer is None,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
    )
    if issuer:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(_HOST))]
        server_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        builder = builder.add_extension(server_auth, False)
    return builder.sign(signer, hashes.SHA256()), key


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _make_pki(root: Path) -> None:
    ca, ca_key = _certificate("embedded-ca", None)
    server, server_key = _certificate("embedded-api", (ca, ca_key))
    pem = serialization.Encoding.PEM
    fresh = Path(tempfile.mkdtemp(prefix=".pki-", dir=root))
    key_format = serialization.PrivateFormat.PKCS8
    key_pem = server_key.private_bytes(pem, key_format, serialization.NoEncryption())
    _write_private(fresh / "ca.crt", ca.public_bytes(pem))
    _write_private(fresh / "server.crt", server.public_bytes(pem))
    _write_private(fresh / "server.key", key_pem)
    _write_private(fresh / "token", secrets.token_urlsafe(32).encode())
    fresh.rename(root / "pki")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def prepare(directory: str | Path, port: int | None = None) -> Paths:
    """Make the folder fit to start in: certificates, token and kubeconfig, where they lack.

    Parameters
    ----------
    port
        Of the API server. None: the one in the kubeconfig, or a free one.

    Raises
    ------
    PermanentError
        The folder holds something else, or half of what it should.
    """
    paths = Paths(Path(directory).resolve())
    root = paths.root
    if root.exists() and not (root / "pki").exists() and (paths.database.exists()):
        raise PermanentError(f"{root} lacks its pki folder: restore it, or move {root} away.")
    for folder in (root, paths.volumes, paths.pods):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in root.glob(".pki-*"):
        shutil.rmtree(leftover)
    if not (root / "pki").exists():
        _make_pki(root)
    for name in _PKI:
        file = root / "pki" / name
        if not file.is_file() or not file.stat().st_size:
            raise PermanentError(f"{file} is missing or empty: restore it, or move {root} away.")
    if port is None and paths.kubeconfig.exists():
        try:
            port = int(paths.server.rpartition(":")[2])
        except (ValueError, KeyError, IndexError):
            port = None  # not ours any more, or torn: written anew
    cluster = {
        "server": f"https://{_HOST}:{port or _free_port()}",
        "certificate-authority": str(paths.ca_certificate),
    }
    context = {"cluster": "embedded", "user": "embedded", "namespace": "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "embedded", "cluster": cluster}],
        "users": [{"name": "embedded", "user": {"token": paths.token}}],
        "contexts": [{"name": "embedded", "context": context}],
        "current-context": "embedded",
    }
    _write_private(paths.kubeconfig, json.dumps(config, indent=2).encode())
    return paths


def hold_lease(paths: Paths, name: str) -> IO[str]:
    """Be the only `name` on this folder for as long as the file returned stays open.

    Raises
    ------
    PermanentError
        Another instance runs.
    """
    file = open(paths.root / f"{name}.lock", "a+")  # noqa: SIM115  (stays open)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        who = file.read().strip() or "unknown"
        file.close()
        raise PermanentError(
            f"Another embedded {name} (process {who}) runs on {paths.root}: stop it first."
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
