"""Acting on a real API server under the accounts that we ship, by kubectl or by plain requests."""

from __future__ import annotations

import functools
import json
import ssl
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from jupyterhub_collab import constants, names
from jupyterhub_collab.kube.kinds import Kind, kind_of
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform, TeamSpec
from tests.cluster.cluster import Cluster

HOME = "manifests-hub"
GUARD_WAIT_S = 30  # the API server reads new admission policies every second or so


@dataclass(frozen=True)
class Actor:
    """A service account and its way to the cluster."""

    cluster: Cluster
    kubeconfig: Path

    def kubectl(
        self, *arguments: str, stdin: object = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        text = None if stdin is None else json.dumps(stdin)
        options = ("--kubeconfig", str(self.kubeconfig))
        return self.cluster.kubectl(*options, *arguments, stdin=text, check=check)

    def apply(
        self, *manifests: dict[str, Any], dry_run: bool = False, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        options = ["apply", "--server-side", "--validate=strict", "--force-conflicts"]
        options += [f"--field-manager={constants.FIELD_MANAGER}"]
        options += ["--dry-run=server"] if dry_run else []
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self.kubectl(*options, "-f", "-", stdin=document, check=check)

    @functools.cached_property
    def http(self) -> httpx.Client:
        """Plain requests with the account's token: a hundred of them a second."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = b64decode(cluster["certificate-authority-data"]).decode()
        return httpx.Client(
            base_url=cluster["server"],
            headers={"Authorization": f"Bearer {user['token']}"},
            verify=ssl.create_default_context(cadata=authority),
            trust_env=False,
        )

    def create(self, manifest: dict[str, Any], *, dry_run: bool = True) -> str:
        """Why a new object is refused; empty when it is accepted."""
        path = kind_of(manifest).path(manifest["metadata"].get("namespace"))
        options = {"dryRun": "All"} if dry_run else {}
        return said(self.http.post(path, json=manifest, params=options))

    def patch(self, manifest: dict[str, Any], change: dict[str, Any], subresource: str = "") -> str:
        """Why a merge patch in a dry run is refused; empty when it is accepted."""
        meta = manifest["metadata"]
        path = kind_of(manifest).path(meta.get("namespace"), meta["name"]) + subresource
        kind = {"Content-Type": "application/merge-patch+json"}
        text = json.dumps(change)
        return said(self.http.patch(path, content=text, params={"dryRun": "All"}, headers=kind))

    def refusal(self, manifest: dict[str, Any]) -> str:
        """Why an apply of ours is refused; fails the test when it is not."""
        path = kind_of(manifest).path(
            manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
        )
        options = {"fieldManager": constants.FIELD_MANAGER, "force": "true", "dryRun": "All"}
        kind = {"Content-Type": "application/apply-patch+yaml"}
        answer = self.http.patch(path, content=json.dumps(manifest), params=options, headers=kind)
        refusal = said(answer)
        assert refusal, f"was accepted: {answer.text}"
        return refusal

    def deletion(self, kind: Kind, name: str, namespace: str | None = None) -> str:
        """Why a deletion in a dry run is refused; empty when it is accepted."""
        return said(self.http.delete(kind.path(namespace, name), params={"dryRun": "All"}))


def said(answer: httpx.Response) -> str:
    """What the API server says against it; empty: nothing."""
    return "" if answer.is_success else str(answer.json()["message"])


@dataclass(frozen=True)
class Ground:
    """A platform on the cluster, with its accounts."""

    platform: Platform
    hub: Actor
    provisioner: Actor
    admin: Cluster

    def space(self, team: str) -> str:
        """Namespace of a team."""
        return names.namespace_of(team, prefix=self.platform.namespace_prefix)

    def forget(self, spec: TeamSpec) -> None:
        """Have an administrator delete a tenancy, volumes and all."""
        made = make_tenancy(spec, self.platform)
        delete(self.admin, *(m for m in made if "namespace" not in m["metadata"]))

    def give(self, team: str, contest: str) -> None:
        """The administrator's decision that another contest may have a team, volumes and all."""
        decision = f"{constants.ANNOTATION_GIVE_TO_CONTEST}={contest}"
        which = ("namespace,persistentvolume", "-l", f"{constants.LABEL_TEAM}={team}")
        self.admin.kubectl("annotate", "--overwrite", *which, decision)


def delete(cluster: Cluster, *manifests: dict[str, Any]) -> None:
    """Delete as administrator, without waiting."""
    document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    options = ("--wait=false", "--ignore-not-found")
    cluster.kubectl("delete", "-f", "-", *options, stdin=json.dumps(document))


def until(check: Callable[[], object]) -> None:
    """Wait for what the API server learns by a watch."""
    deadline = time.monotonic() + GUARD_WAIT_S
    while not check():
        assert time.monotonic() < deadline, "it never came to that"
