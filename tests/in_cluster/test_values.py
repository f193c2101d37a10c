"""Our values are what the Zero to JupyterHub chart takes, as far as its schema says.

The schema is not part of this repository: Z2JH_VALUES_SCHEMA names a copy of the chart's
``values.schema.yaml`` (or the JSON that it ships).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from jupyterhub.scopes import scope_definitions
from traitlets.config import Config

from jupyterhub_collab.hub import configure
from tests.in_cluster.chart import VALUES_FILE, load_values, make_chart
from tests.in_cluster.home import make_overlay

VARIABLE = "Z2JH_VALUES_SCHEMA"


@pytest.fixture
def schema() -> dict[str, Any]:
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"NOT PROVED: that the chart takes our values ({VARIABLE} names no schema)")
    return dict(yaml.safe_load(Path(path).read_text()))


def find_problems(values: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """What the schema does not take. What is required and missing, the chart's defaults hold."""
    found = jsonschema.Draft7Validator(schema).iter_errors(values)
    return [f"{list(e.path)}: {e.message}" for e in found if e.validator != "required"]


def test_the_chart_takes_our_values(schema: dict[str, Any]) -> None:
    assert find_problems(load_values(), schema) == []
    assert find_problems(load_values(make_overlay("https://hub.example.org", "x")), schema) == []


def test_the_schema_shows_a_misspelt_value(schema: dict[str, Any]) -> None:
    """The check above can fail."""
    assert find_problems(load_values({"hub": {"servces": {}}}), schema)


def test_the_pods_of_the_values_are_restricted() -> None:
    """Every container says all that Pod Security `restricted` asks for."""
    overlay = make_overlay("https://hub.example.org", "x")
    pods = [
        m["spec"]["template"]["spec"]
        for m in make_chart(load_values(overlay), "jupyterhub")
        if m["kind"] == "Deployment"
    ]
    assert len(pods) == 2
    for pod in pods:
        (container,) = pod["containers"]
        said = {**pod.get("securityContext", {}), **container["securityContext"]}
        assert said["runAsNonRoot"] is True
        assert said["seccompProfile"] == {"type": "RuntimeDefault"}
        assert said["allowPrivilegeEscalation"] is False
        assert said["capabilities"] == {"drop": ["ALL"]}


def test_the_roles_name_services_and_scopes_that_there_are() -> None:
    """JupyterHub does not start with a role of an unknown service or scope."""
    hub = load_values(make_overlay("https://hub.example.org", "x"))["hub"]
    config = Config()
    configure(config, platform_file="platform.json")
    own = set(config.JupyterHub.custom_scopes.get_value({}))
    for role in hub["loadRoles"].values():
        assert set(role.get("services", [])) <= set(hub["services"])
        said = {scope.partition("!")[0] for scope in role["scopes"]}
        assert {scope for scope in said if scope.startswith("custom:")} <= own
        assert {s for s in said if not s.startswith("custom:")} <= set(scope_definitions)


def test_no_token_stands_in_the_values() -> None:
    values = yaml.safe_load(VALUES_FILE.read_text())
    assert "api_token" not in yaml.safe_dump(values["hub"]["services"])
