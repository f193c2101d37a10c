"""A real OpenLDAP server with people and groups, started in a folder of its own.

AD's attributes (objectSid, tokenGroups, ...) are held here as plain data: that shows what is done
with them, not that Active Directory computes them so.
"""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SUFFIX = "dc=contest,dc=test"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
ADMIN = f"cn=admin,{SUFFIX}"
ADMIN_PASSWORD = "adminpw"
PASSWORD = "correct horse"
SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/bin:/sbin:/bin") or shutil.which("slapd")

CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
{active_directory}
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.crt
TLSCertificateFile {folder}/server.crt
TLSCertificateKeyFile {folder}/server.key
{security}
allow bind_anon_cred bind_anon_dn
database mdb
suffix "{suffix}"
rootdn "{admin}"
rootpw {password}
directory {folder}/db
overlay memberof
memberof-group-oc groupOfNames
memberof-member-ad member
overlay ppolicy
ppolicy_default "cn=default,ou=policies,{suffix}"
ppolicy_use_lockout
"""


# As Active Directory has them (MS-ADA), and comparable, which OpenLDAP's msuser.schema leaves out.
ACTIVE_DIRECTORY = "\n".join(
    f"attributetype ( 1.3.6.1.4.1.99999.1.{number} NAME '{name}' EQUALITY {rule} SYNTAX {syntax} )"
    for number, (name, rule, syntax) in enumerate(
        [
            ("objectGUID", "octetStringMatch", "1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE"),
            ("objectSid", "octetStringMatch", "1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE"),
            ("tokenGroups", "octetStringMatch", "1.3.6.1.4.1.1466.115.121.1.40"),
            ("primaryGroupID", "integerMatch", "1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE"),
        ]
    )
)


def make_certificates(folder: Path) -> None:
    """A CA of its own and a server's certificate for 127.0.0.1."""
    now = datetime.datetime.now(datetime.timezone.utc)
    year = datetime.timedelta(days=365)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def start(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("Test CA"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + year)
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        start("Test CA", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = (
        start("server", key)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(ca.public_bytes(pem))
    (folder / "server.crt").write_bytes(server.public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def free_port() -> int:
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        return int(wire.getsockname()[1])


def person(uid: str, *lines: str, password: str = PASSWORD) -> str:
    extra = "".join(f"{line}\n" for line in lines)
    return (
        f"dn: uid={uid},{PEOPLE}\nobjectClass: inetOrgPerson\nobjectClass: extensibleObject\n"
        f"uid: {uid}\ncn: {uid} of Contest\nsn: {uid}\nmail: {uid}@contest.test\n"
        f"userPassword: {password}\n{extra}\n"
    )


def group(cn: str, *members: str) -> str:
    lines = "".join(f"member: {dn}\n" for dn in members)
    return f"dn: cn={cn},{GROUPS}\nobjectClass: groupOfNames\ncn: {cn}\n{lines}\n"


def person_dn(uid: str) -> str:
    return f"uid={uid},{PEOPLE}"


def group_dn(cn: str) -> str:
    return f"cn={cn},{GROUPS}"


class Slapd:
    """One server. `security` is a line of its configuration."""

    def __init__(self, folder: Path, security: str = "security simple_bind=128") -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self._security = security
        self._process: subprocess.Popen[bytes] | None = None
        if not (folder / "ca.crt").exists():
            make_certificates(folder)
        (folder / "db").mkdir(parents=True, exist_ok=True)
        self.conf = folder / "slapd.conf"
        self.conf.write_text(
            CONF.format(
                folder=folder, security=security, suffix=SUFFIX, admin=ADMIN,
                password=ADMIN_PASSWORD, active_directory=ACTIVE_DIRECTORY,
            )
        )  # fmt: skip

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"

    def load(self, ldif: str) -> None:
        """Before it starts; ``memberOf`` is not computed for these."""
        self._run(["slapadd", "-f", str(self.conf)], ldif)

    def start(self) -> None:
        assert SLAPD
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        self._process = subprocess.Popen(
            [SLAPD, "-f", str(self.conf), "-h", urls, "-d", "0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.tls_port), timeout=5).close()
                return
            except OSError:
                try:
                    self._process.wait(timeout=0.02)
                except subprocess.TimeoutExpired:
                    continue
                raise RuntimeError("slapd ended at once") from None

    def stop(self) -> None:
        process, self._process = self._process, None
        if process:
            process.terminate()
            process.wait(timeout=20)

    def modify(self, ldif: str) -> None:
        """As its administrator, while it runs."""
        command = ["ldapmodify", "-c", "-x", "-H", f"ldaps://127.0.0.1:{self.tls_port}"]
        self._run([*command, "-D", ADMIN, "-w", ADMIN_PASSWORD], ldif)

    def _run(self, command: list[str], ldif: str) -> None:
        program = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert program, command[0]
        done = subprocess.run(
            [program, *command[1:]], input=ldif.encode(), capture_output=True, check=False,
            env={"LDAPTLS_CACERT": str(self.ca_file), "LDAPTLS_REQCERT": "demand"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
