"""Quota is real: refused in words, and let through by a raised tier without a restart.

On a real node, through the manifest, `jupyterhub-collab apply`, the provisioner and the hub, as a
host and two members would meet it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jupyterhub_collab.cli.up.data_folder import DataFolder
from jupyterhub_collab.hub.demo_settings import read_demo_settings
from tests.campaign.visitor import Visitor
from tests.cluster.cluster import Cluster
from tests.cluster.images import SINGLEUSER_IMAGE
from tests.walk.ground import running
from tests.walk.node import arrange

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def write_manifest(path: Path, *, cpu: int) -> Path:
    tier = {"memory": "4Gi", "storage": "6Gi", "ephemeralStorage": "6Gi", "pods": 4}
    manifest = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {"id": "quota", "title": "How much is enough"},
        "tiers": {"only": {"cpu": cpu, **tier}},
        "images": {"basic": {"title": "Basic", "image": SINGLEUSER_IMAGE}},
        "profiles": {
            "half": {"title": "Half", "cpu": "500m", "memory": "512Mi"},
            "whole": {"title": "Whole", "cpu": 1, "memory": "512Mi"},
        },
        "teams": {"tide": {"title": "Tide", "tier": "only", "members": ["ada", "grace"]}},
    }
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return path


def test_a_raised_tier_lets_a_refused_server_through(node_cluster: Cluster, tmp_path: Path) -> None:
    options = arrange(node_cluster, tmp_path / "credentials")
    manifest = write_manifest(tmp_path / "quota.yaml", cpu=1)
    with running(tmp_path / "data", *options, str(manifest)) as run:
        folder = DataFolder(run.data)
        ada, grace = (
            Visitor(name, url=run.url, accounts=folder.accounts) for name in ("ada", "grace")
        )
        for person in (ada, grace):
            person.sign_in()
        ada.start("tide", profile="half")
        refused = grace.ask_for_server("tide", profile="whole")
        assert refused.status_code == 400, refused.text
        assert refused.json()["message"] == (
            "Team tide uses 0.5 of its one CPU (one server, ada's)."
            " Stop one or ask for a larger tier."
        )
        write_manifest(manifest, cpu=2)
        settings = read_demo_settings(folder.settings)
        command = [sys.executable, "-m", "jupyterhub_collab.cli.main", "apply", str(manifest)]
        token = f"--token-file={folder.secret('contest-host-token')}"
        subprocess.run([*command, f"--contests-url={settings.contests_url}", token], check=True)
        grace.start("tide", profile="whole")
        assert ada.is_reachable()
        assert grace.is_reachable()
        for person in (ada, grace):
            person.stop()
            person.close()
