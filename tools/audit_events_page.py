"""docs/audit-events.md, from the verbs: ``python -m tools.audit_events_page``.

What stands in `ROWS` is all there is to say of a verb; a test holds it to the verbs that exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jupyterhub_collab.models.audit import PROTECTED, Verb

PAGE = Path(__file__).resolve().parent.parent / "docs" / "audit-events.md"


class Row(NamedTuple):
    """Of one verb: who emits it, when, what `thing` is, and reasons and details."""

    emitter: str
    when: str
    thing: str = ""
    more: str = ""


V = Verb
ROWS: dict[Verb, Row] = {
    V.LOGIN: Row(
        "hub",
        "somebody was let in, or was not",
        "",
        "reason: `refused`, `throttled`, `unavailable`, `misconfigured`, `bad-credentials`,"
        " `not-completed`; details: `source`; the subject has the source's issuer and key",
    ),
    V.LOGOUT: Row(
        "hub", "the log-out page; all sessions were ended", "", "reason: `all-sessions`, or none"
    ),
    V.ACCESS_CHANGE: Row(
        "hub",
        "a hub user came into or went out of a team's (or other) group; a source or roster gave or"
        " took a role (captain, judge, host, data steward) or a data set",
        "",
        "reason: `gained`, `lost`; details: `role` and `entitlement`, or `group` of no team",
    ),
    V.ROLE_CHANGE: Row(
        "hub",
        "the hub's own roles: who holds one, what one allows; the admin flag",
        "",
        "reason: `gained`, `lost`, `role-created`, `role-changed`, `role-deleted`; details: `role`"
        " (`admin-flag` is the flag), `scopes`, `group`",
    ),
    V.USER_CHANGE: Row(
        "hub",
        "a hub user",
        "",
        "reason: `created`, `renamed` (the old name in the note), `deleted`",
    ),
    V.GROUP_CHANGE: Row(
        "hub",
        "a team's group, or any other but a contest's",
        "",
        "reason: `created`, `changed`, `deleted`; details: `fields` that changed, `gate`, `tier`,"
        " `retention` with what they were `_before`, `generation`",
    ),
    V.CONTEST_CHANGE: Row(
        "hub, contests",
        "a contest's group (hub); what somebody did with a contest or a team, and what the worker"
        " does on the way: `allowed` before anything final, which is not done without",
        "",
        "of the hub as `group.change`; of each transition reason: `transition`, details: `before`,"
        " `after`, `operation`, `transition` (its number: one that is told twice has the same); of"
        " the worker reason: `release`, `forget`, details: `course`, `step`, `operation`",
    ),
    V.TOKEN_CREATE: Row(
        "hub",
        "a token was made",
        "the token's id, as in the REST API; never its value, nor its note",
        "details: `kind` (`program`: made by somebody; `server`: a server's own; `visit`: a browser"
        " at a server; `service`: a browser at a service), `server`, `scopes` without whom they are"
        " limited to, `expires`",
    ),
    V.TOKEN_DELETE: Row("hub", "a token was deleted, or expired", "as above", "reason: `expired`"),
    V.SHARE_CREATE: Row(
        "hub",
        "a server was shared, a code for it made or accepted",
        "the server",
        "reason: `code`, `code-accepted`, `scopes-changed`; details: `share`, `group`, `scopes`,"
        " `expires`",
    ),
    V.SHARE_DELETE: Row(
        "hub",
        "a share or code was taken back",
        "the server",
        "reason: `code`, `expired`, `code-expired`, `scopes-changed`",
    ),
    V.IMPERSONATE: Row(
        "hub",
        "somebody (actor) is let into the server of somebody else (subject), or is refused",
        "the server",
        "reason: `shared`, `admin-access`, `no-access`",
    ),
    V.SERVER_START: Row(
        "hub",
        "`allowed` before anything is made; then `succeeded`, `refused` or `failed`",
        "one start of a server: the id of its credential, and on its pod",
        "`datasets` that it mounts; reason: why not, or `adopted`; details: `image`,"
        " `image_digest`, `environment`, `profile`, `gate`, `team_volume`, `namespace`,"
        " `protected` (which of the data sets are)",
    ),
    V.SERVER_STOP: Row(
        "hub",
        "a server is stopped, or was found to have ended",
        "as above",
        "reason: `asked`, `asked-by-other`, `asked-by-service`, `culled`, `access-lost`, `closed`,"
        " `frozen`, `access-unconfirmed`, `no-answer`, `out-of-memory`, `evicted`, `disrupted`,"
        " `node-lost`, `given-up`, `removed`, `failed`, `ended`, `hub`",
    ),
    V.TENANCY_CREATE: Row(
        "provisioner",
        "a pass that made a team's namespace, or finished it (`quota-pending` before)",
        "the namespace",
        "details: `objects` written, `spec_hash`, `spec_hash_before`",
    ),
    V.TENANCY_CHANGE: Row(
        "provisioner",
        "a pass after the team's settings changed; `refused`: nothing can be made of them",
        "the namespace",
        "as above; reason and `conditions` of a refusal",
    ),
    V.TENANCY_DRIFT: Row(
        "provisioner",
        "a pass that put something back as it should be",
        "the namespace",
        "as above; both hashes are the same",
    ),
    V.TENANCY_DELETE: Row(
        "provisioner",
        "a pass on the way down; `refused`: not released by the cluster's administrator",
        "the namespace",
        "as above",
    ),
    V.EGRESS_CONNECT: Row("nobody yet", "the egress proxy", "host and port"),
    V.DATASET_READ: Row("nobody yet", "the data gateway"),
    V.DATASET_GRANT: Row(
        "hub",
        "`allowed` before a group's properties that grant data sets are written, `succeeded` once"
        " they are",
        "",
        "`datasets`; details: `every_team` (of the contest), `round` (only of its teams)",
    ),
    V.DATASET_REVOKE: Row("hub", "they are granted no more", "", "as above"),
    V.AIRLOCK_REQUEST: Row("nobody yet", "somebody asks to take results out"),
    V.AIRLOCK_DECIDE: Row("nobody yet", "a data steward decides"),
    V.JOB_SUBMIT: Row("nobody yet", "a batch job"),
    V.JOB_END: Row("nobody yet", "its end"),
    V.CONFIGURATION_LOAD: Row(
        "hub, provisioner, contests",
        "at their start",
        "which of them",
        "details: versions, authenticator, spawner, sources, lifetimes, and SHA-256 of the files:"
        " `configuration_sha256`, `platform_sha256`, `rules_sha256`",
    ),
    V.HUB_STOP: Row("hub", "an orderly end", "", "reason: `stopped`"),
    V.AUDIT_READ: Row("audit service", "somebody queried the log"),
    V.AUDIT_EXPORT: Row("audit service", "somebody exported from it"),
    V.AUDIT_ERASE: Row("audit service", "a person's data was erased"),
    V.AUDIT_RETIRE: Row("audit service", "the oldest events were deleted by policy"),
    V.AUDIT_GAP: Row("audit service", "an emitter's events are missing"),
    V.AUDIT_REJECT: Row("audit service", "an emitter sent what is no event, or not its to tell"),
    V.AUDIT_START: Row("audit service", "it started"),
}
HEAD = """\
# What the audit log is told

*The table is generated from `tools/audit_events_page.py`: `python tools/generate_docs.py`.*

An event says what was done (verb), how it ended (outcome) and why (reason), to which team's and
contest's thing, and about whom. What is personal stands in three parts alone: the **subject** whom
it is about, the **actor** who did it if that is somebody else, the **recipient** whom something was
given. No actor and a `cause` in the details: the hub did it of its own accord (`refresh`: a source
said so; `roster`; `access-lost`; `sessions-ended`; `login`). People have the roles that they had
then, the address that the proxy saw, and the browser.

Its form is [a JSON Schema](schema/audit-event-v1.schema.json), whose version stands in each event.

All events of one request or start have one **correlation id**, in hub and provisioner. It is on the
server's pod (annotation `jupyterhub-collab.org/correlation`). The hub makes it, or takes it from a
service's request: `X-Collab-Correlation`, `X-Request-Id` or `traceparent`; a browser's is never
taken over.

A changed row is told once it is committed, whoever changed it and through whichever door: REST API,
admin page, authenticator, hook, configuration file. **Bold** verbs are protected: nothing happens
unless the log has the event first. So is `server.start` where `protected` names data sets.

| verb | told by | when | thing | reasons, details |
|---|---|---|---|---|
"""
TAIL = """
## What is not seen

- A visit to somebody else's server by an API token instead of a browser. The hub is asked whose
  token it is, and is not told for which server. A browser's first visit always passes the hub; it
  then holds for the length of its session.
- What a process reads from a mounted data set.
- What JupyterHub refuses before a start begins: too many starts at once, a log-in that has expired.
- Commands that write to the hub's database beside the hub: `jupyterhub token`, SQL by hand.
"""


def render() -> str:
    """The page."""
    return HEAD + "".join(_row(verb) for verb in Verb) + TAIL


def _row(verb: Verb) -> str:
    row = ROWS[verb]
    name = f"**`{verb.value}`**" if verb in PROTECTED else f"`{verb.value}`"
    return f"| {name} | {row.emitter} | {row.when} | {row.thing} | {row.more} |\n"


if __name__ == "__main__":
    PAGE.write_text(render())
