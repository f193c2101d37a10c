"""The description of the audit service's API is valid, and the one in the manual."""

from __future__ import annotations

import json
from pathlib import Path

from openapi_spec_validator import validate

from jupyterhub_collab.services.audit.app import ROUTES
from jupyterhub_collab.services.audit.openapi import make_openapi

COMMITTED = Path(__file__).parents[3] / "docs" / "api" / "audit.openapi.json"


def test_the_description_is_valid_openapi() -> None:
    validate(make_openapi())


def test_the_manual_has_it() -> None:
    """Renew it with: python -m jupyterhub_collab.services.audit.openapi"""
    assert json.loads(COMMITTED.read_text()) == make_openapi()


def test_every_path_of_this_part_is_described() -> None:
    described = {path.removeprefix("/") for path in make_openapi()["paths"]}
    served = {path for routes in ROUTES for path, _ in routes}
    assert {"api/events", "api/erase", "api/retire", "health", "metrics"} <= served & described
