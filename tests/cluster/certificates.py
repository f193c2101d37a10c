"""The cluster's own certificate authority, and kubeconfig files.

Every cluster makes an authority of its own, valid for a month, so that credentials of one test
cluster are worth nothing on another. Keys are EC P-256: RSA would cost a second at each start.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: A test cluster lives for minutes, one from ``make cluster`` for days.
VALIDITY: Final = datetime.timedelta(days=30)
#: Certificates begin in the past, because clocks of a host and its guests differ.
BACKDATE: Final = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """Files of one certificate and its key (PEM)."""

    certificate: Path
    key: Path


def write_private(path: Path, data: bytes) -> None:
    """Write `data` into a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return `key` as unencrypted SEC 1 PEM, the form that every Kubernetes program reads."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def make_name(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    """Return the subject; Kubernetes reads the user from CN and the groups from O."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, item) for item in organizations]
    parts.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(parts)


class Authority:
    """A certificate authority whose files lie in one folder.

    Parameters
    ----------
    folder
        Existing folder for the certificates and keys.
    now
        Aware time from which the certificates count.
    name
        Of its own; two in one bundle need two.
    """

    def __init__(
        self,
        folder: Path,
        *,
        now: datetime.datetime,
        name: str = "jupyterhub-collab test cluster",
    ) -> None:
        self.folder = folder
        self.certificate_file = folder / "ca.crt"
        self._not_before = now - BACKDATE
        self._not_after = now + VALIDITY
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = make_name(name)
        builder = self._make_builder(self._name, self._key.public_key())
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        builder = builder.add_extension(_make_ca_usage(), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.certificate_file.write_bytes(self.pem)

    def _make_builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._not_before)
            .not_valid_after(self._not_after)
        )

    def issue(
        self,
        file_name: str,
        common_name: str,
        *,
        organizations: Sequence[str] = (),
        addresses: Sequence[str] = (),
        host_names: Sequence[str] = (),
    ) -> KeyPair:
        """Issue a certificate for client use, and for server use if it names any host."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in host_names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(item)) for item in addresses]
        builder = self._make_builder(make_name(common_name, organizations), key.public_key())
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        if alternatives:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = KeyPair(self.folder / f"{file_name}.crt", self.folder / f"{file_name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_private(pair.key, to_pem(key))
        return pair


def _make_ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_token_keys(folder: Path) -> KeyPair:
    """Make the pair that signs and verifies service account tokens (public half, private half)."""
    key = ec.generate_private_key(ec.SECP256R1())
    pair = KeyPair(folder / "service-account.pub", folder / "service-account.key")
    write_private(pair.key, to_pem(key))
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pair.certificate.write_bytes(public)
    return pair


def write_kubeconfig(
    path: Path,
    *,
    server: str,
    ca_pem: bytes,
    pair: KeyPair | None = None,
    token: str | None = None,
    namespace: str = "default",
) -> Path:
    """Write a self-contained kubeconfig file for a client certificate or a bearer token."""
    user: dict[str, str] = {}
    if pair is not None:
        user["client-certificate-data"] = _encode(pair.certificate.read_bytes())
        user["client-key-data"] = _encode(pair.key.read_bytes())
    if token is not None:
        user["token"] = token
    cluster = {"server": server, "certificate-authority-data": _encode(ca_pem)}
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }
    write_private(path, json.dumps(document, indent=2).encode())
    return path


def _encode(data: bytes) -> str:
    return b64encode(data).decode()
