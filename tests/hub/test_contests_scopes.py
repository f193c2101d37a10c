"""The contests service's role, as our values give it, against a real hub: enough, and no more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.hubapi.errors import HubRefusedError
from tests.real_hub import ROOT, RealHub

VALUES: Final = yaml.safe_load((ROOT / "helm-values" / "jupyterhub.yaml").read_text())["hub"]
SCOPES: Final[list[str]] = VALUES["loadRoles"]["contests"]["scopes"]
# What the provisioner asks of its callers; its own tests say that it does.
OF_PROVISIONER: Final = {"access:services!service=provisioner", "custom:collab:provision"}
_MORE: Final = """
from jupyterhub_collab.hub import PROVISION_SCOPE, SERVERS_SCOPE, STANDING_SCOPE
from jupyterhub_collab.hub.handlers import HANDLERS
c.JupyterHub.extra_handlers = HANDLERS
c.JupyterHub.allow_named_servers = True
c.JupyterHub.custom_scopes = {
    s: {"description": s} for s in (PROVISION_SCOPE, SERVERS_SCOPE, STANDING_SCOPE)
}
"""

Call = Callable[[HubClient], Awaitable[Any]]


async def keep_groups(hub: HubClient) -> None:
    """All that a projection does with a team's group."""
    await hub.create_group("ocean")
    await hub.put_properties("ocean", {"collab": {}})
    await hub.add_members("ocean", ["ada"])
    assert set(await hub.list_groups()) == {"ocean"}
    assert (await hub.read_group("ocean")) is not None
    await hub.remove_members("ocean", ["ada"])
    await hub.delete_group("ocean")


async def read_ada(hub: HubClient) -> None:
    user = await hub.read_user("ada")
    assert user is not None
    assert not user.is_admin


CALLS: Final[dict[str, Call]] = {
    "admin:groups": keep_groups,
    "custom:collab:standing": lambda hub: hub.read_standing("ada"),
    "custom:collab:servers": lambda hub: hub.list_servers(),
    "delete:servers": lambda hub: hub.stop_server("ada", ""),
    "read:users": read_ada,
    "read:servers": read_ada,
    "delete:users": lambda hub: hub.delete_user("bob"),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    """A hub with one service that has the role, and one for each scope that lacks just that one."""
    folder: Path = tmp_path_factory.mktemp("scopes")
    given = {"contests": SCOPES, **{to_name(s): [x for x in SCOPES if x != s] for s in CALLS}}
    running = RealHub(
        folder,
        services=[
            {"name": "provisioner", "api_token": to_token("provisioner")},
            *({"name": name, "api_token": to_token(name)} for name in given),
        ],
        roles=[{"name": n, "scopes": s, "services": [n]} for n, s in given.items()],
        more=_MORE,
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(autouse=True)
async def people(hub: RealHub) -> None:
    async with HubClient(hub.api_url, hub.token) as registry:
        await registry.create_users(["ada", "bob"])


def to_name(scope: str) -> str:
    return "without-" + scope.replace(":", "-")


def to_token(name: str) -> str:
    return f"token-of-{name}-in-the-tests"


def test_every_scope_is_looked_at() -> None:
    assert set(SCOPES) == set(CALLS) | OF_PROVISIONER


@pytest.mark.parametrize("scope", CALLS)
async def test_each_scope_is_needed_and_all_together_suffice(hub: RealHub, scope: str) -> None:
    async with HubClient(hub.api_url, to_token("contests")) as client:
        await CALLS[scope](client)
    async with HubClient(hub.api_url, to_token(to_name(scope))) as client:
        with pytest.raises(HubRefusedError):
            await CALLS[scope](client)


async def test_it_makes_no_user_starts_no_server_and_issues_no_token(hub: RealHub) -> None:
    async with HubClient(hub.api_url, to_token("contests")) as client:
        with pytest.raises(HubRefusedError) as caught:
            await client.create_users(["mallory"])
        assert caught.value.status == 403
        for path in ("users/ada/server", "users/ada/tokens"):
            with pytest.raises(HubRefusedError) as caught:
                await client._call("POST", path, {})
            assert caught.value.status in (403, 404)
