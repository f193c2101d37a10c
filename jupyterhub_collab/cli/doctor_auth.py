"""`jupyterhub-collab doctor auth`: do the sources of people answer, and what would somebody get.

What: reads the hub's configuration, makes its authenticator without a hub, and has each source try
itself out (`TeamAuthenticator.check`); a line each. Rules, rosters and names that are taken are
read from the hub's database. It must not: change anything, or show a password.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from jupyterhub.app import JupyterHub
from rich.console import Console
from rich.markup import escape
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from traitlets import TraitError

from ..errors import CollabError, UserError
from ..hub.auth.admission import RulesFile
from ..hub.auth.registry import HubRegistry
from ..hub.auth.team_authenticator import TeamAuthenticator
from ..managers.membership import join
from ..models import Facts
from ..models.entitlement import EntitlementRules, Entitlements
from ..policy.entitlements import decide, explain
from ..policy.roster import find_by_roster, fold_email, invitations_to
from ..storage.database import DatabaseError
from ..storage.identities import Identities
from ..storage.invitations import Invitations
from .doctor import Finding, Verdict

_VERDICTS = {True: Verdict.GOOD, False: Verdict.BAD, None: Verdict.NOTE}


def register(app: typer.Typer) -> None:
    """Add the command to `doctor`."""
    app.command("auth")(doctor_auth)


def doctor_auth(
    config: Annotated[Path, typer.Option(help="The hub's configuration file.")] = Path(
        "jupyterhub_config.py"
    ),
    user: Annotated[
        str | None, typer.Option(help="Somebody, as they type their name: what would they get?")
    ] = None,
) -> None:
    """Check how people log in: servers, certificates, accounts, groups, rules. Exit code 1 when
    something is wrong. Call it in the folder in which the hub runs."""
    console = Console(highlight=False, soft_wrap=True)
    hub, authenticator = _load(config)
    found = asyncio.run(_check(hub, authenticator, user))
    for finding in found:
        console.print(f"{finding.verdict.value} {escape(finding.text)}")
    if any(finding.verdict is Verdict.BAD for finding in found):
        raise typer.Exit(1)


def _load(config: Path) -> tuple[JupyterHub, TeamAuthenticator]:
    """The hub's application, configured and not started, and its authenticator."""
    if not config.is_file():
        raise UserError(f"{config} is not there; say where the hub's configuration is: --config")
    hub = JupyterHub(log_level="WARN")
    hub.raise_config_file_errors = True
    try:
        hub.load_config_file(str(config.resolve()))
        kind = hub.authenticator_class
        if not issubclass(kind, TeamAuthenticator):
            raise UserError(
                f"{config} has {kind.__name__} as authenticator, which is none of ours: it gives"
                " nobody a team"
            )
        return hub, kind(parent=hub)
    except (CollabError, TraitError) as e:
        raise UserError(f"The hub would not start: {e}") from e
    except Exception as e:  # the file is a program
        raise UserError(f"{config} cannot be run: {type(e).__name__}: {e}") from e


async def _check(
    hub: JupyterHub, authenticator: TeamAuthenticator, user: str | None
) -> list[Finding]:
    found: list[Finding] = []
    try:
        rules = RulesFile(authenticator.rules_file).rules()
        found.append(_about_rules(authenticator, rules))
    except CollabError as e:
        rules = None
        found.append(Finding(Verdict.BAD, f"rules: {e}"))
    for source in authenticator.sources:
        findings = await source.check(user)
        for one in findings.found:
            text = f"{source.issuer}: {one.step}: {one.text}"
            found.append(Finding(_VERDICTS[one.is_fine], text))
        if findings.facts is not None and rules is not None:
            found += await _standing_of(hub, source, findings.facts, rules)
    return found


def _about_rules(authenticator: TeamAuthenticator, rules: EntitlementRules) -> Finding:
    sources = {source.issuer for source in authenticator.sources}
    strange = sorted({rule.issuer for rule in rules.rules} - sources)
    if strange:
        names = ", ".join(repr(name) for name in strange)
        known = ", ".join(repr(name) for name in sorted(sources))
        text = f"rules: {authenticator.rules_file} names {names}; the sources here are {known}"
        return Finding(Verdict.BAD, text)
    if not rules.rules:
        return Finding(Verdict.NOTE, "rules: none; people are what contests' rosters say")
    text = f"rules: {len(rules.rules)} in {authenticator.rules_file}"
    return Finding(Verdict.GOOD, text)


async def _standing_of(
    hub: JupyterHub, source: TeamAuthenticator, facts: Facts, rules: EntitlementRules
) -> list[Finding]:
    """What somebody would be let in as, and why."""
    name = source.normalize_username(f"{source.name_prefix}{facts.username}")
    url = str(hub.db_url)
    if not _is_there(url):
        text = f"the hub's database {_shown(url)} is not there yet, so there are no teams: {name}"
        return [Finding(Verdict.NOTE, f"{source.issuer}: {text} would get nothing")]
    found: list[Finding] = []
    engine = create_engine(url)
    try:
        own = create_engine(source.database_url) if source.database_url else engine
        try:
            known = await _known_as(own, facts, name)
            if isinstance(known, Finding):
                return [known]
            with Session(engine) as session:
                registry = HubRegistry(session)
                emails = await _invited(own, registry, facts)
                given = _decide(registry, facts, rules, name=known, emails=emails)
        finally:
            if own is not engine:
                own.dispose()
    except (CollabError, SQLAlchemyError) as e:
        what = e if isinstance(e, CollabError) else type(e).__name__
        return [Finding(Verdict.BAD, f"the hub's database {_shown(url)}: {what}")]
    finally:
        engine.dispose()
    if not given.granted:
        text = f"{known} would not be let in: no rule that holds and no roster names them"
        found.append(Finding(Verdict.BAD, text))
    found += [Finding(Verdict.GOOD, f"{known}: {granted}") for granted in given.granted]
    notes = explain(given)[len(given.granted) :]
    return found + [Finding(Verdict.NOTE, f"{known}: {note}") for note in notes]


async def _known_as(engine: Engine, facts: Facts, name: str) -> str | Finding:
    """The hub user that this identity is or would be."""
    identities = Identities(engine)
    try:
        known = await identities.name_of(facts.identity)
        others = () if known else await identities.identities_of(name)
    except DatabaseError:  # no hub with this authenticator ever ran on it
        return name
    finally:
        identities.close()
    if others:
        text = f"{name} belongs to another identity here: {others[0]}; {facts.identity} is refused"
        return Finding(Verdict.BAD, text)
    return known or name


async def _invited(engine: Engine, registry: HubRegistry, facts: Facts) -> tuple[str, ...]:
    """Addresses whose invitations this person took, or would take by logging in."""
    identity = facts.identity
    invitations = Invitations(engine)
    try:
        taken = await invitations.taken_by(identity)
        vouched = {fold_email(email) for email in facts.emails} - set(taken)
        rosters = registry.rosters_with(emails=vouched) if vouched else {}
        meant = invitations_to(rosters, issuer=identity.issuer, emails=vouched)
        free = [e for e in meant if await invitations.taker_of(identity.issuer, e) is None]
    except DatabaseError:  # no hub with this authenticator ever ran on it
        return ()
    finally:
        invitations.close()
    return (*taken, *free)


def _decide(
    registry: HubRegistry,
    facts: Facts,
    rules: EntitlementRules,
    *,
    name: str,
    emails: tuple[str, ...],
) -> Entitlements:
    identity = facts.identity
    by_rule = decide(facts, rules, exists=registry.exists)
    rosters = registry.rosters_with(name=name, subject=identity.subject, emails=emails)
    by_roster = find_by_roster(rosters, identity=identity, name=name, emails=emails)
    return join(by_rule, by_roster)


def _is_there(url: str) -> bool:
    """A file of SQLite would be made by whoever asks for it."""
    parts = make_url(url)
    if parts.get_backend_name() != "sqlite":
        return True
    return bool(parts.database) and os.path.isfile(str(parts.database))


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
