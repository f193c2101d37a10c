"""Who may do what with contests and teams: the whole table, and what roles are relative to."""

from __future__ import annotations

import pytest

from jupyterhub_collab.policy.contest_access import (
    RIGHTS,
    Asker,
    Right,
    Role,
    may,
    roles_of,
    what_it_takes,
)

ASKERS = {
    "admin": Asker("root", is_admin=True),
    "manager": Asker("service:cli", is_person=False, may_manage=True),
    "admin's program": Asker("service:root", is_person=False, is_admin=True),
    "portal": Asker("service:portal", is_person=False, may_register=True),
    "service": Asker("service:other", is_person=False),
    "host": Asker("hanna", hosts=frozenset({"reef"})),
    "judge": Asker("jo", judges=frozenset({"reef"})),
    "captain": Asker("carl", teams={"ocean": "reef"}, leads=frozenset({"ocean"})),
    "member": Asker("mia", teams={"ocean": "reef"}),
    "host elsewhere": Asker("olga", hosts=frozenset({"forest"})),
    "captain elsewhere": Asker("cat", teams={"oak": "forest"}, leads=frozenset({"oak"})),
    "captain beside": Asker("ben", teams={"ice": "reef"}, leads=frozenset({"ice"})),
    "stranger": Asker("sam"),
}
RUNS = {"admin", "manager", "admin's program", "host"}
IN_IT = {"captain", "member", "captain beside"}
OF_CONTEST = {
    Right.SEE_CONTEST: RUNS | IN_IT | {"judge", "portal"},
    Right.SEE_TEAMS: RUNS | {"judge", "portal"},
    Right.RANK: RUNS | {"judge"},
    Right.HOST: RUNS,
    Right.APPROVE: {"admin", "host"},
    Right.CREATE: RUNS,
    Right.REGISTER: RUNS | IN_IT | {"portal"},
    Right.ENTER: IN_IT | {"portal", "manager", "admin's program"},
    Right.ENTER_OTHERS: {"portal", "manager", "admin's program"},
    Right.REBUILD: {"admin", "manager", "admin's program"},
    Right.MEASURE: {"admin"},
}
OF_TEAM = {
    Right.SEE_TEAM: RUNS | {"judge", "portal", "captain", "member"},
    Right.LEAD: RUNS | {"portal", "captain"},
    Right.ADD: RUNS | {"portal"},
    Right.LEAVE: {"captain", "member"},
}


@pytest.mark.parametrize("right", list(OF_CONTEST))
def test_rights_in_a_contest(right: Right) -> None:
    assert {n for n, who in ASKERS.items() if may(who, right, contest="reef")} == OF_CONTEST[right]


@pytest.mark.parametrize("right", list(OF_TEAM))
def test_rights_in_a_team(right: Right) -> None:
    found = {n for n, who in ASKERS.items() if may(who, right, contest="reef", team="ocean")}
    assert found == OF_TEAM[right]


def test_every_right_is_in_a_table() -> None:
    assert set(OF_CONTEST) | set(OF_TEAM) == set(Right) == set(RIGHTS)


def test_while_registration_is_open_everybody_may_see_and_enter_and_no_more() -> None:
    sam = ASKERS["stranger"]
    found = {right for right in Right if may(sam, right, contest="reef", is_open=True)}
    assert found == {Right.SEE_CONTEST, Right.REGISTER, Right.ENTER}
    other = ASKERS["service"]
    assert not any(may(other, right, contest="reef", is_open=True) for right in Right)


def test_a_team_that_moved_to_another_contest_counts_there() -> None:
    """A contest that is named wrongly gives nobody a role in the team."""
    carl = ASKERS["captain"]
    assert roles_of(carl, contest="forest", team="ocean") == {Role.STRANGER}


def test_a_program_never_has_a_person_s_roles() -> None:
    program = Asker("service:x", is_person=False, hosts=frozenset({"reef"}), teams={"a": "reef"})
    assert roles_of(program, contest="reef") == {Role.SERVICE}


def test_what_it_takes_names_who() -> None:
    assert what_it_takes(Right.RANK).endswith(
        "admin of the hub, or program with the scope custom:collab:contests:manage, or host of the"
        " contest, or judge of the contest."
    )
