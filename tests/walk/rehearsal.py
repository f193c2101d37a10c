"""A whole contest, as its portal, its hosts and its teams go through it; the steps of a rehearsal.

Everything goes through the contests service's REST API, the command line's words for hosts, and
members' own browsers' requests. What a step must have brought about it checks itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from jupyterhub_collab.cli.up.data_folder import DataFolder
from jupyterhub_collab.cli.up.ground import NAMES_SUFFIX
from jupyterhub_collab.constants import (
    ANNOTATION_DESTROY,
    COMPONENT_SERVER,
    LABEL_COMPONENT,
    LABEL_CONTEST,
    LABEL_HUB,
    LABEL_TEAM,
)
from jupyterhub_collab.hub.demo_settings import read_demo_settings
from tests.campaign.visitor import Visitor
from tests.walk.ground import Run

CONTEST = "reef"
SIZE_MAX = 3
START_S = 400.0  # of a server, on a machine that is busy: it is started again after a minute
STARTS_AT_ONCE = 2  # two processors: of more, none might answer within its minute
BACK_S = 120.0  # somebody who kills it may do so again
KUBECTL = Path(sys.executable).with_name("kubectl")


def write_manifest(
    path: Path, *, image: str, domain: str | None, cpu: str, export_window_s: int
) -> Path:
    """A contest of three rounds, and a last one for who is left, whose teams register themselves.

    Parameters
    ----------
    cpu
        Of each server.
    """
    tier = {"memory": "2Gi", "storage": "3Gi", "ephemeralStorage": "3Gi", "pods": 4}
    contest: dict[str, Any] = {"id": CONTEST, "title": "Reef watch", "timeZone": "Europe/Berlin"}
    manifest = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {**contest, **({"domain": domain} if domain else {})},
        "tiers": {"first": {"cpu": 1, **tier}, "later": {"cpu": 2, **tier}},
        "images": {"basic": {"title": "Basic", "image": image}},
        "profiles": {"only": {"title": "Only", "cpu": cpu, "memory": "512Mi"}},
        "volumes": {"team": "1Gi", "personal": "1Gi"},
        "rounds": [
            {"title": "Sighting", "tier": "first"},
            {"title": "Mapping", "tier": "later"},
            {"title": "Final", "tier": "later"},
            {"title": "Award", "tier": "later"},
        ],
        "registration": {"tier": "first", "teamSizeMax": SIZE_MAX, "needsApproval": False},
        "endings": {
            "noticeSeconds": 0,
            "exportWindowSeconds": export_window_s,
            "archive": True,
        },
    }
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return path


def wait_for(what: Callable[[], Any], *, timeout_s: float, why: Callable[[], object]) -> Any:
    """What is asked for, once it is there."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.3)
    return found


def start(person: Visitor, team: str) -> None:
    """Have a person's server. One that did not come in time they start again, as people do."""
    deadline = time.monotonic() + START_S
    while not (found := person.server()).get("ready"):
        assert time.monotonic() < deadline, person.follow_start()
        if not found.get("pending"):
            answer = person.ask_for_server(team)
            assert answer.status_code in (201, 202, 400), answer.text  # 400: it is on its way
        time.sleep(0.5)


@dataclass
class Rehearsal:
    """One contest on a run of `up`, and what the host holds in hand."""

    run: Run
    kubeconfig: Path
    client: httpx.Client = field(init=False)
    folder: DataFolder = field(init=False)

    def __post_init__(self) -> None:
        self.folder = DataFolder(self.run.data)
        settings = read_demo_settings(self.folder.settings)
        token = self.folder.read_token("contest-host")
        self.client = httpx.Client(
            base_url=f"{settings.contests_url}api/",
            headers={"Authorization": f"token {token}"},
            timeout=60,
        )

    # -- asking --------------------------------------------------------------------------------

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the service. While it, or the hub, is being started again, ask once more."""
        deadline = time.monotonic() + BACK_S
        while True:
            try:
                answer = self.client.request(method, path, **more)
                if answer.status_code < 500 or time.monotonic() > deadline:
                    return answer
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.3)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self.ask("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, path: str, body: object, *, key: str = "") -> httpx.Response:
        return self.ask("POST", path, json=body, headers={"Idempotency-Key": key} if key else {})

    def act(self, action: str, *, key: str, contest: str = CONTEST, **more: Any) -> dict[str, Any]:
        """Show what an action would do, do it, and ask for it once more: that changes nothing."""
        body = {"action": action, **more}
        shown = self.post(f"contests/{contest}/actions", {**body, "dryRun": True}, key=key)
        assert shown.status_code == 200, shown.text
        for _ in range(2):
            done = self.post(f"contests/{contest}/actions", body, key=key)
            assert done.status_code == 202, done.text
        return dict(shown.json())

    def teams(self, state: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            page = self.get(f"contests/{CONTEST}/teams", state=state, after=after, limit=100)
            found += page["teams"]
            after = page["next"]
        return found

    def ids(self, state: str = "") -> set[str]:
        return {team["id"] for team in self.teams(state)}

    def progress(self) -> dict[str, Any]:
        return self.get(f"contests/{CONTEST}/progress")

    def until(self, what: Callable[[], Any], *, timeout_s: float) -> Any:
        def why() -> str:
            return json.dumps(self.progress(), indent=1)

        return wait_for(what, timeout_s=timeout_s, why=why)

    def until_quiet(self, contest: str = CONTEST, *, timeout_s: float) -> None:
        """Until nothing is under way, and the hub's groups are as the registry has them."""
        self.until(lambda: not self._busy(contest), timeout_s=timeout_s)

    def _busy(self, contest: str) -> bool:
        said = self.get(f"contests/{contest}/progress")
        return bool(said["courses"] or said["behindCount"])

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as a host has it after `source run/environment`."""
        settings = read_demo_settings(self.folder.settings)
        return subprocess.run(
            [
                *(sys.executable, "-m", "jupyterhub_collab.cli.main", *arguments),
                f"--contests-url={settings.contests_url}",
                f"--token-file={self.folder.secret('contest-host-token')}",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    @staticmethod
    def offline(what: str, file: str, key: str) -> subprocess.CompletedProcess[str]:
        """A command that asks nobody."""
        command = [sys.executable, "-m", "jupyterhub_collab.cli.main", "contest", what, file]
        return subprocess.run(
            [*command, f"--key={key}"], capture_output=True, text=True, check=False, timeout=300
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [str(KUBECTL), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # -- steps ---------------------------------------------------------------------------------

    def register(self, count: int) -> list[str]:
        """All teams at once, each twice; of more people than there are places some join."""
        teams = [f"crew-{n}" for n in range(count)]

        def one(team: str) -> None:
            for _ in range(2):
                body = {"id": team, "captain": f"{team}-captain"}
                answer = self.post(f"contests/{CONTEST}/teams", body, key=f"register-{team}")
                assert answer.status_code in (201, 202), answer.text

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, teams))
            crowded = teams[: max(2, count // 10)]
            asked = [(team, n) for team in crowded for n in range(SIZE_MAX + 3)]
            answers = list(pool.map(lambda a: self._join(*a), asked))
        for team in crowded:
            told = [
                entry for entry, code in answers if entry.startswith(f"{team}-m") and code == 200
            ]
            refused = {code for entry, code in answers if code != 200}
            members = {m["entry"] for m in self.get(f"teams/{team}")["members"]}
            assert len(members) == SIZE_MAX, members
            assert members.issuperset(told), (members, told)
            assert refused == {409}
        assert self.ids() == set(teams)
        return teams

    def _join(self, team: str, n: int) -> tuple[str, int]:
        entry = f"{team}-m{n}"
        return entry, self.post(f"teams/{team}/members", {"entry": entry}).status_code

    def work(self, teams: Sequence[str], text: str, *, places: int) -> None:
        """Each team's captain starts a server and leaves a file in the team's volume.

        Parameters
        ----------
        places
            Servers that the cluster has room for. The last ones stay; those before make room.
        """
        people = [
            Visitor(f"{team}-captain", url=self.run.url, accounts=self.folder.accounts)
            for team in teams
        ]

        def one(team: str, person: Visitor) -> None:
            person.sign_in()
            start(person, team)
            person.write_file("team/found.txt", f"{team}: {text}")

        with ExitStack() as stack, ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            for person in people:
                stack.callback(person.close)
            for first in range(0, len(teams), places):
                if first:
                    list(pool.map(Visitor.stop, people[first - places : first]))
                last = first + places
                list(pool.map(one, teams[first:last], people[first:last]))

    def look_at_name(self, team: str, *, stranger: str) -> None:
        """The team's name leads its members to its page, and tells others nothing."""
        assert self.leads_to_page(team)
        member = f"{team}-captain"
        for name, status, shown in ((member, 200, "Open: its members"), (stranger, 404, "")):
            person = Visitor(name, url=self.run.url, accounts=self.folder.accounts)
            person.sign_in()
            page = person.open(self.url_of(team))
            assert (page.url.path, page.status_code) == (f"/hub/team/{team}", status), page.text
            assert shown in page.text
            person.close()

    def url_of(self, team: str) -> str:
        return f"http://{team}.{CONTEST}.{NAMES_SUFFIX}:{self.run.url.rpartition(':')[2]}/"

    def leads_to_page(self, team: str) -> bool:
        """Whether somebody who is not signed in is asked to, to see the team's page."""
        person = Visitor("nobody", url=self.run.url)
        try:
            return person.open(self.url_of(team)).url.params.get("next") == f"/hub/team/{team}"
        finally:
            person.close()

    def running_servers(self) -> list[str]:
        # Not the pods of archive Jobs: those stay for a day once they have ended.
        servers = f"{LABEL_CONTEST}={CONTEST},{LABEL_COMPONENT}={COMPONENT_SERVER}"
        pods = json.loads(self.kubectl("get", "pods", "-A", "-l", servers, "-o", "json"))
        return [pod["metadata"]["labels"][LABEL_TEAM] for pod in pods["items"]]

    def release(self, hub_id: str) -> None:
        """The second key: the cluster's administrator lets the contest's teams go."""
        labels = f"{LABEL_HUB}={hub_id},{LABEL_CONTEST}={CONTEST}"
        for kind in ("namespaces", "persistentvolumes"):
            if self.kubectl("get", kind, "-l", labels, "-o", "name").strip():
                word = f"{ANNOTATION_DESTROY}={CONTEST}"
                self.kubectl("annotate", "--overwrite", kind, "-l", labels, word)

    def close(self) -> None:
        self.client.close()
