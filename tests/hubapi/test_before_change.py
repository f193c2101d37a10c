"""Clients of a process that is not sure to be alone: they look, and change nothing."""

from __future__ import annotations

import pytest

from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.hubapi.errors import HubUnavailableError
from jupyterhub_collab.hubapi.provisioner import ProvisionerClient
from jupyterhub_collab.storage.contests import NotHolderError
from tests.real_hub import find_free_port


def refuse() -> None:
    raise NotHolderError


async def test_nothing_is_sent_that_changes_something() -> None:
    nobody = f"http://127.0.0.1:{find_free_port()}/hub/api"
    async with (
        HubClient(nobody, "t", before_change=refuse) as hub,
        ProvisionerClient(nobody, "t", before_change=refuse) as provisioner,
    ):
        for change in (
            hub.create_group("ocean"),
            hub.put_properties("ocean", {}),
            hub.add_members("ocean", ["ada"]),
            hub.remove_members("ocean", ["ada"]),
            hub.delete_group("ocean"),
            hub.create_users(["ada"]),
            hub.delete_user("ada"),
            hub.stop_server("ada", ""),
            hub.project_rosters(["ocean"]),
            provisioner.nudge(["ocean"]),
            provisioner.start_archives("ocean", []),
            provisioner.restore("ocean", []),
        ):
            with pytest.raises(NotHolderError):
                await change
        for look in (hub.read_group("ocean"), provisioner.read_team("ocean")):
            with pytest.raises(HubUnavailableError):
                await look
