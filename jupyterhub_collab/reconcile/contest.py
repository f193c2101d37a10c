"""Whose work is in a namespace: a team id that comes again in another contest. Pure.

A contest's groups may be deleted while its teams' namespaces are kept. A team of the same id in
another contest would get them, with the volumes of people it has nothing to do with. So a namespace
that was made for one contest is given to another only by somebody's decision, an annotation.
"""

from __future__ import annotations

import json

from ..constants import (
    ANNOTATION_GIVE_TO_CONTEST,
    ANNOTATION_SPEC,
    LABEL_CONTEST,
    LABEL_HUB,
    LABEL_TEAM,
)
from .issues import Issue, IssueType
from .objects import Manifest, Owner, key_of


def other_contest(desired: Manifest, found: Manifest) -> Issue | None:
    """Issue of a namespace that holds the work of another contest; None when it may be changed."""
    wanted, has = contest_of(desired), contest_of(found)
    decision = (found["metadata"].get("annotations") or {}).get(ANNOTATION_GIVE_TO_CONTEST)
    if not has or wanted in (has, decision):
        return None
    labels = desired["metadata"]["labels"]
    owner = Owner(labels[LABEL_HUB], labels[LABEL_TEAM])
    command = administrators_word(owner, ANNOTATION_GIVE_TO_CONTEST, wanted)
    message = (
        f"{key_of(found)} was made for a team of the contest {has!r} and may hold its work; the "
        f"hub's group names the contest {wanted!r}. Nothing was changed. If it is the same team, "
        f"let an administrator run: {command}. If it is another team, give it another id."
    )
    return Issue(IssueType.OTHER_CONTEST, "MadeForAnother", message)


def administrators_word(owner: Owner, annotation: str, contest: str) -> str:
    """Command that says it of all that the team has outside of its namespace, and of that."""
    own = f"{LABEL_HUB}={owner.hub_id},{LABEL_TEAM}={owner.team}"
    return (
        f"kubectl annotate --overwrite namespace,persistentvolume -l {own} {annotation}={contest}"
    )


def contest_of(namespace: Manifest) -> str:
    """Contest that a namespace was made for: by the spec on it, else by its label."""
    meta = namespace["metadata"]
    try:
        contest = json.loads((meta.get("annotations") or {})[ANNOTATION_SPEC])["contest"]
    except (KeyError, TypeError, ValueError):
        contest = (meta.get("labels") or {}).get(LABEL_CONTEST)
    return contest if isinstance(contest, str) else ""
