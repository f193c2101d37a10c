"""What a member may start: options read strictly, then matched with the team's spec.

Options come from a form, from query parameters, from REST and from the hub's database, so nothing
of them is believed: every key must be known, every value must be a whole id of the spec. What is
wrong is said in one sentence, for the person who asked (`UserError`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .. import names, units
from ..errors import UserError
from ..models import Gate, Profile, TeamSpec
from .problems import to_found

OPTION_NAMES = ("team", "image", "profile")


@dataclass(frozen=True)
class ServerChoice:
    """What is to be started: ids, each of them in the team's spec."""

    team: str
    image_id: str
    profile_id: str


def to_options(raw: object) -> dict[str, str]:
    """Options as a mapping of known names to ids; what is left out or empty is not in it.

    Raises
    ------
    UserError
        Not a mapping, an unknown option, a value that is not text or could not be an id.
    """
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise UserError(f"The options of a server must be a mapping, not {to_found(raw)}.")
    options: dict[str, str] = {}
    for key, value in raw.items():
        if key not in OPTION_NAMES:
            raise UserError(
                f"There is no option {to_found(key)}. The options are {_list(OPTION_NAMES)}."
            )
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise UserError(f"The option {key} must be text, not {to_found(value)}.")
        if not names.is_team_id(value):
            raise UserError(f"The {key} {to_found(value)} does not exist.")
        options[key] = value
    return options


def choose_team(options: Mapping[str, str], teams: Sequence[str]) -> str:
    """Team that the server is for: the one asked for, or the only one.

    Parameters
    ----------
    teams
        Those that the person is a member of at this moment.

    Raises
    ------
    UserError
        In no team, in several without a choice, or not a member of the chosen one.
    """
    asked = options.get("team")
    if asked is not None:
        if asked not in teams:
            # The same words whether or not there is such a team: others' teams are not told.
            raise UserError(f"You are not a member of a team {to_found(asked)}.")
        return asked
    if not teams:
        raise UserError("You are not in a team yet. Ask the host of your contest to add you.")
    if len(teams) > 1:
        raise UserError(f"You are in several teams: choose {_list(sorted(teams), word='or')}.")
    return teams[0]


def choose_server(spec: TeamSpec, options: Mapping[str, str]) -> ServerChoice:
    """Image and profile of the spec that the options name, the first that fit where they do not.

    Raises
    ------
    UserError
        The gate is closed, no such image or profile, they do not go together, or the profile is
        larger than all that the team may use.
    """
    if spec.gate is Gate.CLOSED:
        raise UserError(f"Team {spec.team} is closed: it cannot start servers at the moment.")
    image_id, profile_id = options.get("image"), options.get("profile")
    _check_known("image", image_id, spec.images, spec.team)
    _check_known("profile", profile_id, spec.profiles, spec.team)
    profiles = [profile_id] if profile_id else list(spec.profiles)
    images = [image_id] if image_id else list(spec.images)
    pairs = [(i, p) for p in profiles for i in images if is_combinable(spec, i, p)]
    if not pairs:
        raise UserError(
            f"The profile {profile_id} cannot be combined with the image {image_id}."
            f" It goes with {_list(images_of(spec, profile_id or ''), word='or')}."
            if profile_id and image_id
            else f"Team {spec.team} has no profile for the image {image_id}."
        )
    fitting = [p for p in pairs if profile_refusal(spec, spec.profiles[p[1]]) is None]
    if not fitting:
        raise UserError(profile_refusal(spec, spec.profiles[pairs[0][1]]) or "")
    return ServerChoice(team=spec.team, image_id=fitting[0][0], profile_id=fitting[0][1])


def images_of(spec: TeamSpec, profile_id: str) -> tuple[str, ...]:
    """Images that a profile can be combined with, in the spec's order."""
    allowed = spec.profiles[profile_id].images
    return tuple(i for i in spec.images if allowed is None or i in allowed)


def is_combinable(spec: TeamSpec, image_id: str, profile_id: str) -> bool:
    """Whether a profile goes with an image. Both must be in the spec."""
    return image_id in images_of(spec, profile_id)


def profile_refusal(spec: TeamSpec, profile: Profile) -> str | None:
    """Why a profile can never start in this team, in one sentence; None when it can."""
    tier = spec.tier
    cpus, size = units.human_cpus, units.human_bytes
    pairs: list[tuple[int, int, Callable[[int], str], Callable[[str], str]]] = [
        (profile.cpu_millicores, tier.cpu_millicores, cpus, _counted("CPU")),
        (profile.memory_bytes, tier.memory_bytes, size, "{} of memory".format),
        (profile.gpu_count, tier.gpu_count, str, _counted("GPU")),
        (
            profile.ephemeral_storage_bytes,
            tier.ephemeral_storage_bytes,
            size,
            "{} of scratch space".format,
        ),
    ]
    for needed, limit, to_text, to_words in pairs:
        if needed > limit:
            return (
                f"The profile {profile.title} needs {to_words(to_text(needed))}, and team"
                f" {spec.team} may use {to_text(limit)} in all. Choose a smaller one or ask for a"
                " larger tier."
            )
    return None


def _counted(noun: str) -> Callable[[str], str]:
    return lambda number: units.human_count(number, noun)


def server_limit_refusal(spec: TeamSpec, running: Sequence[str]) -> str | None:
    """Why a member may not start one more server in this team; None when they may.

    Parameters
    ----------
    running
        Names of the member's servers in this team that run or start; "" is the default server.
    """
    limit = spec.tier.servers_per_member
    if len(running) < limit:
        return None
    if limit == 0:
        return f"Members of team {spec.team} may not start servers."
    which = _list([f'"{name}"' if name else "your default server" for name in sorted(running)])
    word = "one server" if limit == 1 else f"{limit} servers"
    return (
        f"Members of team {spec.team} may run {word} at a time, and {which} of yours"
        f" {'runs' if len(running) == 1 else 'run'} already. Stop one first."
    ).replace("your default server of yours", "your default server")


def _check_known(word: str, found: str | None, known: Iterable[str], team: str) -> None:
    known = list(known)
    if found is not None and found not in known:
        raise UserError(f"Team {team} has no {word} {to_found(found)}. It has {_list(known)}.")


def _list(words: Iterable[str], *, word: str = "and") -> str:
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {word} {words[-1]}"
