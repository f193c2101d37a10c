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
_PEM: Final = serialization.Encoding.PEM
_PKI_FILES: Final = ("ca.crt", "server.crt", "server.key", "token")


class Paths:
    """Where things are in an embedded cluster's folder.

    Attributes
    ----------
    volumes
        Data of persistent volumes: volumes/NAMESPACE/CLAIM.
    pods
        A folder for each pod, by UID.
    """

    def __init__(self, directory: str | Path) -> None:
        self.root: Final = Path(directory).resolve()
        self.kubeconfig: Final = self.root / "kubeconfig"
        self.database: Final = self.root / "state.db"
        self.volumes: Final = self.root / "volumes"
        self.pods: Final = self.root / "pods"
        self.pki: Final = self.root / "pki"
        self.ca_certificate: Final = self.pki / "ca.crt"

    @property
    def token(self) -> str:
        """The one bearer token; its holder may do everything."""
        return (self.pki / "token").read_text()

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(json.loads(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])

    def server_context(self) -> ssl.SSLContext:
        """The API server's side of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pki / "server.crt", self.pki / "server.key")
        return context


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _make_pki(paths: Paths) -> None:
    """A certificate that vouches for itself alone, its key, and the token."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "embedded-api")])
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(_HOST))]
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + _LIFE)
    for extension, is_critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.SubjectAlternativeName(addresses), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ):
        builder = builder.add_extension(extension, is_critical)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(_PEM)
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    token = secrets.token_urlsafe(32).encode()
    contents = (certificate, certificate, key.private_bytes(_PEM, *plain), token)
    fresh = Path(tempfile.mkdtemp(prefix=".pki-", dir=paths.root))
    for file, content in zip(_PKI_FILES, contents, strict=True):
        _write_private(fresh / file, content)
    fresh.rename(paths.pki)


def _known_port(paths: Paths) -> int:
    """The kubeconfig's port, or a free one."""
    try:
        return int(paths.server.rpartition(":")[2])
    except (OSError, ValueError, KeyError, IndexError):  # none, or not ours: written anew
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
        The folder holds half of what it should.
    """
    paths = Paths(directory)
    if paths.database.exists() and not paths.pki.exists():
        raise PermanentError(f"{paths.root} lacks its pki folder: restore it, or move all away.")
    for folder in (paths.root, paths.volumes, paths.pods):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in paths.root.glob(".pki-*"):
        shutil.rmtree(leftover)
    if not paths.pki.exists():
        _make_pki(paths)
    for file in (paths.pki / name for name in _PKI_FILES):
        if not file.is_file() or not file.stat().st_size:
            fix = f"restore it, or move {paths.root} away"
            raise PermanentError(f"{file} is missing or empty: {fix}.")
    server = f"https://{_HOST}:{port or _known_port(paths)}"
    name, ca = "embedded", str(paths.ca_certificate)
    clusters = [{"name": name, "cluster": {"server": server, "certificate-authority": ca}}]
    users = [{"name": name, "user": {"token": paths.token}}]
    contexts = [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}]
    head = {"apiVersion": "v1", "kind": "Config", "current-context": name}
    config = {**head, "clusters": clusters, "users": users, "contexts": contexts}
    _write_private(paths.kubeconfig, json.dumps(config, indent=2).encode())
    return paths


def hold_lease(paths: Paths, name: str) -> IO[str]:
    """Be the only `name` on this folder for as long as the file returned stays open.

    Raises
    ------
    PermanentError
        Another instance runs.
    """
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (paths.root / f"{name}.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        message = f"Another embedded {name} runs on {paths.root}: stop it first."
        raise PermanentError(message) from error
    return file
