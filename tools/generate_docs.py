"""Write the pages that are generated; tests hold each of them to what it is generated from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from jupyterhub_collab.models.audit import SCHEMA_VERSION, event_schema
from jupyterhub_collab.policy.contest_manifest import contest_schema

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    schemas = ROOT / "docs" / "schema"
    for name, schema in (
        ("contest-v1alpha1", contest_schema()),
        (f"audit-event-v{SCHEMA_VERSION}", event_schema()),
    ):
        (schemas / f"{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n")
    for module in (
        "tests.contract.docs",
        "tools.audit_events_page",
        "tools.contest_life_page",
        "tools.permissions_page",
        "tools.policies_page",
    ):
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=True)
    for service in ("provisioner", "audit", "contests"):
        module = f"jupyterhub_collab.services.{service}.openapi"
        openapi = subprocess.run([sys.executable, "-m", module], check=True, stdout=subprocess.PIPE)
        (ROOT / "docs" / "api" / f"{service}.openapi.json").write_bytes(openapi.stdout)


if __name__ == "__main__":
    main()
