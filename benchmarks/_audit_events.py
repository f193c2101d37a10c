"""Events as a hub with many teams tells them, for the benchmarks of the audit log."""

from __future__ import annotations

import json

from jupyterhub_collab.models.audit import SentBatch

INCARNATION = "0" * 32


def make_sent(number: int, team: int, teams_a_contest: int = 200) -> dict[str, object]:
    """One in the wire's form: a read of a data set, as most are, or what a server does."""
    name, contest = f"team-{team}", f"contest-{team // teams_a_contest}"
    member = number * 7 % 5
    event: dict[str, object] = {
        "time": "2027-03-01T10:00:00.123456Z",
        "verb": ("dataset.read", "egress.connect", "server.start", "dataset.read")[number % 4],
        "outcome": "refused" if number % 50 == 0 else "succeeded",
        "contest": contest,
        "team": name,
        "thing": f"server-{number % 100_000}",
        "correlation": f"{number:032x}",
        "details": {"bytes": number * 100, "path": f"/tides/2027/{number % 12}.parquet"},
        "subject": {
            "name": f"user-{team}-{member}",
            "roles": [f"member of team {name}"],
            "address": f"10.{team % 250}.0.{member}",
        },
    }
    if number % 2:
        event["datasets"] = ["tides"]
    return {"sequence": number, "event": event}


def make_batch(sent: list[dict[str, object]], incarnation: str = INCARNATION) -> SentBatch:
    """Checked, as the service checks what comes in."""
    wire = {"incarnation": incarnation, "events": sent}
    return SentBatch.model_validate_json(json.dumps(wire))
