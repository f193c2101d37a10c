"""What a round gives to a team that is in it, and what is wrong with rounds by themselves. Pure.

A contest's rounds stand once, in its group; a team's group says only which one it is in. So the
change to the next round, for all teams, is one small write a team.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..models import ContestProperties, Image, Profile, RoundProperties, TeamProperties
from .problems import FieldProblem, one_of, to_found

_NONE = RoundProperties()


def round_of(team: TeamProperties, contest: ContestProperties) -> RoundProperties:
    """The round that a team is in; one that gives nothing where there is none of that number."""
    return contest.rounds[team.round - 1] if 0 < team.round <= len(contest.rounds) else _NONE


def tier_of(team: TeamProperties, contest: ContestProperties) -> str:
    """Name of the team's tier: the round's, or its own."""
    return round_of(team, contest).tier or team.tier


def images_in(contest: ContestProperties, of_round: RoundProperties) -> dict[str, Image]:
    """What may be started, the default first. The images must exist."""
    if of_round.images is None:
        return contest.images
    return {key: contest.images[key] for key in of_round.images}


def profiles_in(profiles: Mapping[str, Profile], of_round: RoundProperties) -> dict[str, Profile]:
    """The sizes of servers in a round: without those of which no image may be started in it."""
    if of_round.images is None:
        return dict(profiles)
    found: dict[str, Profile] = {}
    for key, profile in profiles.items():
        if profile.images is None:
            found[key] = profile
            continue
        left = tuple(image for image in profile.images if image in of_round.images)
        if left:
            found[key] = profile.model_copy(update={"images": left})
    return found


def check_round(team: TeamProperties, contest: ContestProperties) -> list[FieldProblem]:
    """A round that its contest does not have."""
    last = len(contest.rounds)
    if team.round <= last:
        return []
    expected = f"at most {last}, the number of its contest's rounds"
    return [FieldProblem(("round",), str(team.round), expected)]


def check_rounds(contest: ContestProperties) -> list[FieldProblem]:
    """Rounds that name what their contest does not have, or in which nothing can be started."""
    problems: list[FieldProblem] = []
    for i, part in enumerate(contest.rounds):
        if part.tier is not None and part.tier not in contest.tiers:
            expected = one_of(part.tier, contest.tiers)
            problems.append(FieldProblem(("rounds", i, "tier"), to_found(part.tier), expected))
        for word, named, known in (
            ("images", part.images or (), contest.images),
            ("datasets", part.datasets, contest.datasets),
        ):
            for j, name in enumerate(named):
                path = ("rounds", i, word, j)
                if name not in known:
                    problems.append(FieldProblem(path, to_found(name), one_of(name, known)))
                elif name in named[:j]:
                    problems.append(FieldProblem(path, f"{to_found(name)} again", "each once"))
        known_images = [image for image in part.images or () if image in contest.images]
        if known_images and not profiles_in(contest.profiles, part):
            expected = "at least one that some profile can be combined with"
            found = ", ".join(known_images)
            problems.append(FieldProblem(("rounds", i, "images"), found, expected))
    return problems
