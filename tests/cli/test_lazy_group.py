"""Each command is where the table says, and asking for one imports nothing for another."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.main import get_group

from jupyterhub_collab.cli.doctor import Parts
from jupyterhub_collab.cli.lazy_group import LazyGroup
from jupyterhub_collab.cli.main import Commands

HEAVY = ("aiohttp", "jupyterhub", "kubernetes", "sqlalchemy", "jsonschema")
_TELL = """
import json, runpy, sys
sys.argv[1:] = {arguments}
try:
    runpy.run_module("jupyterhub_collab.cli.main", run_name="__main__")
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("group", [Commands, Parts])
def test_the_table_names_each_command_and_no_other(group: type[LazyGroup]) -> None:
    found = set()
    for module in set(group.modules.values()):
        app = typer.Typer()
        import_module(f"jupyterhub_collab.cli.{module}").register(app)
        named = set(get_group(app).commands)
        assert named == {name for name, where in group.modules.items() if where == module}
        found |= named
    assert found == set(group.modules)


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        (["registry", "--help"], set()),
        (["portal-token", "--help"], {"aiohttp"}),
        (["contest", "--help"], {"aiohttp"}),
        (["plan", "--help"], {"aiohttp"}),
        (["audit", "--help"], {"aiohttp", "sqlalchemy"}),
        (["--help"], {"aiohttp", "kubernetes", "sqlalchemy"}),
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str], needs: set[str]) -> None:
    program = [sys.executable, "-c", _TELL.format(arguments=arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    assert "Usage" in done.stdout
    assert needs == set(HEAVY) & set(json.loads(done.stdout.splitlines()[-1]))
