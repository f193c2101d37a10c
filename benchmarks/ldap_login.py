"""A hundred people log in at once through LDAP, beside ldapauthenticator, at two real hubs.

Both hubs ask the same slapd over LDAPS with verified certificates, bind each person directly with
the same template, and find out whether they are in the one group that lets people in: the peer by
`allowed_groups`, we by resolving all groups, nested ones too, through our rules. A pair is all
people once on each hub, the order changing, each person with their own browser and the form's page
already open; the clock runs over the POSTs of the form. Once with nothing in between and once with
a wire on which each answer of the directory comes 50 ms later.

The stall is for how long the hub's loop served nobody while they logged in.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import ldapauthenticator

from benchmarks.measure import Result, finish
from tests.identity import slapd as s
from tests.real_hub import RealHub, find_free_port

PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
PEOPLE = int(os.environ.get("BENCH_PEOPLE", "100"))
DELAY_S = 0.05
TEAM = {"schema": 1, "generation": 1, "contest": "bench", "tier": "s"}
RULES = f"""
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: bench
    group: cn=ocean,{s.GROUPS}
    gives: {{team: ocean}}
"""
COMMON = """
from benchmarks._stall import HANDLERS
c.JupyterHub.extra_handlers.extend(HANDLERS)
c.Authenticator.allow_all = False
c.JupyterHub.log_level = "WARN"
"""
OURS = """
c.JupyterHub.authenticator_class = "jupyterhub_collab.hub.auth.ldap.LDAPTeamAuthenticator"
c.TeamAuthenticator.rules_file = {rules!r}
c.TeamAuthenticator.tries_per_address = 100000
c.LDAPTeamAuthenticator.name = "bench"
c.LDAPTeamAuthenticator.servers = ["127.0.0.1:{port}"]
c.LDAPTeamAuthenticator.ca_file = {ca!r}
c.LDAPTeamAuthenticator.bind_templates = ["uid={{username}},{people}"]
c.LDAPTeamAuthenticator.bind_dn = "cn=reader,ou=services,{suffix}"
c.LDAPTeamAuthenticator.bind_password = "reader pw"
c.LDAPTeamAuthenticator.user_bases = ["{people}"]
c.LDAPTeamAuthenticator.group_bases = ["{groups}"]
"""
PEER = """
import ssl
c.JupyterHub.authenticator_class = "ldapauthenticator.LDAPAuthenticator"
c.LDAPAuthenticator.server_address = "127.0.0.1"
c.LDAPAuthenticator.server_port = {port}
c.LDAPAuthenticator.tls_strategy = "on_connect"
c.LDAPAuthenticator.tls_kwargs = {{"ca_certs_file": {ca!r}, "validate": ssl.CERT_REQUIRED}}
c.LDAPAuthenticator.bind_dn_template = ["uid={{username}},{people}"]
c.LDAPAuthenticator.user_search_base = "{people}"
c.LDAPAuthenticator.user_attribute = "uid"
c.LDAPAuthenticator.allowed_groups = ["cn=ocean,{groups}"]
"""


@dataclass(frozen=True)
class Round:
    """All people once.

    Attributes
    ----------
    rate
        Log-ins a second.
    p99_s, stall_s
        Of single log-ins; longest stall of the hub's loop.
    """

    rate: float
    p99_s: float
    stall_s: float


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        directory = s.Slapd(folder / "slapd")
        directory.load(_people())
        directory.start()
        try:
            results: list[Result] = []
            for delay_s, target in ((0.0, 0.9), (DELAY_S, 3.0)):
                with _wire(directory.tls_port, delay_s) as port:
                    work = folder / f"{delay_s}"
                    rounds = _measure(work, directory, port)
                results += _judge(rounds, delay_s, target)
        finally:
            directory.stop()
    finish(*results)


def _people() -> str:
    services = f"ou=services,{s.SUFFIX}"
    units = "".join(
        f"dn: ou={ou},{s.SUFFIX}\nobjectClass: organizationalUnit\nou: {ou}\n\n"
        for ou in ("people", "groups", "policies", "services")
    )
    reader = f"dn: cn=reader,{services}\nobjectClass: person\ncn: reader\nsn: reader\n"
    names = [f"p{i:04d}" for i in range(PEOPLE)]
    return (
        f"dn: {s.SUFFIX}\nobjectClass: domain\ndc: contest\n\n{units}{reader}"
        "userPassword: reader pw\n\n"
        + "".join(s.person(name) for name in names)
        + s.group("ocean", *(s.person_dn(name) for name in names))
    )


@contextmanager
def _wire(target: int, delay_s: float) -> Iterator[int]:
    if not delay_s:
        yield target
        return
    port = find_free_port()
    command = [sys.executable, "-m", "benchmarks._slow_wire", str(port), str(target), str(delay_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _measure(folder: Path, directory: s.Slapd, port: int) -> dict[str, list[Round]]:
    """Pairs of rounds, the first of each hub thrown away: it makes users and pools."""
    folder.mkdir()
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    said = {
        "port": port,
        "ca": str(directory.ca_file),
        "rules": str(rules),
        "people": s.PEOPLE,
        "groups": s.GROUPS,
        "suffix": s.SUFFIX,
    }
    hubs = {
        name: RealHub(folder=folder / name, more=COMMON + text.format(**said))
        for name, text in (("ours", OURS), ("peer", PEER))
    }
    found: dict[str, list[Round]] = {name: [] for name in hubs}
    try:
        for hub in hubs.values():
            hub.start()
            headers = {"Authorization": f"token {hub.token}"}
            httpx.post(f"{hub.api_url}/groups/ocean", headers=headers).raise_for_status()
            url = f"{hub.api_url}/groups/ocean/properties"
            httpx.put(url, headers=headers, json={"collab": TEAM}).raise_for_status()
            asyncio.run(_log_all_in(hub))
        for i in range(PAIRS):
            for name in sorted(hubs, reverse=bool(i % 2)):
                found[name].append(asyncio.run(_log_all_in(hubs[name])))
                print(f"{name} {found[name][-1]}", file=sys.stderr, flush=True)
    finally:
        for hub in hubs.values():
            hub.kill()
    return found


async def _log_all_in(hub: RealHub) -> Round:
    url = hub.api_url.removesuffix("/api")
    limits = httpx.Limits(max_connections=1)
    tls = httpx.create_ssl_context()  # made once: reading the machine's certificates takes long
    clients = [
        httpx.AsyncClient(base_url=url, limits=limits, timeout=300, verify=tls)
        for _ in range(PEOPLE)
    ]
    try:
        for client in clients:
            (await client.get("/login")).raise_for_status()
        await clients[0].get("/bench/stall")

        async def log_in(i: int) -> float:
            client = clients[i]
            token = client.cookies["_xsrf"]
            form = {"username": f"p{i:04d}", "password": s.PASSWORD, "_xsrf": token}
            began = time.perf_counter()
            answer = await client.post("/login", data=form)
            assert answer.status_code == 302, (answer.status_code, answer.text[-2000:])
            return time.perf_counter() - began

        began = time.perf_counter()
        times = await asyncio.gather(*(log_in(i) for i in range(PEOPLE)))
        took_s = time.perf_counter() - began
        stall_s = (await clients[0].get("/bench/stall")).json()["stall_s"]
    finally:
        for client in clients:
            await client.aclose()
    p99_s = sorted(times)[min(PEOPLE - 1, int(PEOPLE * 0.99))]
    return Round(PEOPLE / took_s, p99_s, stall_s)


def _judge(rounds: dict[str, list[Round]], delay_s: float, target: float) -> list[Result]:
    ours, peers = rounds["ours"], rounds["peer"]
    peer_name = f"ldapauthenticator {ldapauthenticator.__version__}"
    at = f"{delay_s * 1000:.0f} ms later"
    notes: dict[str, object] = {
        "people": PEOPLE,
        "p99_s": round(statistics.median(r.p99_s for r in ours), 3),
        "peer_p99_s": round(statistics.median(r.p99_s for r in peers), 3),
    }
    return [
        Result(
            name=f"ldap_login: rate, answers {at}",
            unit="log-ins/s",
            figures=[r.rate for r in ours],
            peers=[r.rate for r in peers],
            peer_name=peer_name,
            target=target,
            at_most=False,
            notes=notes,
        ),
        Result(
            name=f"ldap_login: longest stall, answers {at}",
            unit="s",
            figures=[r.stall_s for r in ours],
            peers=[r.stall_s for r in peers],
            peer_name=peer_name,
            target=0.1,
            at_most=True,
            notes=notes,
        ),
    ]


if __name__ == "__main__":
    main()
