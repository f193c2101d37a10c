"""From changed rows of the hub's database to what happened: users, roles, groups, tokens, shares.

Each function gets a row and says what its being new, changed or deleted means. Values of tokens and
codes, notes and options that people typed are never told. It asks the database for no more than the
names of what a row points to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jupyterhub import orm
from sqlalchemy import inspect

from ... import names
from ...constants import PROPERTIES_KEY
from ...models.audit import Verb
from ...policy.dataset_grants import (
    GrantChange,
    change_of_contest,
    change_of_team,
    contest_named,
)
from ...policy.spec import is_team_group
from .telling import Happening

SERVER_NOTE: Final = "Server at "  # how JupyterHub notes a server's own token
_OWN_CLIENT: Final = "jupyterhub"  # whose tokens are made for programs
_STATE: Final = "collab"  # our corner of a server's state


def of_new(row: Any, session: Any) -> list[Happening]:
    """What a new row means."""
    if isinstance(row, orm.User):
        made = Happening(Verb.USER_CHANGE, reason="created", subject=row.name)
        admin = [_admin(row)] if row.admin else []
        return [made, *admin, *_memberships(row, session), *_roles(row)]
    if isinstance(row, orm.Group):
        groups = _group(row, "created", None, row.properties, session)
        return [*groups, *_members(row), *_roles(row)]
    if isinstance(row, orm.APIToken):
        return [_token(row, Verb.TOKEN_CREATE, "")]
    if isinstance(row, orm.Share):
        return [_share(row, Verb.SHARE_CREATE, "")]
    if isinstance(row, orm.ShareCode):
        return [_share(row, Verb.SHARE_CREATE, "code")]
    if isinstance(row, orm.OAuthCode):
        return _visit(row)
    if isinstance(row, orm.Role):
        return [_role(row, "created"), *_holders(row)]
    return _roles(row) if isinstance(row, orm.Service) else []


def of_changed(row: Any, session: Any) -> list[Happening]:
    """What a changed row means; nothing, for most changes."""
    if isinstance(row, orm.User):
        return [*_user(row), *_memberships(row, session), *_roles(row)]
    if isinstance(row, orm.Group):
        old, is_changed = _before(row, "properties")
        said = _group(row, "changed", old, row.properties, session) if is_changed else []
        return [*said, *_members(row), *_roles(row)]
    if isinstance(row, orm.Service):
        return _roles(row)
    if isinstance(row, orm.APIToken):
        _, is_changed = _before(row, "scopes")
        return [_token(row, Verb.TOKEN_CREATE, "scopes-changed")] if is_changed else []
    if isinstance(row, orm.Share):
        old, is_changed = _before(row, "_scopes")
        if not is_changed:
            return []
        has_more = bool(set(row._scopes or ()) - set(old or ()))
        verb = Verb.SHARE_CREATE if has_more else Verb.SHARE_DELETE
        return [_share(row, verb, "scopes-changed")]
    if isinstance(row, orm.ShareCode):
        _, is_changed = _before(row, "exchange_count")
        return [_share(row, Verb.SHARE_CREATE, "code-accepted")] if is_changed else []
    if isinstance(row, orm.Role):
        _, is_changed = _before(row, "scopes")
        return [*([_role(row, "changed")] if is_changed else []), *_holders(row)]
    return []


def of_deleted(row: Any, session: Any) -> list[Happening]:
    """What it means that a row goes. Asked before it does."""
    if isinstance(row, orm.User):
        lost = [_membership(row.name, group, "lost") for group in row.groups]
        return [*lost, Happening(Verb.USER_CHANGE, reason="deleted", subject=row.name)]
    if isinstance(row, orm.Group):
        lost = [_membership(user.name, row, "lost") for user in row.users]
        return [*lost, *_group(row, "deleted", row.properties, None, session)]
    if isinstance(row, orm.APIToken):
        return [_token(row, Verb.TOKEN_DELETE, "expired" if row.expired else "")]
    if isinstance(row, orm.Share):
        return [_share(row, Verb.SHARE_DELETE, "expired" if row.expired else "")]
    if isinstance(row, orm.ShareCode):
        return [_share(row, Verb.SHARE_DELETE, "code-expired" if row.expired else "code")]
    if isinstance(row, orm.Role):
        return [_role(row, "deleted")]
    return []


# -- users, memberships, roles ------------------------------------------------------------------


def _user(row: orm.User) -> list[Happening]:
    found = []
    old_name, is_renamed = _before(row, "name")
    if is_renamed and old_name:
        note = f"was {old_name}"
        found.append(Happening(Verb.USER_CHANGE, reason="renamed", subject=row.name, note=note))
    old_admin, is_changed = _before(row, "admin")
    if is_changed and bool(old_admin) != bool(row.admin):
        found.append(_admin(row))
    _, is_changed = _before(row, "cookie_id")
    if is_changed:
        found.append(Happening(Verb.LOGOUT, reason="all-sessions", subject=row.name))
    return found


def _admin(row: orm.User) -> Happening:
    """The flag, which the role of that name follows: that is told as what it is."""
    reason, details = "gained" if row.admin else "lost", {"role": "admin-flag"}
    return Happening(Verb.ROLE_CHANGE, reason=reason, subject=row.name, details=details)


def _memberships(row: orm.User, session: Any) -> list[Happening]:
    gained, lost = _difference(row, "groups")
    found = [_membership(row.name, group, "gained") for group in gained]
    return found + [_membership(row.name, group, "lost") for group in lost]


def _members(row: orm.Group) -> list[Happening]:
    gained, lost = _difference(row, "users")
    found = [_membership(user.name, row, "gained") for user in gained]
    return found + [_membership(user.name, row, "lost") for user in lost]


def _membership(user: str, group: orm.Group, reason: str) -> Happening:
    team, contest = team_of(group)
    return Happening(
        Verb.ACCESS_CHANGE,
        reason=reason,
        team=team,
        contest=contest,
        subject=user,
        details={"group": None if team else group.name},
    )


def _roles(row: Any) -> list[Happening]:
    """Roles of the hub that a user, service or group gained or lost."""
    gained, lost = _difference(row, "roles")
    found = [_holding(row, role, "gained") for role in gained]
    return found + [_holding(row, role, "lost") for role in lost]


def _holders(row: orm.Role) -> list[Happening]:
    found = []
    for attribute in ("users", "services", "groups"):
        gained, lost = _difference(row, attribute)
        found += [_holding(holder, row, "gained") for holder in gained]
        found += [_holding(holder, row, "lost") for holder in lost]
    return found


def _holding(holder: Any, role: orm.Role, reason: str) -> Happening:
    is_group = isinstance(holder, orm.Group)
    details = {"role": role.name, "group": holder.name if is_group else None}
    name = "" if is_group else holder.name
    return Happening(Verb.ROLE_CHANGE, reason=reason, subject=name, details=details)


def _role(row: orm.Role, reason: str) -> Happening:
    details = {"role": row.name, "scopes": to_scopes(row.scopes)}
    return Happening(Verb.ROLE_CHANGE, reason=f"role-{reason}", details=details)


# -- groups -------------------------------------------------------------------------------------


def _group(
    row: orm.Group,
    reason: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    session: Any,
) -> list[Happening]:
    contest = names.contest_of_group(row.name)
    team, team_contest = team_of(row) if contest is None else ("", "")
    details: dict[str, Any] = {"group": None if team else row.name}
    details |= to_difference(before, after)
    said = Happening(
        Verb.GROUP_CHANGE if contest is None else Verb.CONTEST_CHANGE,
        reason=reason,
        contest=contest or team_contest,
        team=team,
        details=details,
    )
    return [said, *_grants(row.name, before, after, session)]


def to_difference(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Which fields of a group's properties changed; of the gate, how. No values but that."""
    old, new = _corner(before), _corner(after)
    fields = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    others = {*(before or {}), *(after or {})} - {PROPERTIES_KEY}
    changed = [k for k in sorted(others) if (before or {}).get(k) != (after or {}).get(k)]
    found: dict[str, Any] = {"fields": tuple(fields), "other_fields": tuple(changed)}
    for key in ("gate", "retention", "tier"):
        if key in fields:
            found[key] = str(new.get(key) or "")
            found[f"{key}_before"] = str(old.get(key) or "")
    if isinstance(new.get("generation"), int):
        found["generation"] = new["generation"]
    return {key: value for key, value in found.items() if value not in ((), "")}


def _grants(
    group: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, session: Any
) -> list[Happening]:
    def read(contest: str) -> Mapping[str, Any]:
        found = orm.Group.find(session, names.contest_group(contest))
        return {} if found is None else found.properties or {}

    return to_grants(grant_changes(group, before, after, read))


def grant_changes(
    group: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, read: Any
) -> tuple[GrantChange, ...]:
    """What a change of this group's properties grants and revokes.

    Parameters
    ----------
    read
        Gives the properties of a contest's group.
    """
    contest = names.contest_of_group(group)
    if contest is not None:
        return change_of_contest(contest, before, after)
    if not names.is_team_id(group):
        return ()
    named = {contest_named(before), contest_named(after)} - {""}
    return change_of_team(group, before, after, {key: read(key) for key in named})


def to_grants(changes: Iterable[GrantChange]) -> list[Happening]:
    """A grant and a revocation each, where there are any."""
    found = []
    for change in changes:
        for verb, keys in (
            (Verb.DATASET_GRANT, change.granted),
            (Verb.DATASET_REVOKE, change.revoked),
        ):
            if keys:
                is_everybody = not change.team and not change.round
                details = {"every_team": is_everybody or None, "round": change.round or None}
                found.append(
                    Happening(
                        verb,
                        contest=change.contest,
                        team=change.team,
                        datasets=tuple(sorted(keys)),
                        details=details,
                    )
                )
    return found


def team_of(group: orm.Group) -> tuple[str, str]:
    """Team and contest of a hub group; empty: it is none's."""
    properties = group.properties or {}
    if not is_team_group(group.name, properties):
        return "", names.contest_of_group(group.name) or ""
    return group.name, contest_named(properties)


# -- tokens, shares, visits ---------------------------------------------------------------------


def _token(row: orm.APIToken, verb: Verb, reason: str) -> Happening:
    server = row.oauth_client.spawner if row.oauth_client is not None else None
    if (row.note or "").startswith(SERVER_NOTE):
        kind = "server"
    elif server is not None:
        kind = "visit"
    else:
        kind = "program" if row.client_id == _OWN_CLIENT else "service"
    team, contest, thing = place_of(server) if server is not None else ("", "", "")
    owner = row.user or row.service
    expires = row.expires_at
    return Happening(
        verb,
        reason=reason,
        team=team,
        contest=contest,
        thing=row.api_id,
        subject=owner.name if owner is not None else "",
        details={
            "kind": kind,
            "server": thing,
            "scopes": to_scopes(row.scopes),
            "expires": expires.isoformat(timespec="seconds") if expires is not None else None,
        },
    )


def to_scopes(scopes: Iterable[str] | None) -> tuple[str, ...]:
    """Scopes without their filters: those name people."""
    return tuple(sorted({scope.partition("!")[0] for scope in scopes or ()}))


def _share(row: Any, verb: Verb, reason: str) -> Happening:
    team, contest, thing = place_of(row.spawner)
    is_code = isinstance(row, orm.ShareCode)
    user, group = getattr(row, "user", None), getattr(row, "group", None)
    expires = row.expires_at
    return Happening(
        verb,
        reason=reason,
        team=team,
        contest=contest,
        thing=thing,
        subject=row.owner.name if row.owner is not None else "",
        recipient=user.name if user is not None else "",
        details={
            "share": f"{'code' if is_code else 'share'}-{row.id}" if row.id else None,
            "group": group.name if group is not None else None,
            "scopes": to_scopes(row._scopes),
            "expires": expires.isoformat(timespec="seconds") if expires is not None else None,
        },
        note=_server_note(row.spawner),
    )


def _visit(row: orm.OAuthCode) -> list[Happening]:
    """Somebody is let into a server: told where it is another's."""
    server = row.client.spawner if row.client is not None else None
    if server is None or server.user is None or row.user is None or server.user is row.user:
        return []
    return [visit(server, by_share=is_shared(server, row.user))]


def visit(server: orm.Spawner, *, by_share: bool) -> Happening:
    """Whoever asks is let into this server of somebody else."""
    team, contest, thing = place_of(server)
    return Happening(
        Verb.IMPERSONATE,
        reason="shared" if by_share else "admin-access",
        team=team,
        contest=contest,
        thing=thing,
        subject=server.user.name,
        note=_server_note(server),
    )


def is_shared(server: orm.Spawner, user: orm.User) -> bool:
    """Whether a server is shared with somebody, or with a group of theirs."""
    return any(share.spawner_id == server.id for share in user.all_shared_with_me)


def place_of(server: orm.Spawner | None) -> tuple[str, str, str]:
    """Team, contest and id of a server (its row): the running one's id, or its place's."""
    if server is None:
        return "", "", ""
    state = server.state if isinstance(server.state, Mapping) else {}
    known = state.get(_STATE)
    known = known if isinstance(known, Mapping) else {}
    options = server.user_options if isinstance(server.user_options, Mapping) else {}
    team = known.get("team") or options.get("team") or ""
    thing = known.get("server_id") or (f"spawner-{server.id}" if server.id else "")
    return str(team), str(known.get("contest") or ""), str(thing)


def _server_note(server: orm.Spawner | None) -> str:
    return f"server {server.name!r}" if server is not None and server.name else ""


# -- what changed -------------------------------------------------------------------------------


def _before(row: Any, attribute: str) -> tuple[Any, bool]:
    """A column's value before, and whether it is another now."""
    history = getattr(inspect(row).attrs, attribute).history
    if not history.has_changes():
        return None, False
    old = history.deleted[0] if history.deleted else None
    return old, old != getattr(row, attribute)


def _difference(row: Any, attribute: str) -> tuple[list[Any], list[Any]]:
    history = getattr(inspect(row).attrs, attribute).history
    return list(history.added or ()), list(history.deleted or ())


def _corner(properties: Mapping[str, Any] | None) -> Mapping[str, Any]:
    corner = (properties or {}).get(PROPERTIES_KEY)
    return corner if isinstance(corner, Mapping) else {}
