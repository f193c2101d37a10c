"""docs/contest-life.md, drawn from the tables: ``python -m tools.contest_life_page``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from jupyterhub_collab.models.contest_life import Action, CourseKind, Step
from jupyterhub_collab.policy.contest_actions import CONTEST_ACTIONS, TEAM_ACTIONS
from jupyterhub_collab.policy.contest_courses import CHECKED, IRREVERSIBLE, STEPS
from jupyterhub_collab.policy.contest_life import (
    CONTEST_GATES,
    CONTEST_TRANSITIONS,
    TEAM_TRANSITIONS,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "contest-life.md"
TEXT = PAGE.parent / "texts" / "contest-life.md"

S = TypeVar("S", bound=Enum)

ACTION_WORDS: Mapping[Action, str] = {
    Action.OPEN: "Opens registration. Teams assemble; nobody works yet.",
    Action.START: "Opens the first round for all teams that are in. A contest without rounds runs.",
    Action.CLOSE_ROUND: "Everything can still be read, nothing changed. Servers are stopped after "
    "notice and may be started again, with every volume read-only.",
    Action.REOPEN_ROUND: "The round goes on, as if it had not been closed.",
    Action.ADVANCE: "Opens the next round for those who are kept; all other teams that are in are "
    "eliminated. Not after the last round: finish.",
    Action.FINISH: "The contest is over; everything can be read. There is no way back.",
    Action.ARCHIVE: "Copies volumes to where archives are kept, and checks the copies. Nothing is "
    "deleted. A contest is archived when its last team is.",
    Action.DESTROY: "Copies volumes if the manifest says so, then deletes all there is: namespaces "
    "with their volumes, tokens, groups, users who belong to nothing else. A contest is destroyed "
    "when its last team is, nothing is left, and the certificate is signed.",
    Action.FREEZE: "Gate closed, servers stopped after notice; then they may be started again, "
    "with every volume read-only.",
    Action.LIFT: "Ends a freeze: as it was before.",
    Action.ADMIT: "Lets a team in: its namespace is made, and it is active once all stands there.",
    Action.REJECT: "Does not let it in. Its id is never used again.",
    Action.ELIMINATE: "Out: servers are stopped after notice, the team may read and export until "
    "its window ends; then as destroy.",
    Action.RESTORE: "In again, in the contest's present round, with all its files.",
}
STEP_WORDS: Mapping[Step, str] = {
    Step.PROJECT: "write the team's hub group; in an advance, with the new round",
    Step.AWAIT_READY: "wait until the provisioner says that all stands",
    Step.OPEN_GATE: "servers may start and write",
    Step.CLOSE_GATE: "no server starts",
    Step.FREEZE_GATE: "servers may start, every volume read-only",
    Step.NOTIFY: "tell the team",
    Step.DRAIN: "stop servers, when the notice is over",
    Step.AWAIT_EXPORT: "wait until the export window ends",
    Step.ARCHIVE: "copy volumes, and check the copies",
    Step.MARK_ARCHIVED: "the team is archived",
    Step.RELEASE: "decide destruction",
    Step.AWAIT_DESTROYED: "wait until the cluster has let go of everything",
    Step.FORGET: "tokens, group, users who belong to nothing else",
    Step.MARK_DESTROYED: "the team is destroyed",
    Step.MARK_ACTIVE: "the team is active",
    Step.AWAIT_TEAMS: "wait for the last team",
    Step.REMOVE_SHARED: "the contest's group and names",
    Step.SCAN: "look for anything that still bears the contest's labels",
    Step.CERTIFY: "sign the certificate",
    Step.MARK_ENDED: "the contest is archived, or destroyed",
}


def render() -> str:
    """The page."""
    text = TEXT.read_text()
    for word, drawn in {
        "contest": draw(CONTEST_TRANSITIONS, {s: g.value for s, g in CONTEST_GATES.items()}),
        "team": draw(TEAM_TRANSITIONS, {}),
        "actions": _actions(),
        "courses": _courses(),
        "steps": _steps(),
    }.items():
        mark = f"<!-- {word} -->\n"
        if text.count(mark) != 1:
            raise ValueError(f"{TEXT.name} needs the line {mark.strip()} once")
        text = text.replace(mark, drawn)
    return text


def draw(table: Mapping[tuple[S, Action], S], gates: Mapping[S, str]) -> str:
    """A machine's states in order, each with the ways out of it."""
    states = list(type(next(iter(table))[0]))
    room = max(len(_name(state, gates)) for state in states)
    reach = max(len(action.value) for _, action in table)
    lines: list[str] = []
    for state in states:
        ways = [(action, after) for (before, action), after in table.items() if before is state]
        name = _name(state, gates)
        if not ways:
            lines += [f"{name.ljust(room)}  (nothing follows)", ""]
            continue
        for i, (action, after) in enumerate(ways):
            begin = name if i == 0 else ""
            knot = ("┬" if i == 0 else "├" if i < len(ways) - 1 else "└") if len(ways) > 1 else "─"
            dash = "─" if i == 0 else " "
            arrow = f" {action.value} ".ljust(reach + 2, "─")
            lines.append(f"{begin.ljust(room)} {dash}{knot}─{arrow}─► {after.value}")
        lines.append("")
    return "```text\n" + "\n".join(lines[:-1]) + "\n```\n"


def _name(state: Enum, gates: Mapping[S, str]) -> str:
    gate = next((gate for known, gate in gates.items() if known is state), "")
    return f"{state.value} [{gate}]" if gate else str(state.value)


def _actions() -> str:
    text = "| action | of | what it does |\n|---|---|---|\n"
    for action in Action:
        of = [
            word
            for word, some in (("contest", CONTEST_ACTIONS), ("team", TEAM_ACTIONS))
            if action in some
        ]
        text += f"| `{action.value}` | {', '.join(of)} | {ACTION_WORDS[action]} |\n"
    return text


def _courses() -> str:
    text = "| course | steps |\n|---|---|\n"
    for kind in CourseKind:
        final = False
        steps: list[str] = []
        for step in STEPS[kind]:
            final = final or step in IRREVERSIBLE
            steps.append(f"**{step.value}**" if final else step.value)
        text += f"| `{kind.value}` | {' → '.join(steps)} |\n"
    return text


def _steps() -> str:
    text = "| step | what it does |\n|---|---|\n"
    for step in Step:
        words = STEP_WORDS[step]
        if step in CHECKED:
            words += "; first it is looked once more at what runs"
        text += f"| {step.value} | {words} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(render())
