"""A whole contest, act by act: many teams, cuts, an appeal, a copy that comes back, and teardown.

The same on every stage; how large it is says the `Scale`. Whoever kills parts of it meanwhile must
not change how it ends (`check_end`).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from jupyterhub_collab.constants import LABEL_CONTEST, LABEL_HUB
from jupyterhub_collab.contest_ending_factory import read_or_make_key
from jupyterhub_collab.hub.demo_settings import read_demo_settings
from jupyterhub_collab.managers.contest_archives import RESTORE, ContestArchives
from jupyterhub_collab.storage.archives import ArchiveFolder
from tests.walk.rehearsal import CONTEST, Rehearsal, wait_for, write_manifest
from tests.walk.stages import Stage
from tests.walk.volume_tree import look

BESIDE: Final = "labour-market"
ORPHAN: Final = "forgotten"


@dataclass(frozen=True)
class Scale:
    """How large a rehearsal is.

    Attributes
    ----------
    cuts
        How many teams each advance keeps.
    workers
        How many teams work in each round.
    export_window_s
        Of who is eliminated. Whoever appeals does so within it.
    patience_s
        For one act, in seconds.
    """

    teams: int
    cuts: tuple[int, ...]
    workers: tuple[int, ...]
    export_window_s: int
    patience_s: float


@dataclass
class Play:
    """One rehearsal on one stage.

    Attributes
    ----------
    took
        Seconds of each act.
    """

    rehearsal: Rehearsal
    stage: Stage
    scale: Scale
    folder: Path
    took: dict[str, float] = field(default_factory=dict)
    teams: list[str] = field(default_factory=list)
    appeal: str = ""
    keeper: str = ""
    trees: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @contextmanager
    def act(self, name: str) -> Iterator[None]:
        """Note how long something took, and say so where somebody watches."""
        began = time.monotonic()
        yield
        self.took[name] = time.monotonic() - began
        print(f"{self.took[name]:8.1f} s  {name}", flush=True)

    def until(self, what: Any) -> Any:
        return self.rehearsal.until(what, timeout_s=self.scale.patience_s)

    # -- the acts ------------------------------------------------------------------------------

    def assemble(self) -> None:
        """From the manifest to the first round, with every team in a space of its own."""
        manifest = write_manifest(
            self.folder / "reef.yaml",
            image=self.stage.image,
            cpu=self.stage.cpu,
            domain=f"{CONTEST}.{self.stage.names_suffix}" if self.stage.names_suffix else None,
            export_window_s=self.scale.export_window_s,
        )
        applied = self.rehearsal.cli("apply", str(manifest))
        assert applied.returncode == 0, applied.stderr
        self.rehearsal.act("open", key="open")
        with self.act("register all teams at once"):
            self.teams = self.rehearsal.register(self.scale.teams)
        with self.act("all have their spaces"):
            self.rehearsal.act("start", key="start")
            self.until(lambda: self.rehearsal.ids("active") == set(self.teams))
            self.rehearsal.until_quiet(timeout_s=self.scale.patience_s)

    def go_through_rounds(self) -> None:
        """Work, close, rank, advance; after the first cut one appeals, after that one is archived
        and comes back."""
        kept = list(self.teams)
        self.keeper = kept[0]
        for number, (cut, working) in enumerate(
            zip(self.scale.cuts, self.scale.workers, strict=True), 1
        ):
            out = kept[cut:]
            # The last ones' servers are still there when the others have made room.
            workers = [*kept[1 : working - 1], self.keeper, out[0]]
            workers = list(dict.fromkeys(reversed(workers)))[::-1]
            with self.act(f"round {number}: {len(workers)} teams work in containers"):
                self.work(workers, f"round {number}")
            if number == 1:
                self.appeal = out[0]
                self.fill_volumes()
            if number == 2:
                self.bring_back(self.keeper)
            self.close_round(number)
            with self.act(f"round {number}: {cut} of {len(kept)} go on"):
                self.advance(kept, cut=cut, number=number)
            kept = kept[:cut]
            if number == 1:
                with self.act("an appeal"):
                    self.take_back(self.appeal)
                kept.append(self.appeal)

    def work(self, teams: list[str], text: str) -> None:
        self.rehearsal.work(teams, text, places=self.stage.places)

    def fill_volumes(self) -> None:
        """Everything that a volume may hold goes into two of them."""
        if self.stage.names_suffix:
            self.rehearsal.look_at_name(self.keeper, stranger=f"{self.teams[1]}-captain")
        for team in (self.keeper, self.appeal):
            self.stage.in_volume(team, "make")
            self.trees[team] = self.look(team)
        assert len(self.trees[self.keeper]) > 70

    def look(self, team: str) -> list[dict[str, Any]]:
        """All that is in a team's volume."""
        found: list[dict[str, Any]] = json.loads(self.stage.in_volume(team, "look"))
        return found

    def close_round(self, number: int) -> None:
        with self.act(f"round {number}: closed, servers stopped"):
            self.rehearsal.act("close-round", key=f"close-{number}")
            self.until(lambda: not self.rehearsal.running_servers())

    def advance(self, kept: list[str], *, cut: int, number: int) -> None:
        answer = self.rehearsal.ask("PUT", f"contests/{CONTEST}/ranking", json={"ranking": kept})
        assert answer.status_code == 200, answer.text
        self.rehearsal.act("advance", key=f"advance-{number}", top=cut)
        self.until(lambda: {t["round"] for t in self.rehearsal.teams("active")} == {number + 1})
        assert self.rehearsal.ids("active") == set(kept[:cut])
        # Whoever goes on has all of it: another action would take the place of what is left.
        self.until(lambda: "advance" not in self.courses())

    def courses(self) -> set[str]:
        """Kinds of what is under way."""
        return {course["kind"] for course in self.rehearsal.progress()["courses"]}

    def take_back(self, team: str) -> None:
        """Who was cut comes back, with its files as they were, read in its own server."""
        self.rehearsal.act("restore", key="appeal", team=team)
        self.until(lambda: team in self.rehearsal.ids("active"))
        self.work([team], "round 1")
        now = {entry["path"]: entry for entry in self.look(team)}
        for entry in self.trees[team]:
            if entry["path"] != b"found.txt".hex():  # it has just been written again
                assert now[entry["path"]] == entry

    def bring_back(self, team: str) -> None:
        """A team is archived; then its volume is lost, and comes back from the copy."""
        self.trees[team] = self.look(team)
        with self.act("one team archived"):
            self.rehearsal.act("archive", key="archive-one", team=team)
            self.until(lambda: team in self.rehearsal.ids("archived"))
        (copy,) = self.copies(team)
        self.rehearsal.act("restore", key="restore-one", team=team)
        self.until(lambda: team in self.rehearsal.ids("active"))
        self.work([team], "round 2")
        self.stage.in_volume(team, "clear")
        assert self.look(team) == []
        with self.act("its volume restored from the copy"):
            self.restore(team, copy)
        assert self.look(team) == self.trees[team]

    def copies(self, team: str) -> list[Path]:
        """Of its team volume, as the contests service keeps them."""
        folder = self.rehearsal.folder.registry / "archives" / CONTEST
        there = sorted(folder.glob(f"{team}.*.tar"))
        rows = self.rows(
            "select key from contest_archives where team = ? and volume = 'team'", team
        )
        return [path for path in there if f"{CONTEST}/{path.name}" in {key for (key,) in rows}]

    def restore(self, team: str, copy: Path) -> None:
        """As an administrator has it done: the provisioner is asked, with the copy's own token."""
        folder = self.rehearsal.folder
        archive = copy.name.removesuffix(".tar")
        archives = ContestArchives(
            ArchiveFolder(folder.registry / "archives"),
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            key=read_or_make_key(folder.registry / "archives.key"),
            prefix="/services/contests/",
            now=lambda: None,  # type: ignore[arg-type, return-value]
        )
        url = f"{read_demo_settings(folder.settings).provisioner_url}teams/{team}/archives"
        headers = {"Authorization": f"token {folder.read_token('contests')}"}
        body = {"archives": [archives.entry(archive, "team", RESTORE)]}

        def is_done() -> bool:
            """Asked again each time, as the contests service does."""
            try:
                asked = httpx.post(f"{url}/restore", json=body, headers=headers, timeout=30)
                found = httpx.get(url, headers=headers, timeout=30).json()
            except (httpx.TransportError, ValueError):
                return False
            assert asked.status_code in (200, 202) or asked.status_code >= 500, asked.text
            states = {
                job["archive"]: job for job in found.get("jobs", ()) if job["work"] == "restore"
            }
            return bool(states.get(archive, {}).get("state") == "done")

        wait_for(is_done, timeout_s=self.scale.patience_s, why=lambda: f"{team}: {copy.name}")

    def tear_down(self) -> None:
        """The way down: with an orphan planted by hand, which holds the certificate up."""
        self.rehearsal.act("finish", key="finish")
        hub_id = json.loads(self.rehearsal.folder.platform.read_text())["hub_id"]
        labels = {LABEL_CONTEST: CONTEST, LABEL_HUB: hub_id}
        orphan = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": ORPHAN, "labels": labels},
        }
        apply = ("apply", "--server-side", "--validate=false", "-f", "-")
        self.rehearsal.kubectl(*apply, stdin=json.dumps(orphan))
        with self.act("all volumes archived, all teams destroyed"):
            self.rehearsal.act("destroy", key="destroy")
            self.rehearsal.release(hub_id)
            self.until(lambda: self.rehearsal.ids("destroyed") == set(self.teams))
        with self.act("the orphan is found"):
            self.until(lambda: ORPHAN in json.dumps(self.rehearsal.progress()))
        certificate = f"contests/{CONTEST}/certificate"
        assert self.rehearsal.ask("GET", certificate).status_code == 404
        if self.stage.names_suffix:
            assert not self.rehearsal.leads_to_page(self.teams[0]), "a name whose team is gone"
        self.rehearsal.kubectl("delete", "namespace", ORPHAN)
        with self.act("certified"):
            self.until(lambda: self.rehearsal.ask("GET", certificate).status_code == 200)
            self.until(lambda: self.rehearsal.get(f"contests/{CONTEST}")["state"] == "destroyed")

    # -- how it must end -----------------------------------------------------------------------

    def check_end(self) -> None:
        """The certificate, what is left, what the registry remembers, and a copy by hand."""
        self.check_certificate()
        shown = self.rehearsal.kubectl(
            "get", "namespaces,persistentvolumes", "-l", f"{LABEL_CONTEST}={CONTEST}", "-o", "json"
        )
        assert json.loads(shown)["items"] == []
        assert self.rows("select * from contest_courses where contest = ?", CONTEST) == []
        self.check_transitions()
        self.check_notices()
        self.check_copies()
        self.check_copy_by_hand()

    def check_certificate(self) -> None:
        note = self.rehearsal.cli("contest", "certificate", CONTEST)
        assert note.returncode == 0, note.stderr
        path = self.folder / "certificate.txt"
        path.write_text(note.stdout)
        key = self.rehearsal.folder.registry / "certificate.key.pub"
        checked = self.rehearsal.offline("verify-certificate", str(path), str(key))
        assert checked.returncode == 0, checked.stderr
        assert f"{len(self.teams)} teams" in checked.stdout
        assert "0 volumes were destroyed without a copy" in checked.stdout

    def check_transitions(self) -> None:
        """Each team went its way once, whatever died meanwhile."""
        ways: dict[str, list[str]] = {team: [] for team in self.teams}
        query = "select team, after from contest_transitions where contest = ? order by number"
        for team, after in self.rows(query, CONTEST):
            ways.setdefault(team, []).append(after)
        contest = ways.pop("")
        rounds = ["running", "judging"] * len(self.scale.cuts)
        begin = ["draft", "registration"]
        assert contest == [*begin, *rounds, "running", "finished", "destroyed"], contest
        assert ways.keys() == set(self.teams)
        begin = ["invited", "provisioning", "active"]
        for team, way in ways.items():
            cut = ["eliminated"] if team not in self.winners else []
            archived = ["archived"] if "archived" in way and team != self.keeper else []
            between = {self.keeper: ["archived", "active"], self.appeal: ["eliminated", "active"]}
            wanted = [*begin, *between.get(team, ()), *cut, *archived, "destroyed"]
            assert way == wanted, (team, way)

    def check_notices(self) -> None:
        """Each team was told once of each thing, whatever died meanwhile."""
        told: dict[str, Counter[str]] = {team: Counter() for team in ("", *self.teams)}
        for team, key in self.rows(
            "select team, key from contest_notices where contest = ?", CONTEST
        ):
            told[team][key.partition("-")[0]] += 1
        assert all(told[team]["admit"] == 1 for team in self.teams)
        assert told[self.keeper] == {
            "admit": 1,
            "advance": len(self.scale.cuts),
            "archive": 1,
            "restore": 1,
            "destroy": 1,
        }
        assert told[self.appeal]["restore"] == 1

    def check_copies(self) -> None:
        """Of every team's volume there is a copy, and each is what the registry says."""
        query = "select team, volume, key, sha256 from contest_archives where contest = ?"
        rows = self.rows(query, CONTEST)
        assert {team for team, volume, *_ in rows if volume == "team"} == set(self.teams)
        for _, _, key, sha256 in rows:
            copy = self.rehearsal.folder.registry / "archives" / key
            assert hashlib.sha256(copy.read_bytes()).hexdigest() == sha256, key

    @property
    def winners(self) -> set[str]:
        return set(self.teams[: self.scale.cuts[-1]])

    def check_copy_by_hand(self) -> None:
        """The last copy of a destroyed team's volume, unpacked with tar alone."""
        place = self.folder / "by-hand"
        place.mkdir()
        copy = self.copies(self.keeper)[-1]
        done = subprocess.run(
            ["tar", "--xattrs", "-xpf", str(copy), "-C", str(place)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        found = {entry["path"]: entry for entry in look(str(place / "volume"))}
        for entry in self.trees[self.keeper]:
            there = found.pop(entry["path"])
            if entry["path"] != b"found.txt".hex():
                same = ("mode", "sha256", "target", "bytes", "links")
                assert [there.get(k) for k in same] == [entry.get(k) for k in same], entry

    def rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """What the registry's file says; nobody who is killed meanwhile is asked."""
        file = self.rehearsal.folder.registry / "contests.sqlite"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as found:
            return list(found.execute(query, values))


def beside(rehearsal: Rehearsal) -> object:
    """All that the other contest is in the cluster, and as the registry has it."""
    kinds = "namespaces", "persistentvolumeclaims", "pods", "rolebindings", "networkpolicies"
    shown = rehearsal.kubectl(
        "get", ",".join(kinds), "-A", "-l", f"{LABEL_CONTEST}={BESIDE}", "-o", "json"
    )
    found = {}
    for item in json.loads(shown)["items"]:
        meta = item["metadata"]
        key = item["kind"], meta.get("namespace", ""), meta["name"]
        found[key] = meta["uid"], item.get("spec", {}).get("volumeName")
    return found, rehearsal.get(f"contests/{BESIDE}/teams")["teams"]
