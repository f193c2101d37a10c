"""A real directory for a run: OpenLDAP's slapd with the people whom the contest manifests name.

What: makes a folder with certificates, configuration and people, once; adds whoever a manifest
names later. Why: so that one can see log-ins through LDAP without having a directory.
It must not: listen to other machines, or send a password over a wire without TLS.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ...errors import UserError
from ...hub.demo_accounts import make_password
from ...hub.demo_settings import DemoDirectorySettings
from ...models import ContestManifest
from .data_folder import DataFolder, write_file
from .probes import tls_probe
from .program import Program

NAME: Final = "demo"  # the directory's, in rules and identities
SUFFIX: Final = "dc=demo,dc=test"
PEOPLE: Final = f"ou=people,{SUFFIX}"
GROUPS: Final = f"ou=groups,{SUFFIX}"
READER: Final = f"cn=hub,ou=services,{SUFFIX}"
HOSTS: Final = f"cn=hosts,{GROUPS}"
_PLACES: Final = "/usr/sbin:/usr/libexec:/usr/lib/openldap:/usr/local/libexec:/opt/homebrew/sbin"
_SCHEMAS: Final = ("/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema")
_YEARS: Final = timedelta(days=3650)
_UID: Final = re.compile(r"[A-Za-z0-9._@-]+")  # what needs no escaping in a distinguished name
_CONFIGURATION: Final = """\
{includes}
{modules}
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/server.crt
TLSCertificateKeyFile {folder}/server.key
TLSProtocolMin 3.3
security ssf=128
disallow bind_anon
require authc
database mdb
maxsize 1073741824
suffix "{suffix}"
directory {folder}/db
index uid,member,entryUUID eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by * none
"""
RULES: Final = f"""\
# Which facts give what. It is read again when it changes.
# Teams come from the contests' rosters (members); the directory's group of hosts gives the admin.
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: {NAME}
    group: {HOSTS}
    gives: {{role: admin}}
"""


@dataclass(frozen=True)
class DemoDirectory:
    """What hub and programs must know of it."""

    folder: Path
    port: int

    @property
    def ca_file(self) -> Path:
        """The certificate authority's certificate."""
        return self.folder / "ca.crt"

    @property
    def password_file(self) -> Path:
        """Password of the hub's own account, which reads people and groups."""
        return self.folder / "hub-password"

    @property
    def rules_file(self) -> Path:
        """The rules; people may change them."""
        return self.folder / "entitlements.yaml"

    def to_settings(self) -> DemoDirectorySettings:
        """What the hub's configuration is told."""
        return DemoDirectorySettings(
            name=NAME,
            port=self.port,
            ca_file=str(self.ca_file),
            password_file=str(self.password_file),
            rules_file=str(self.rules_file),
            bind_dn=READER,
            people=PEOPLE,
            groups=GROUPS,
        )


def put_directory(
    folder: DataFolder, manifests: Iterable[ContestManifest], *, host: str, port: int
) -> DemoDirectory:
    """Make the directory whole, with everybody whom the manifests name by user name.

    Parameters
    ----------
    host
        User name of the hub's admin.

    Raises
    ------
    UserError
        There is no slapd on this machine, or it does not take what it is given.
    """
    directory = DemoDirectory(folder.root / "directory", port)
    slapd = _find_slapd()
    names = {m for c in manifests for t in c.teams.values() for m in t.members if type(m) is str}
    known = _read_accounts(folder.accounts)
    is_new = not directory.password_file.exists()
    new = sorted(name for name in {host, *names} - set(known) if _UID.fullmatch(name))
    accounts = {**known, **{name: make_password() for name in new}}
    if is_new:
        shutil.rmtree(directory.folder, ignore_errors=True)  # what a cut-short start left
        (directory.folder / "db").mkdir(parents=True, mode=0o700)
        _make_certificates(directory.folder)
        write_file(directory.rules_file, RULES)
    write_file(directory.folder / "slapd.conf", _make_configuration(directory.folder))
    if is_new:
        password = secrets.token_urlsafe(24)
        _add(slapd, directory, _make_ground(password, host) + _make_people(accounts))
        write_file(folder.accounts, json.dumps(dict(sorted(accounts.items())), indent=1))
        write_file(directory.password_file, password)  # last: from now on it is whole
    elif new:
        _add(slapd, directory, _make_people({name: accounts[name] for name in new}))
        write_file(folder.accounts, json.dumps(dict(sorted(accounts.items())), indent=1))
    return directory


def make_directory_program(directory: DemoDirectory) -> Program:
    """slapd, in the foreground, on this machine's own address alone."""
    address = f"ldaps://127.0.0.1:{directory.port}"
    configuration = str(directory.folder / "slapd.conf")
    return Program(
        name="directory",
        title="Directory (slapd)",
        command=(_find_slapd(), "-f", configuration, "-h", address, "-d", "0"),
        is_ready=tls_probe("127.0.0.1", directory.port, ca_file=directory.ca_file),
        cwd=directory.folder,
    )


def _find_slapd() -> str:
    found = shutil.which("slapd") or shutil.which("slapd", path=_PLACES)
    if found is None:
        raise UserError(
            "--auth ldap needs OpenLDAP's slapd, which is not on this machine. On Debian and"
            " Ubuntu: apt-get install --no-install-recommends slapd; on Fedora: dnf install"
            " openldap-servers. Or leave --auth out: the demo accounts need nothing."
        )
    return found


def _make_configuration(folder: Path) -> str:
    schemas = next((Path(p) for p in _SCHEMAS if Path(p).is_dir()), Path(_SCHEMAS[0]))
    includes = [f"include {schemas}/{n}.schema" for n in ("core", "cosine", "inetorgperson")]
    modules = [
        f"modulepath {place}\nmoduleload back_mdb"
        for place in ("/usr/lib/ldap", "/usr/lib64/openldap", "/usr/libexec/openldap")
        if any(Path(place).glob("back_mdb*"))
    ]
    return _CONFIGURATION.format(
        includes="\n".join(includes),
        modules="\n".join(modules[:1]),
        folder=folder,
        suffix=SUFFIX,
        reader=READER,
    )


def _make_ground(password: str, host: str) -> str:
    units = "".join(
        f"dn: ou={unit},{SUFFIX}\nobjectClass: organizationalUnit\nou: {unit}\n\n"
        for unit in ("people", "groups", "services")
    )
    return (
        f"dn: {SUFFIX}\nobjectClass: domain\ndc: demo\n\n{units}"
        f"dn: {READER}\nobjectClass: person\ncn: hub\nsn: hub\n"
        f"userPassword: {_hash(password)}\n\n"
        f"dn: {HOSTS}\nobjectClass: groupOfNames\ncn: hosts\nmember: uid={host},{PEOPLE}\n\n"
    )


def _make_people(accounts: dict[str, str]) -> str:
    return "".join(
        f"dn: uid={name},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\n"
        f"sn: {name}\nuserPassword: {_hash(password)}\n\n"
        for name, password in accounts.items()
    )


def _hash(password: str) -> str:
    """As OpenLDAP keeps it where it has nothing better: salted SHA-1 (RFC 2307)."""
    salt = secrets.token_bytes(16)
    digest = hashlib.sha1(password.encode() + salt).digest()  # noqa: S324 - slapd's own form
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _add(slapd: str, directory: DemoDirectory, ldif: str) -> None:
    configuration = str(directory.folder / "slapd.conf")
    done = subprocess.run(  # noqa: S603 - slapd's own tool
        [slapd, "-T", "add", "-f", configuration], input=ldif, capture_output=True, text=True
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise UserError(f"The demo's directory in {directory.folder} cannot be filled: {said}")


def _read_accounts(path: Path) -> dict[str, str]:
    try:
        return {str(name): str(password) for name, password in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}


def _make_certificates(folder: Path) -> None:
    """A certificate authority of its own, whose key nobody keeps, and one certificate by it."""
    now = datetime.now(timezone.utc)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jupyterhub-collab demo")])
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())

    def start(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
        made = made.public_key(public).serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + _YEARS)

    ca = (
        start(issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo directory")])
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    of_ca = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id)
    server = (
        start(name, key.public_key())
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(of_ca, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_file(folder / "ca.crt", ca.public_bytes(pem).decode())
    write_file(folder / "server.crt", server.public_bytes(pem).decode())
    write_file(folder / "server.key", plain.decode())
