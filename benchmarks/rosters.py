"""Finding somebody in the rosters of 5,000 teams of 5, beside reading all of them.

The hub does so on its own loop at each log-in and refresh, and serves nobody meanwhile. Notes tell
the worst names, the look that compares all rosters with those the hub was brought after, and what
rosters add to a page of groups that the provisioner reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from jupyterhub import orm

from benchmarks.measure import Result, finish
from jupyterhub_collab.hub.auth.registry import HubRegistry
from jupyterhub_collab.hubapi.client import PAGE_SIZE
from jupyterhub_collab.policy.roster import read_roster

TEAMS, PAIRS = 5000, 20
ISSUER = "https://login.example.org/realms/lab"


def make_properties(number: int) -> dict[str, Any]:
    """Two by name, two by identity, one invited."""
    key = f"0a0d6c1e-0000-4000-{number:04d}-00000000000"
    members = [
        *({"issuer": ISSUER, "subject": f"{key}{i}"} for i in range(2)),
        {"issuer": "portal", "email": f"person-{number}@example.org"},
        *(f"user-{number}-{i}" for i in range(2)),
    ]
    corner = {"schema": 1, "generation": 1, "contest": "sea", "tier": "small", "overrides": {}}
    corner |= {"title": f"Team {number}", "datasets": [], "gate": "open", "retention": "keep"}
    return {"collab": {**corner, "members": members}}


def measure_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


async def look(registry: HubRegistry) -> tuple[float, float]:
    """A look at all rosters: milliseconds in all, and the longest time nothing else ran."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            at = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - at)

    ticking = asyncio.ensure_future(tick())
    began = time.perf_counter()
    async for _ in registry.list_rosters():
        pass
    whole = time.perf_counter() - began
    ticking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ticking
    return round(whole * 1000, 1), round(longest * 1000, 1)


def main() -> None:
    warnings.simplefilter("ignore")  # SQLAlchemy's, of JupyterHub's own column type
    with tempfile.TemporaryDirectory() as folder:
        db = orm.new_session_factory(f"sqlite:///{folder}/hub.sqlite")()
        db.add_all(orm.Group(name=f"team-{i}", properties=make_properties(i)) for i in range(TEAMS))
        db.commit()
        registry = HubRegistry(db)
        mine = make_properties(77)["collab"]["members"]

        def find(name: str = "user-77-0") -> object:
            return registry.rosters_with(
                name=name, subject=mine[0]["subject"], emails=["person-77@example.org"]
            )

        def read_all() -> object:
            found = db.query(orm.Group.name, orm.Group.properties).all()
            return {n: r for n, p in found if "user-77-0" in (r := read_roster(p))}

        assert find() == read_all()
        pairs = [(measure_ms(find), measure_ms(read_all)) for _ in range(PAIRS)]
        words = ("issuer", "portal", ISSUER)
        worst = [measure_ms(lambda w=word: find(w)) for word in words for _ in range(5)]
        first, later = asyncio.run(look(registry)), asyncio.run(look(registry))
        db.close()
    page = [make_properties(i) for i in range(PAGE_SIZE)]
    with_rosters = len(json.dumps(page))
    for properties in page:
        del properties["collab"]["members"]
    finish(
        Result(
            name="finding somebody in rosters",
            unit="ms",
            figures=[a for a, _ in pairs],
            peers=[b for _, b in pairs],
            peer_name="reading all rosters",
            target=0.2,
            at_most=True,
            notes={
                "teams": TEAMS,
                "named_like_a_word_ms": round(statistics.median(worst), 1),
                "first_look_ms_and_longest_hold_ms": first,
                "later_look_ms_and_longest_hold_ms": later,
                "bytes_of_a_page_with_rosters": with_rosters,
                "bytes_of_a_page_without": len(json.dumps(page)),
            },
        )
    )


if __name__ == "__main__":
    main()
