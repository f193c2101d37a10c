"""The spawn page's form: team, image, size. And what comes back from it.

Works without scripts; where the browser knows ``:has()``, only the chosen team's fields are shown.
Names of fields: ``team``, and for each team ``image--TEAM`` and ``profile--TEAM``. Query parameters
(``opt-team=...``) and REST use plain ``team``, ``image`` and ``profile``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from .. import units
from ..errors import CollabError, SpecError, UserError
from ..models import Gate, Profile, TeamSpec
from ..policy.problems import to_found
from ..policy.spawning import OPTION_NAMES, choose_server, images_of, profile_refusal
from .teams import team_spec, teams_of, titles_of

if TYPE_CHECKING:
    from .spawner import TeamSpawner

_templates = Environment(
    loader=PackageLoader("jupyterhub_collab.hub", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Option:
    """One thing to choose. `refusal` says why it cannot be chosen."""

    id: str
    title: str
    note: str
    chosen: bool
    refusal: str | None = None


@dataclass(frozen=True)
class TeamOptions:
    """What one team offers to one person. `refusal` says why nothing can start in it.

    Titles are empty where there is none besides the id.
    """

    id: str
    title: str = ""
    contest: str = ""
    contest_title: str = ""
    chosen: bool = False
    images: tuple[Option, ...] = ()
    profiles: tuple[Option, ...] = ()
    note: str = ""
    refusal: str | None = None


async def form_of(spawner: TeamSpawner) -> str:
    """The spawn page's form."""
    last = spawner.orm_spawner.user_options if spawner.orm_spawner else None
    # It comes from the database: what is no mapping was not written by us.
    chosen = last if isinstance(last, Mapping) else {}
    return make_form(spawner.user, chosen, last_end=spawner.last_end)


def make_form(user: Any, last: Mapping[str, Any], *, last_end: str = "") -> str:
    """HTML of the form's fields for one user.

    Parameters
    ----------
    last
        What was chosen the last time; whatever of it does not hold any more is left out.
    last_end
        Why the last server ended by itself, for its owner to read.
    """
    offers = [_offer(user, team, last) for team in teams_of(user)]
    can_start = [offer.id for offer in offers if offer.refusal is None]
    asked = last.get("team")
    chosen = asked if asked in can_start else next(iter(can_start), None)
    offers = [replace(offer, chosen=offer.id == chosen) for offer in offers]
    return _templates.get_template("chooser.html").render(teams=offers, last_end=last_end)


def _offer(user: Any, team: str, last: Mapping[str, Any]) -> TeamOptions:
    try:
        spec = team_spec(user, team)
    except SpecError:
        refusal = "Its settings are not valid: the host of the contest can put it right."
        return TeamOptions(id=team, refusal=refusal)
    except CollabError as e:
        return TeamOptions(id=team, refusal=str(e))
    titles = titles_of(user, team)
    offer = TeamOptions(
        id=team, title=titles.team, contest=spec.contest, contest_title=titles.contest
    )
    asked = {k: v for k, v in last.items() if k in ("image", "profile") and isinstance(v, str)}
    choice, refusal = None, ""
    for options in (asked if last.get("team") == team else {}, {}):
        try:
            choice = choose_server(spec, options)
            break
        except UserError as e:
            refusal = str(e)
    if choice is None:
        return replace(offer, refusal=refusal)
    note = "Frozen: everything can be read, nothing changed." if spec.gate is Gate.FROZEN else ""
    return replace(
        offer,
        note=note,
        images=tuple(
            Option(key, image.title, image.description or "", key == choice.image_id)
            for key, image in spec.images.items()
        ),
        profiles=tuple(
            Option(
                key,
                profile.title,
                _size(spec, key, profile),
                key == choice.profile_id,
                profile_refusal(spec, profile),
            )
            for key, profile in spec.profiles.items()
        ),
    )


def _size(spec: TeamSpec, profile_id: str, profile: Profile) -> str:
    """``2 CPUs, 4 GiB of memory; with Basic only. Its description.``"""
    parts = [units.human_count(units.human_cpus(profile.cpu_millicores), "CPU")]
    parts.append(f"{units.human_bytes(profile.memory_bytes)} of memory")
    if profile.gpu_count:
        parts.append(units.human_count(str(profile.gpu_count), "GPU"))
    text = ", ".join(parts)
    images = images_of(spec, profile_id)
    if len(images) < len(spec.images):
        text += f"; only with {', '.join(spec.images[i].title for i in images)}"
    return f"{text}. {profile.description}" if profile.description else text


def to_raw_options(form: Mapping[str, Any]) -> dict[str, Any]:
    """User options of a form or of query parameters: values come as lists of one.

    Raises
    ------
    UserError
        A field that is not ours, a file, or one field several times.
    """
    flat: dict[str, str] = {}
    for key, values in form.items():
        if key == "_xsrf":
            continue
        if not isinstance(values, list) or len(values) != 1 or not isinstance(values[0], str):
            raise UserError(f"The field {to_found(key)} must be sent once, as text.")
        flat[key] = values[0]
    options = {key: flat.pop(key) for key in OPTION_NAMES if key in flat}
    team = options.get("team")
    for key, value in flat.items():
        word, dashes, of_team = key.partition("--")
        if word not in ("image", "profile") or not dashes:
            options[key] = value  # refused by name when the options are read
        elif of_team == team and value and word not in options:
            options[word] = value
    return options
