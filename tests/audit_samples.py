"""A small audit log with two contests, five teams and people of all roles: what readers are tested
with. No name of a person, team or data set stands in another's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from jupyterhub_collab.models.audit import AuditEvent, SentBatch, SentEvent
from jupyterhub_collab.models.standing import PersonStanding

AT = datetime(2027, 3, 1, 10, 0, tzinfo=timezone.utc)
TEAMS = {"ocean": "sea", "river": "sea", "glacier": "ice", "fjord": "ice", "delta": "sea"}
DATASETS = {"sea": ("tides", "salt"), "ice": ("cores", "tides")}  # both have tides
PEOPLE = {"ocean": ("ada", "bob"), "river": ("cyd", "ada"), "glacier": ("dan",), "fjord": ("eve",)}


class Clock:
    """Goes on by a fixed step each time it is asked."""

    def __init__(self, step: timedelta = timedelta(minutes=7)) -> None:
        self.at, self.step = AT, step

    def __call__(self) -> datetime:
        self.at += self.step
        return self.at


def who(name: str, *roles: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "roles": roles, "address": f"10.0.0.{len(name)}", "agent": "x/1", **more}


def make_events() -> Iterator[dict[str, Any]]:
    """Events of all kinds, without times."""
    for number in range(6):
        for team, names in PEOPLE.items():
            contest = TEAMS[team]
            name = names[number % len(names)]
            dataset = DATASETS[contest][number % 2]
            me = who(name, f"member of team {team}", "captain of team delta")
            yield {"verb": "login", "subject": who(name), "outcome": "succeeded"}
            yield {
                "verb": "server.start",
                "outcome": "allowed",
                "contest": contest,
                "team": team,
                "datasets": [dataset],
                "subject": me,
                "thing": f"server-{team}-{number}",
                "details": {"image": f"registry/{team}", "mounts": [dataset]},
            }
            yield {
                "verb": "dataset.read",
                "outcome": "refused" if number == 3 else "succeeded",
                "reason": "not-granted" if number == 3 else None,
                "contest": contest,
                "team": team,
                "datasets": [dataset],
                "subject": me,
            }
            yield {
                "verb": "impersonate",
                "contest": contest,
                "team": team,
                "subject": who(name),
                "actor": who("root", "admin of the hub", note=f"asked by {name}"),
            }
            yield {"verb": "tenancy.drift", "contest": contest, "team": team}
    yield {"verb": "share.create", "subject": who("ada"), "recipient": who("eve")}
    yield {
        "verb": "contest.change",
        "contest": "sea",
        "subject": who("hana", "host of contest sea"),
    }
    yield {"verb": "contest.change", "contest": "ice", "subject": who("ivo", "host of contest ice")}
    yield {"verb": "configuration.load", "details": {"stored": "2027-03-01T99"}}
    yield {"verb": "login", "outcome": "failed", "subject": {"address": "192.0.2.7"}}


def make_own() -> Iterator[dict[str, Any]]:
    """What the audit service records of itself."""
    yield {"verb": "audit.start"}
    yield {"verb": "audit.erase", "contest": "sea", "actor": who("root"), "subject": who("ada")}
    yield {"verb": "audit.gap", "contest": "ice", "team": "glacier"}
    yield {"verb": "audit.read", "contest": "sea", "team": "ocean", "subject": who("hana")}
    yield {"verb": "audit.read", "subject": who("bob"), "actor": who("root")}
    yield {"verb": "audit.export", "contest": "ice", "datasets": ["cores"], "subject": who("ivo")}


def to_event(fields: dict[str, Any]) -> AuditEvent:
    return AuditEvent.model_validate({"time": AT, **fields})


async def fill(log: Any) -> None:
    """Put all of it into an `AuditLog`, some at a time: those of one batch share a moment."""
    sent = [
        SentEvent(sequence=number, event=to_event(fields))
        for number, fields in enumerate(make_events(), start=1)
    ]
    for at in range(0, len(sent), 6):
        some = tuple(sent[at : at + 6])
        await log.append("hub", SentBatch(incarnation="0" * 32, events=some))
    for fields in make_own():
        await log.append_own(to_event(fields))


def standing(name: str, **more: Any) -> PersonStanding:
    return PersonStanding.model_validate({"name": name, **more})


def team(name: str, *, captain: bool = False) -> dict[str, Any]:
    return {"team": name, "contest": TEAMS[name], "captain": captain}


STANDINGS = {
    s.name: s
    for s in (
        standing("root", admin=True),
        standing(
            "hana", contests=[{"contest": "sea", "host": True, "datasets": ["tides", "salt"]}]
        ),
        standing("ivo", contests=[{"contest": "ice", "host": True}], teams=[team("ocean")]),
        standing("jude", contests=[{"contest": "sea", "judge": True}]),
        standing("stew", contests=[{"contest": "sea", "keeps": ["tides"]}]),
        standing("ada", teams=[team("ocean", captain=True), team("river")]),
        standing("bob", teams=[team("ocean")]),
        standing("cyd", teams=[team("river", captain=True)]),
        standing("dan", teams=[team("glacier")]),
        standing("eve", teams=[team("fjord", captain=True)]),
        standing("nobody"),
    )
}
