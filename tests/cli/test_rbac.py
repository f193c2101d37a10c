"""`jupyterhub-collab rbac`: what an administrator applies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from jupyterhub_collab.cli.main import app
from jupyterhub_collab.errors import UserError


def rbac(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["rbac", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return list(yaml.safe_load_all(done.stdout))


def test_for_up_the_address_completes_the_platform(tmp_path: Path) -> None:
    """`up` is given the same two; what it runs with then is what the policies hold it to."""
    extra = tmp_path / "platform.yaml"
    extra.write_text("storage_class: fast\nimage_prefixes: [quay.io/contest/]\n")
    manifests = rbac("--hub-address", "192.0.2.7", "--platform", str(extra))
    kinds = {manifest["kind"] for manifest in manifests}
    assert {"ServiceAccount", "ClusterRole", "ValidatingAdmissionPolicy"} <= kinds
    rules = [
        rule["expression"]
        for manifest in manifests
        for rule in manifest.get("spec", {}).get("validations", ())
    ]
    assert any('"192.0.2.7/32"' in rule for rule in rules)
    assert any('"quay.io/contest/"' in rule for rule in rules)


def test_policies_can_be_left_out(tmp_path: Path) -> None:
    manifests = rbac("--hub-address", "192.0.2.7", "--no-guard")
    assert not any("Policy" in manifest["kind"] for manifest in manifests)


def test_without_a_platform_it_says_what_to_say() -> None:
    with pytest.raises(UserError, match=r"--platform FILE, or for .up --kubeconfig."):
        CliRunner().invoke(app, ["rbac"], catch_exceptions=False)
