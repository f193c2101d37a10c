"""A real Samba domain controller, for what is Active Directory's own.

It binds fixed ports, so it lives in a network namespace of its own, and whoever asks it lives
there too: `ask` runs this file in one and hands questions and answers over as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REALM = "AD.CONTEST.TEST"
SUFFIX = "DC=ad,DC=contest,DC=test"
PASSWORD = "Passw0rd.long"
PROGRAMS = ("samba", "samba-tool", "ldapmodify", "unshare", "ip")
_SERVICES = "server services = "


def find(program: str) -> str | None:
    return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")


def missing() -> str | None:
    """Why it cannot run here; None if it can."""
    lacking = [program for program in PROGRAMS if find(program) is None]
    if os.geteuid() != 0 or lacking:
        return f"needs root and {', '.join(lacking) or 'a network namespace'}"
    done = subprocess.run([str(find("unshare")), "-n", "true"], capture_output=True, check=False)
    return "no network namespaces here" if done.returncode else None


def provision(folder: Path) -> None:
    """A new domain (some seconds)."""
    from tests.identity.slapd import make_certificates

    make_certificates(folder / "tls")
    (folder / "tls" / "server.key").chmod(0o600)
    subprocess.run(
        [
            str(find("samba-tool")), "domain", "provision", f"--realm={REALM}",
            "--domain=ADCONTEST", "--server-role=dc", "--dns-backend=NONE",
            f"--adminpass={PASSWORD}", "--use-rfc2307", "--host-ip=127.0.0.1",
            "--host-name=dc1", f"--targetdir={folder}", "--option=interfaces=lo",
            "--option=bind interfaces only=yes",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in ("run", "ncalrpc"):
        (folder / name).mkdir(exist_ok=True)
    conf = folder / "etc" / "smb.conf"
    ours = [
        f"{_SERVICES}ldap", f"pid directory = {folder}/run", f"ncalrpc dir = {folder}/ncalrpc",
        f"log file = {folder}/log", f"tls keyfile = {folder}/tls/server.key",
        f"tls certfile = {folder}/tls/server.crt", f"tls cafile = {folder}/tls/ca.crt",
    ]  # fmt: skip
    conf.write_text(
        "\n".join(
            "\n".join(ours) if line.strip().startswith(_SERVICES) else line
            for line in conf.read_text().splitlines()
        )
    )


def ask(folder: Path, ldif: str, questions: list[dict[str, Any]]) -> list[Any]:
    """Answers to these, after the entries were added."""
    asked = json.dumps({"ldif": ldif, "questions": questions})
    done = subprocess.run(
        [str(find("unshare")), "-n", sys.executable, "-m", "tests.identity.samba", str(folder)],
        input=asked.encode(), capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(answers, list)
    return answers


async def _answer(question: dict[str, Any]) -> Any:
    from jupyterhub_collab.identity.directory import Directory
    from jupyterhub_collab.identity.directory_errors import BadCredentialsError
    from jupyterhub_collab.identity.directory_settings import DirectorySettings

    settings = DirectorySettings.model_validate(question["settings"])
    async with Directory(settings) as directory:
        try:
            found = await getattr(directory, question["call"])(*question["with"])
        except BadCredentialsError as e:
            return {"refused": e.reason.name, "told": str(e)}
    if found is None:
        return None
    if isinstance(found, frozenset):
        return sorted(identity.subject for identity in found)
    return {
        "username": found.username,
        "subject": found.identity.subject,
        "groups": sorted(dn.split(",")[0].removeprefix("CN=") for dn in found.groups),
    }


@contextmanager
def running(folder: Path, ldif: str) -> Iterator[None]:
    """The server, with these entries added. In a network namespace of its own."""
    subprocess.run([str(find("ip")), "link", "set", "lo", "up"], check=True)
    server = subprocess.Popen(
        [str(find("samba")), "-F", "--no-process-group", "-M", "single", "-s",
         str(folder / "etc" / "smb.conf")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", 636), timeout=5).close()
                break
            except OSError:
                try:
                    server.wait(timeout=0.05)
                except subprocess.TimeoutExpired:
                    continue
                raise RuntimeError("samba ended at once") from None
        modify(folder, ldif)
        yield
    finally:
        server.terminate()
        server.wait(timeout=20)


def modify(folder: Path, ldif: str) -> None:
    """As its administrator, while it runs, from within its network namespace."""
    subprocess.run(
        [str(find("ldapmodify")), "-x", "-H", "ldaps://127.0.0.1", "-D",
         "ADCONTEST\\Administrator", "-w", PASSWORD],
        input=ldif.encode(), check=True, stdout=sys.stderr,
        env={"LDAPTLS_CACERT": str(folder / "tls" / "ca.crt")},
    )  # fmt: skip


def _main(folder: Path) -> None:
    asked = json.load(sys.stdin)

    async def everything() -> list[Any]:
        return [await _answer(question) for question in asked["questions"]]

    with running(folder, asked["ldif"]):
        print(json.dumps(asyncio.run(everything())))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
