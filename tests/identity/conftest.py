"""A directory that all tests here share, and one a test may stop; a reader of documents."""

from __future__ import annotations

import base64
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jupyterhub_collab.identity.directory_settings import DirectorySettings
from jupyterhub_collab.identity.documents import DocumentReader
from tests.identity import slapd as s
from tests.identity.publishing import Clock

GUID = bytes(range(16))
DOMAIN_SID = bytes([1, 5]) + bytes(5) + b"\x05" + b"".join(
    n.to_bytes(4, "little") for n in (21, 1, 2, 3)
)  # fmt: skip

STRICT = f"cn=strict,ou=policies,{s.SUFFIX}"


def sid(number: int) -> bytes:
    return DOMAIN_SID + number.to_bytes(4, "little")


def text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def base_ldif() -> str:
    policy = "objectClass: device\nobjectClass: pwdPolicy\npwdAttribute: userPassword\n"
    return (
        f"dn: {s.SUFFIX}\nobjectClass: domain\ndc: contest\n\n"
        + "".join(
            f"dn: ou={ou},{s.SUFFIX}\nobjectClass: organizationalUnit\nou: {ou}\n\n"
            for ou in ("people", "groups", "policies", "services")
        )
        + f"dn: cn=default,ou=policies,{s.SUFFIX}\ncn: default\n{policy}pwdMustChange: TRUE\n\n"
        f"dn: {STRICT}\ncn: strict\n{policy}pwdLockout: TRUE\npwdMaxFailure: 3\n\n"
        f"dn: cn=reader,ou=services,{s.SUFFIX}\nobjectClass: person\ncn: reader\nsn: reader\n"
        "userPassword: reader pw\n\n"
    )


def people_ldif() -> str:
    d, g = s.person_dn, s.group_dn
    odd = "cn=Odd\\2C {person} \\28x\\29 \\C3\\A9,ou=people," + s.SUFFIX
    return (
        s.person("ada")
        + s.person("bob")
        + s.person("carol")
        + s.person("twin", "uid: other")
        + s.person("twin2", "uid: other")
        + s.person("locky", f"pwdPolicySubentry: {STRICT}")
        + s.person("reset", "pwdReset: TRUE")
        + s.person("many")
        + f"dn: {odd}\nobjectClass: inetOrgPerson\ncn: Odd, {{person}} (x) \u00e9\nsn: odd\n"
        f"uid: odd{{1}}*(\nuserPassword: {s.PASSWORD}\n\n"
        + s.person(
            "prima", f"objectGUID:: {text(GUID)}", f"objectSid:: {text(sid(1104))}",
            "primaryGroupID: 513",
            f"tokenGroups:: {text(sid(513))}", f"tokenGroups:: {text(sid(600))}",
        )
        + s.group("divers", d("bob"), g("deep"))
        + s.group("ocean", d("ada"), g("divers"))
        + s.group("deep", d("carol"), odd)
        + s.group("circle-a", g("circle-b"), d("carol"))
        + s.group("circle-b", g("circle-a"))
        + f"dn: {g('Domain Users')}\nobjectClass: groupOfNames\nobjectClass: extensibleObject\n"
        f"cn: Domain Users\nmember: {d('nobody')}\nobjectSid:: {text(sid(513))}\n\n"
        f"dn: {g('staff')}\nobjectClass: groupOfNames\nobjectClass: extensibleObject\n"
        f"cn: staff\nmember: {g('Domain Users')}\nobjectSid:: {text(sid(600))}\n\n"
        f"dn: {g('unix')}\nobjectClass: posixGroup\ncn: unix\ngidNumber: 7\nmemberUid: ada\n\n"
        + "".join(s.group(f"many-{i:03d}", d("many")) for i in range(120))
    )  # fmt: skip


def started(folder: Path, **more: str) -> s.Slapd:
    server = s.Slapd(folder, **more)
    server.load(base_ldif())
    server.start()
    # Added while it runs, so that memberOf is computed.
    blocks = [block for block in people_ldif().split("\n\n") if block.strip()]
    added = []
    for block in blocks:
        first, rest = block.split("\n", 1)
        added.append(f"{first}\nchangetype: add\n{rest}\n")
    server.modify("\n".join(added))
    return server


@pytest.fixture(scope="session")
def _slapd_possible() -> None:
    if s.SLAPD is None or shutil.which("ldapmodify") is None:
        pytest.skip("NOT PROVED: logging in through a directory (no slapd or ldapmodify here)")


@pytest.fixture(scope="session")
def slapd(_slapd_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[s.Slapd]:
    server = started(tmp_path_factory.mktemp("slapd"))
    yield server
    server.stop()


@pytest.fixture
def own_slapd(_slapd_possible: None, tmp_path: Path) -> Iterator[s.Slapd]:
    """One that a test may stop or change."""
    server = started(tmp_path / "slapd")
    yield server
    server.stop()


def make_settings(server: s.Slapd, **more: object) -> DirectorySettings:
    said = {
        "name": "test",
        "servers": [f"127.0.0.1:{server.tls_port}"],
        "ca_file": server.ca_file,
        "bind_dn": f"cn=reader,ou=services,{s.SUFFIX}",
        "bind_password": "reader pw",
        "user_bases": [s.PEOPLE],
        "group_bases": [s.GROUPS],
        **more,
    }
    return DirectorySettings.model_validate(said)


@pytest.fixture
async def reader() -> AsyncIterator[DocumentReader]:
    reader = DocumentReader(timeout_s=5)
    yield reader
    await reader.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
