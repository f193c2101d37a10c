"""plan, apply, schema and rbac as a host types them, against a real hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from jupyterhub_collab.cli.main import app
from jupyterhub_collab.cli.plan_table import (
    make_destroy_note,
    make_gone_note,
    make_plan_table,
    make_summary,
)
from jupyterhub_collab.errors import CollabError
from jupyterhub_collab.models import HubGroup
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest, plan_contest
from tests.cluster.cluster import Cluster
from tests.policy.manifests import MANIFEST, replaced
from tests.real_hub import RealHub, find_free_port
from tests.services.contests.running import MANAGER_TOKEN, ContestsService

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "contest.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        base = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTERHUB")}
        return subprocess.run(
            [sys.executable, "-m", "jupyterhub_collab.cli.main", *map(str, arguments)],
            env={**base, "COLUMNS": "120", "PYTHONPATH": os.getcwd(), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def service(tmp_path: Path, contests: ContestsService) -> dict[str, str]:
    """Environment of commands that talk to the contests service, with a host's program's token."""
    return {
        "JUPYTERHUB_COLLAB_CONTESTS_URL": contests.url,
        "JUPYTERHUB_COLLAB_TOKEN": MANAGER_TOKEN,
    }


def test_a_host_s_way(run: Run, file: Path, contests: ContestsService, tmp_path: Path) -> None:
    """Plan, apply, nothing to do; then a change of tier, a member out, a team gone."""
    token = tmp_path / "token"
    token.write_text(MANAGER_TOKEN + "\n")
    hub = {"JUPYTERHUB_COLLAB_CONTESTS_URL": contests.url}
    options = (file, "--token-file", token)

    planned = run("plan", *options, "--detailed-exitcode", **hub)
    assert planned.returncode == 2, planned.stderr
    assert "+  contest forecast" in planned.stdout
    assert "Groups: 3 to create, 0 to change. Memberships: 3 to add" in planned.stdout
    assert run("plan", *options, **hub).returncode == 0

    applied = run("apply", *options, **hub)
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.splitlines()[0] == "contest forecast created"
    assert set(applied.stdout.splitlines()[1:]) == {"team ocean created", "team ice created"}
    assert users_of(contests.hub, "ocean") == {"ada", "bob"}  # they are there when it ends
    for command in (("plan", *options, "--detailed-exitcode"), ("apply", *options)):
        again = run(*command, **hub)
        assert again.returncode == 0
        assert again.stdout == "No changes: the hub is as the manifest says.\n"

    changed = replaced("members: [ada, bob]", "members: [bob, eve]").split("  ice:")[0]
    file.write_text(changed.replace("cpu: 2,", "cpu: 3,"))
    planned = run("plan", *options, "--detailed-exitcode", **hub)
    assert planned.returncode == 2
    rows = [line.split() for line in planned.stdout.splitlines()]
    assert ["~", "contest", "forecast", "tiers.small.cpu", "2", "3"] in rows
    assert ["~", "team", "ocean", "members", "+", "eve"] in rows
    assert ["members", "-", "ada"] in rows
    assert "In the contest but not in the manifest: ice." in planned.stdout
    assert run("apply", *options, **hub).returncode == 0
    assert users_of(contests.hub, "ocean") == {"bob", "eve"}
    assert run("plan", *options, "--detailed-exitcode", **hub).returncode == 0
    everything = (planned, applied, again)
    assert not any(MANAGER_TOKEN in r.stdout + r.stderr for r in everything)


def users_of(hub: RealHub, group: str) -> set[str]:
    """Members of a hub group."""
    headers = {"Authorization": f"token {hub.token}"}
    answer = httpx.get(f"{hub.api_url}/groups/{group}", headers=headers, verify=False)
    return set(answer.json()["users"])


def test_mistakes_are_lines_that_editors_can_follow(run: Run, file: Path) -> None:
    file.write_text(replaced("    tier: large\n", "    tier: lagre\n"))
    result = run("plan", file)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f'{file}:26: teams.ocean.tier: found "lagre"; expected one of: large, small'
        ' (did you mean "large"?)',
        f"1 problem in {file}",
    ]


def test_what_is_missing_gets_one_sentence(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTERHUB_COLLAB_TOKEN", raising=False)
    monkeypatch.delenv("JUPYTERHUB_COLLAB_HUB_URL", raising=False)
    hub = ("--hub-url", f"http://127.0.0.1:{find_free_port()}")
    empty = tmp_path / "empty"
    empty.touch()
    cases = [
        ((tmp_path / "none.yaml", *hub), "none.yaml cannot be read"),
        ((tmp_path, *hub), "cannot be read"),
        ((file,), "no hub: give --hub-url URL or set JUPYTERHUB_COLLAB_HUB_URL"),
        ((file, *hub), "no API token"),
        ((file, "--token-file", tmp_path / "none", *hub), "cannot be read"),
        ((file, "--token-file", empty, *hub), "no API token"),
        ((file, "--token-file", file, *hub), "holds no token"),
        ((file, "--platform", file, *hub), "platform file"),
        ((file, "--hub-url", "hub"), "no address"),
    ]
    for arguments, said in cases:
        result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
        # What `main` prints after the program's name, with exit code 1.
        assert isinstance(result.exception, CollabError), result.exception
        assert said in str(result.exception)


def test_a_token_cannot_be_given_as_an_argument(run: Run, file: Path) -> None:
    assert "No such option" in run("plan", file, "--token", "secret").stderr


def test_a_refused_token_is_said(run: Run, file: Path, service: dict[str, str]) -> None:
    result = run("apply", file, **{**service, "JUPYTERHUB_COLLAB_TOKEN": "wrong-token"})
    assert result.returncode == 1
    assert "Check the token" in result.stderr
    assert "wrong-token" not in result.stdout + result.stderr


def test_a_hub_without_the_service_is_told_from_one_with_it(
    run: Run, file: Path, clean_hub: RealHub
) -> None:
    options = ("--hub-url", clean_hub.api_url)
    result = run("apply", file, *options, JUPYTERHUB_COLLAB_TOKEN=clean_hub.token)
    assert result.returncode == 1
    assert "is no contests service" in result.stderr
    assert "--contests-url" in result.stderr


def test_schema(run: Run) -> None:
    schema = json.loads(run("schema").stdout)
    assert schema["title"] == "ContestManifest"


def test_names_from_the_hub_are_shown_as_text() -> None:
    """Neither markup nor terminal codes of a group's members or titles have any effect."""
    manifest = parse_contest_manifest(MANIFEST, file="x")
    current = {
        group.group: HubGroup(group.group, group.properties or {}, ("[red]eve", "\x1b[2Jmallory"))
        for group in plan_contest(manifest, {}).changes
    }
    plan = plan_contest(manifest, current)
    console = Console(width=120, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(make_plan_table(plan))
    console.file.close()
    text = console.export_text()
    assert "[red]eve" in text
    assert "\x1b" not in text
    assert "Groups: 0 to create, 3 to change" in make_summary(plan)
    assert make_gone_note(plan) is None


PLATFORM = {
    "hub_id": "cli",
    "hub_namespace": "cli-hub",
    "hub_api": {"host": "h", "address": "10.0.0.1", "port": 80, "peer": {"cidr": "10.0.0.1/32"}},
    "proxy": {"host": "h", "address": "10.0.0.1", "port": 80, "peer": {"cidr": "10.0.0.1/32"}},
}


def test_rbac_prints_manifests(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "platform.json"
    file.write_text(json.dumps(PLATFORM))
    kinds = [m["kind"] for m in yaml.safe_load_all(run("rbac", "--platform", file).stdout)]
    assert kinds.count("ClusterRole") == 3
    assert kinds[-1] == "ValidatingAdmissionPolicyBinding"
    less = run("rbac", "--platform", file, "--no-guard").stdout
    assert "ValidatingAdmissionPolicy" not in less
    refused = run("rbac", "--platform", file, "--apply", KUBECONFIG="")
    assert refused.returncode == 1
    assert "no cluster" in refused.stderr
    # kubectl and the library merge such a list differently, and could mean different clusters.
    several = os.pathsep.join(("/one", "/other"))
    refused = run("rbac", "--platform", file, "--apply", KUBECONFIG=several)
    assert refused.returncode == 1
    assert f"KUBECONFIG may name one file here, not several ({several})" in refused.stderr
    assert "kubectl config view --flatten" in refused.stderr


@pytest.mark.api
def test_rbac_applies_them(run: Run, tmp_path: Path, api_cluster: Cluster) -> None:
    file = tmp_path / "platform.json"
    file.write_text(json.dumps(PLATFORM))
    api_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cli-hub"}})
    for _ in range(2):
        options = ("--apply", "--kubeconfig", api_cluster.kubeconfig)
        result = run("rbac", "--platform", file, *options)
        assert result.returncode == 0, result.stderr
    account = "system:serviceaccount:cli-hub:provisioner"
    may = api_cluster.kubectl("auth", "can-i", "create", "namespaces", f"--as={account}")
    assert may.stdout.strip() == "yes"
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        api_cluster.kubectl("delete", kind, "jupyterhub-collab-provisioner.cli-hub")
    for role in ("jupyterhub-collab-hub-watch", "jupyterhub-collab-provisioner"):
        api_cluster.kubectl("delete", "clusterrolebinding", f"{role}.cli-hub")
    api_cluster.kubectl("delete", "namespace", "cli-hub", "--wait=false")


def test_a_plan_that_destroys_says_so_loudly() -> None:
    keeps = plan_contest(parse_contest_manifest(MANIFEST, file="f"), {})
    assert make_destroy_note(keeps) is None
    text = replaced("    tier: large\n", "    tier: large\n    retention: destroy\n")
    note = make_destroy_note(plan_contest(parse_contest_manifest(text, file="f"), {}))
    assert note is not None
    assert note.startswith("TO BE DESTROYED")
    assert note.split(": ")[1].startswith("ocean.")


def test_install_prints_all_that_a_hub_in_the_cluster_needs(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"

    def peer(component: str) -> dict[str, object]:
        return {"namespace": "cli-hub", "podLabels": {"component": component}}

    hub = {**PLATFORM["hub_api"], "peer": peer("hub")}
    proxy = {**PLATFORM["proxy"], "peer": peer("proxy")}
    file.write_text(yaml.safe_dump({**PLATFORM, "hub_api": hub, "proxy": proxy}))
    options = ("--platform", file, "--public-url", "https://hub.example.org")
    kinds = [m["kind"] for m in yaml.safe_load_all(run("install", *options).stdout)]
    first = [
        m["kind"] for m in yaml.safe_load_all(run("install", *options, "--no-policies").stdout)
    ]
    assert first == [kind for kind in kinds if "ValidatingAdmissionPolicy" not in kind]
    assert kinds[0] == "Namespace"
    assert kinds[-1] == "Deployment"
    assert "ValidatingAdmissionPolicy" in kinds
    refused = run("install", *options[:-1], "https://hub.example.org/sub")
    assert refused.returncode == 1
    assert "is not the address of a hub" in refused.stderr
    file.write_text(json.dumps(PLATFORM))
    refused = run("install", *options)
    assert refused.returncode == 1
    assert "use `jupyterhub-collab rbac` for a hub outside the cluster" in refused.stderr
