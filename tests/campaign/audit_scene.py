"""The audit service and programs under audit, all of which may die; and what must hold then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, select

from jupyterhub_collab.policy.audit_emitters import Emitter, Emitters, hash_token
from jupyterhub_collab.policy.merkle import Frontier, leaf_hash
from jupyterhub_collab.storage import audit_tables as tables
from tests.services.audit.running import AuditService

NAMES: Final = ("hub", "gateway", "jobs")


@dataclass
class Program:
    """An emitter's program: its folder outlives its lives."""

    name: str
    folder: Path
    url: str
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> str:
        return f"token-of-{self.name}-in-the-campaign"

    def start(self, *, only_deliver: bool = False) -> None:
        self.lives += 1
        life = "deliver" if only_deliver else f"{self.name}-{self.lives}"
        command = [sys.executable, "-m", "tests.campaign.audit_emitting"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.folder), self.url, self.token, life],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> bool:
        """Whether it was alive until now."""
        if self.process is None:
            return False
        was_alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self.process = None
        return was_alive

    def end(self) -> None:
        """In order."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(30) == 0, (self.folder / "log").read_text()[-3000:]
        self.process = None

    def deliver(self) -> None:
        """Bring all that is left to the service."""
        self.start(only_deliver=True)
        assert self.process is not None
        assert self.process.wait(90) == 0, (self.folder / "log").read_text()[-3000:]
        self.process = None

    def lines(self, name: str) -> list[str]:
        try:
            text = (self.folder / name).read_text()
        except FileNotFoundError:
            return []
        return text.split("\n")[:-1]  # a torn last line was not finished


@dataclass
class Scene:
    """All of it."""

    service: AuditService
    programs: list[Program]
    database_url: str
    alive: Counter[str] = field(default_factory=Counter)  # who was alive when killed

    def kill_service(self) -> None:
        if self.service.process is not None:
            self.alive["service"] += self.service.process.poll() is None
            self.service.kill()
            self.service.process = None

    def kill_program(self, program: Program) -> None:
        self.alive[program.name] += program.kill()

    def deliver_all(self) -> None:
        """End what runs, bring what waits to the service, end that."""
        for program in self.programs:
            if program.process is not None:
                program.end()
        if self.service.process is None:
            self.service.start_and_wait()
        for program in self.programs:
            program.deliver()
        self.service.end()

    def log(self) -> list[dict[str, Any]]:
        """All bodies, in order."""
        engine = create_engine(self.database_url)
        wanted = select(tables.events.c.body).order_by(tables.events.c.sequence)
        try:
            with engine.connect() as connection:
                return [json.loads(row.body) for row in connection.execute(wanted)]
        finally:
            engine.dispose()

    def root(self) -> tuple[int, str]:
        """Size and head of the tree over all bodies as they are kept."""
        engine = create_engine(self.database_url)
        wanted = select(tables.events.c.body).order_by(tables.events.c.sequence)
        frontier = Frontier()
        try:
            with engine.connect() as connection:
                for row in connection.execute(wanted):
                    frontier.append(leaf_hash(row.body.encode()))
        finally:
            engine.dispose()
        return frontier.size, frontier.root().hex()


@dataclass(frozen=True)
class Found:
    """Figures of a campaign."""

    events: int
    told: int
    done: int
    refused: int


def assert_nothing_lost(scene: Scene) -> Found:
    """What "nothing acknowledged is lost, nothing protected happens unrecorded" means."""
    log = scene.log()
    assert [one["sequence"] for one in log] == list(range(1, len(log) + 1))
    verbs = Counter(one["verb"] for one in log)
    assert not verbs["audit.gap"], [one for one in log if one["verb"] == "audit.gap"]
    assert not verbs["audit.reject"]
    # Each emitter's numbers: all, once, in order.
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in log:
        numbers[one["emitter"], one["incarnation"]].append(one["emitterSequence"])
    for key, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), key
    assert {name for name, _ in numbers} == {"audit", *NAMES}
    assert len(numbers) == len(NAMES) + len({i for name, i in numbers if name == "audit"})
    things = Counter((one.get("thing"), one["outcome"]) for one in log)
    told = done = refused = 0
    for program in scene.programs:
        # What `emit` returned for is there, once, in the order in which it was told.
        lines = program.lines("told")
        there = [
            one["thing"]
            for one in log
            if one["emitter"] == program.name and ":told:" in one["thing"]
        ]
        assert len(there) == len(set(there))
        noted = set(lines)
        assert [thing for thing in there if thing in noted] == lines
        # At most one a life was in the spool and not yet noted when it was killed.
        assert len(there) - len(lines) <= program.lives
        told += len(lines)
        # What happened is recorded, once, and was never said to be refused.
        for thing in program.lines("done"):
            assert things[thing, "allowed"] == 1, thing
            assert things[thing, "refused"] == 0, thing
            done += 1
        for thing in program.lines("refused"):
            assert things[thing, "refused"] == 1, thing
            refused += 1
        assert not set(program.lines("done")) & set(program.lines("refused"))
    return Found(len(log), told, done, refused)


@contextmanager
def playing(
    folder: Path, database_url: str = "", *, before: Callable[[Scene], object] = lambda _: None
) -> Iterator[Scene]:
    """The scene with all running; `before` is called when the folders are there."""
    service = AuditService(folder / "service", database_url=database_url)
    programs = [Program(name, folder / name, service.url) for name in NAMES]
    service.folder.mkdir()
    emitters = Emitters(
        tuple(
            Emitter(name=one.name, token_sha256=hash_token(one.token), verbs=("*",))
            for one in programs
        )
    )
    (service.folder / "emitters.json").write_text(emitters.to_text())
    (service.folder / "state").mkdir(mode=0o700)
    scene = Scene(service, programs, database_url or f"sqlite:///{service.sqlite}")
    for program in programs:
        program.folder.mkdir()
    try:
        before(scene)
        service.start_and_wait()
        for program in programs:
            program.start()
        yield scene
    finally:
        service.kill()
        for program in programs:
            program.kill()
