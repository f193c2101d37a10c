"""A provisioner that says of each team that all stands as the hub's groups say; no cluster."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx

from jupyterhub_collab.policy.spec import merge_team_spec
from tests.real_hub import RealHub

PREFIX: Final = "/services/provisioner/"


@dataclass
class ReadyProvisioner:
    """Serves until `close`. Teams in `held` are never ready; `restored`: what was brought back."""

    hub: RealHub
    held: set[str] = field(default_factory=set)
    restored: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                path = url.path.removeprefix(PREFIX)
                if path == "teams":
                    contest = parse_qs(url.query)["contest"][0]
                    teams = outer.groups_of(contest)
                    found: Any = {"teams": [outer.status(team) for team in teams], "next": None}
                elif path.endswith("/archives"):
                    found = outer.archives(path.split("/")[1])
                else:
                    found = outer.status(path.removeprefix("teams/"))
                self._answer(404 if found is None else 200, found or {"message": "no team"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not self.path.endswith("/archives/restore"):
                    self._answer(202, {"changed": []})
                    return
                team = self.path.removeprefix(PREFIX).split("/")[1]
                asked = [{"team": team, **entry} for entry in json.loads(body)["archives"]]
                if any(entry["volume"] != "team" for entry in asked):
                    self._answer(409, {"message": f"Team {team} has no such volume."})
                    return
                outer.restored += asked
                self._answer(200, outer.archives(team))

            def _answer(self, status: int, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{PREFIX}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def archives(self, team: str) -> dict[str, Any]:
        """A team's volumes and Jobs; each Job is done at once."""
        mine = [entry for entry in self.restored if entry["team"] == team]
        jobs = [
            {
                "work": "restore",
                "archive": entry["archive"],
                "volume": entry["volume"],
                "state": "done",
                "message": "",
            }
            for entry in mine
        ]
        volume = {"volume": "team", "kind": "team", "bytes": 1, "bound": True}
        return {"team": team, "namespace": f"team-{team}", "volumes": [volume], "jobs": jobs}

    def group(self, name: str) -> dict[str, Any] | None:
        """A hub group."""
        headers = {"Authorization": f"token {self.hub.token}"}
        answer = httpx.get(f"{self.hub.api_url}/groups/{name}", headers=headers, verify=False)
        found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
        return found

    def groups_of(self, contest: str) -> list[str]:
        """Teams of a contest."""
        headers = {"Authorization": f"token {self.hub.token}"}
        groups = httpx.get(f"{self.hub.api_url}/groups", headers=headers, verify=False).json()
        corners = {g["name"]: g["properties"].get("collab", {}) for g in groups}
        return [name for name, corner in corners.items() if corner.get("contest") == contest]

    def status(self, team: str) -> dict[str, Any] | None:
        """A team's; None: no such group."""
        group = self.group(team)
        if group is None or "collab" not in group["properties"]:
            return None
        corner = group["properties"]["collab"]
        contest = corner["contest"]
        found = {"team": team, "contest": contest, "conditions": []}
        if corner.get("retention") == "destroy":
            return {**found, "state": "destroyed", "specHash": None, "readyHash": None}
        shared = self.group(f"contest.{contest}")
        spec = merge_team_spec(team, group["properties"], shared and shared["properties"]).hash()
        is_held = team in self.held
        return {
            **found,
            "state": "provisioning" if is_held else "ready",
            "specHash": spec,
            "readyHash": None if is_held else spec,
        }
