"""A hub and a provisioner made for faults: what tests of courses see of the world outside.

They keep their state whatever dies beside them. Each call that changes something tells `at` after
it, which may raise there, as a process that is killed. To be killed before a change is to be killed
after the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jupyterhub_collab.constants import PROPERTIES_KEY
from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.hubapi.client import NAMES_PER_CALL, GroupPage
from jupyterhub_collab.models import HubDecider, HubGroup, RosterEntry
from jupyterhub_collab.models.hub_user import HubUser, TeamServer
from jupyterhub_collab.models.standing import ContestStanding, PersonStanding, TeamStanding
from jupyterhub_collab.names import contest_group
from jupyterhub_collab.policy.spec import is_team_group, merge_team_spec


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Points:
    """Where a process could be killed: counted, and killed at one of them."""

    kill_at: int = 0  # 0: never
    seen: int = 0
    names: list[str] | None = None

    def __call__(self, name: str) -> None:
        self.seen += 1
        if self.names is not None:
            self.names.append(name)
        if self.kill_at and self.seen >= self.kill_at:
            raise Killed(name)

    @property
    def is_dead(self) -> bool:
        """Whether it was."""
        return bool(self.kill_at) and self.seen >= self.kill_at


class FakeHub:
    """Groups, users and servers."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.at: Callable[[str], None] = lambda name: None
        self.groups: dict[str, HubGroup] = {}
        self.users: dict[str, bool] = {}  # whether an admin
        self.servers: dict[tuple[str, str], TeamServer] = {}
        self.slow: set[tuple[str, str]] = set()  # stop at the second word only
        self.decider: HubDecider | None = None
        self.roles: dict[str, tuple[ContestStanding, ...]] = {}  # by rules
        self.identities: dict[str, tuple[RosterEntry, ...]] = {}
        self.calls: list[str] = []
        self.fail: Callable[[str], None] = lambda name: None

    async def _called(self, name: str) -> None:
        self.fail(name)
        self.calls.append(name)

    # What HubClient does.

    async def list_groups(self, wanted: Container[str] | None = None) -> dict[str, HubGroup]:
        await self._called("list_groups")
        return {n: group for n, group in self.groups.items() if wanted is None or n in wanted}

    async def read_page(self, offset: int, limit: int) -> GroupPage:
        await self._called("read_page")
        groups, after = tuple(self.groups.values()), offset + limit
        following = after if after < len(groups) else None
        return GroupPage(groups[offset:after], len(groups), following)

    async def read_group(self, name: str) -> HubGroup | None:
        await self._called("read_group")
        return self.groups.get(name)

    async def create_group(self, name: str) -> bool:
        await self._called(f"create_group {name}")
        is_new = name not in self.groups
        self.groups.setdefault(name, HubGroup(name, {}, ()))
        self.at(f"after create_group {name}")
        return is_new

    async def delete_group(self, name: str) -> None:
        await self._called(f"delete_group {name}")
        self.groups.pop(name, None)
        self.at(f"after delete_group {name}")

    async def put_properties(self, name: str, properties: Mapping[str, Any]) -> None:
        await self._called(f"put_properties {name}")
        self.groups[name] = replace(self.groups[name], properties=dict(properties))
        self.at(f"after put_properties {name}")

    async def add_members(self, name: str, users: Iterable[str]) -> None:
        some = list(users)
        assert len(some) <= NAMES_PER_CALL or name
        await self._called(f"add_members {name}")
        assert all(user in self.users for user in some)
        known = self.groups[name].users
        self.groups[name] = replace(self.groups[name], users=(*dict.fromkeys((*known, *some)),))
        self.at(f"after add_members {name}")

    async def remove_members(self, name: str, users: Iterable[str]) -> None:
        await self._called(f"remove_members {name}")
        gone = set(users)
        kept = tuple(user for user in self.groups[name].users if user not in gone)
        self.groups[name] = replace(self.groups[name], users=kept)
        self.at(f"after remove_members {name}")

    async def create_users(self, users: Iterable[str]) -> None:
        await self._called("create_users")
        for user in users:
            self.users.setdefault(user, False)
        self.at("after create_users")

    async def read_decider(self) -> HubDecider | None:
        await self._called("read_decider")
        return self.decider

    async def project_rosters(self, teams: Iterable[str]) -> None:
        await self._called("project_rosters")

    async def list_servers(self, *, team: str = "", contest: str = "") -> list[TeamServer]:
        await self._called("list_servers")
        return [
            server
            for _, server in sorted(self.servers.items())
            if team in ("", server.team) and contest in ("", server.contest)
        ]

    async def stop_server(self, user: str, server: str) -> None:
        await self._called(f"stop_server {user}/{server}")
        if (user, server) in self.slow:
            self.slow.discard((user, server))
        else:
            self.servers.pop((user, server), None)
        self.at(f"after stop_server {user}/{server}")

    async def read_user(self, name: str) -> HubUser | None:
        await self._called("read_user")
        if name not in self.users:
            return None
        groups = frozenset(group.name for group in self.groups.values() if name in group.users)
        has_servers = any(user == name for user, _ in self.servers)
        return HubUser(name, self.users[name], groups, has_servers)

    async def delete_user(self, name: str) -> None:
        await self._called(f"delete_user {name}")
        assert not any(user == name for user, _ in self.servers)
        self.users.pop(name, None)
        for group in list(self.groups.values()):
            kept = tuple(user for user in group.users if user != name)
            self.groups[group.name] = replace(group, users=kept)
        self.at(f"after delete_user {name}")

    async def read_standing(self, name: str) -> PersonStanding | None:
        await self._called("read_standing")
        if name not in self.users:
            return None
        teams = [g for g in self.groups.values() if name in g.users and is_team_group_of(g)]
        return PersonStanding(
            name=name,
            is_admin=self.users[name],
            teams=tuple(TeamStanding(team=group.name) for group in teams),
            contests=self.roles.get(name, ()),
        )

    async def read_identities(self, name: str) -> tuple[RosterEntry, ...] | None:
        await self._called("read_identities")
        return self.identities.get(name, ())

    # What people and the hub itself do.

    def corner(self, group: str) -> dict[str, Any]:
        """Our part of a group's properties."""
        corner = self.groups[group].properties[PROPERTIES_KEY]
        assert isinstance(corner, dict)
        return corner

    def gate_of(self, team: str) -> str:
        """As a start would find it."""
        corner = self.corner(team)
        shared = self.groups[contest_group(corner["contest"])].properties
        return merge_team_spec(team, self.groups[team].properties, shared).gate.value

    def start(self, user: str, server: str, team: str, *, is_slow: bool = False) -> bool:
        """Somebody starts a server. Whether the team's gate let them."""
        gate = self.gate_of(team)
        if gate == "closed":
            return False
        contest = self.corner(team)["contest"]
        key = (user, server)
        self.servers[key] = TeamServer(user, server, team, contest, self.now(), True, gate)
        if is_slow:
            self.slow.add(key)
        return True


def is_team_group_of(group: HubGroup) -> bool:
    """Whether it is a team's."""
    return is_team_group(group.name, group.properties)


class FakeProvisioner:
    """Keeps namespaces as the hub's groups say. Each change takes it one look."""

    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub
        self.ready: dict[str, str] = {}  # hash of what stands, by team
        self.released: set[str] = set()  # teams, or contests, that the administrator lets go
        self.asked: list[str] = []
        self.nudged: list[str] = []

    async def read_team(self, team: str) -> Mapping[str, Any] | None:
        self.asked.append(team)
        return self._status(team)

    async def list_teams(self, contest: str) -> dict[str, Mapping[str, Any]]:
        self.asked.append(f"all of {contest}")
        found = {}
        for name, group in sorted(self.hub.groups.items()):
            is_team = is_team_group(name, group.properties)
            if is_team and self.hub.corner(name)["contest"] == contest:
                found[name] = self._status(name) or {}
        return found

    async def nudge(self, groups: Iterable[str]) -> None:
        self.nudged += groups

    def _status(self, team: str) -> dict[str, Any] | None:
        group = self.hub.groups.get(team)
        if group is None or not is_team_group(team, group.properties):
            return None
        corner = self.hub.corner(team)
        contest = corner["contest"]
        if corner.get("retention") == "destroy":
            return self._destroying(team, contest)
        shared = self.hub.groups.get(contest_group(contest))
        try:
            spec = merge_team_spec(
                team, group.properties, None if shared is None else shared.properties
            )
        except SpecError as error:
            return _status(team, contest, "failed", said=str(error))
        wanted, before = spec.hash(), self.ready.get(team)
        self.ready[team] = wanted
        if before != wanted:
            return _status(team, contest, "provisioning", wanted, before, said="being made")
        return _status(team, contest, "ready", wanted, wanted)

    def _destroying(self, team: str, contest: str) -> dict[str, Any]:
        if team not in self.ready:
            return _status(team, contest, "destroyed")
        if not {team, contest} & self.released:
            found = _status(team, contest, "destroying")
            said = f"kubectl annotate namespace -l team={team} destroy-with-contest={contest}"
            found["conditions"].append({"type": "NotReleased", "status": "True", "message": said})
            return found
        assert not any(server.team == team for server in self.hub.servers.values())
        del self.ready[team]
        return _status(team, contest, "destroying", said="its namespace is terminating")


def _status(
    team: str, contest: str, state: str, spec: str = "", ready: str | None = None, *, said: str = ""
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "False", "message": said}
    return {
        "team": team,
        "contest": contest,
        "state": state,
        "specHash": spec or None,
        "readyHash": ready,
        "conditions": [condition],
    }
