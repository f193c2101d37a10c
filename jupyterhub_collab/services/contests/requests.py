"""What may be sent to the contests service."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from ...managers.contest_registry import RANKED_MAX
from ...models import Document, RosterEntry
from ...models.contest_life import ActionRequest
from ...models.document import Id, Title
from ...models.roster import Member

Line = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$"),
]
"""Free text for people, on one line."""

Token = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
]
Hash = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]


class EmptyBody(Document):
    """Nothing can be said."""


class TeamBody(Document):
    """A team that registers."""

    id: Id
    title: Line | None = None
    captain: Member | None = Field(None, description="Hub user; absent: who asks, if a person.")
    members: tuple[RosterEntry, ...] = Field(
        (), max_length=1000, description="Besides the captain. People invite, they do not list."
    )


class EntryBody(Document):
    """Somebody."""

    entry: RosterEntry


class CaptainBody(Document):
    """The captain to be."""

    captain: Member


class InvitationBody(Document):
    """An invitation to be."""

    lasts_days: int = Field(7, strict=True, ge=1, le=90, alias="lastsDays")


class AcceptBody(Document):
    """An invitation that is used."""

    token: Token
    entry: RosterEntry | None = Field(None, description="Of a portal: who joins.")


class MergeBody(Document):
    """The team that all of this one join."""

    into: Id
    invitation: Token | None = Field(
        None, description="Of that team; a host or a portal needs none."
    )
    dry_run: bool = Field(
        False, strict=True, alias="dryRun", description="Only say what it would make, or why not."
    )


class AgreementBody(Document):
    """An agreement that is accepted."""

    version: Title
    entry: RosterEntry | None = Field(None, description="Of a portal: who accepts it.")


class RankingBody(Document):
    """Teams from best to worst."""

    ranking: tuple[Id, ...] = Field(max_length=RANKED_MAX)


class ActionBody(ActionRequest):
    """An action, or its dry run."""

    dry_run: bool = Field(False, strict=True, alias="dryRun")
    plan_hash: Hash | None = Field(
        None, alias="planHash", description="Of the dry run: nothing else than that is done."
    )

    def to_request(self) -> ActionRequest:
        """What is wanted."""
        own = {name: getattr(self, name) for name in ActionRequest.model_fields}
        return ActionRequest.model_construct(**own)


class RebuildBody(Document):
    """What is brought after the registry anew."""

    contest: Id | None = Field(None, description="Absent: all.")


NOTICE_MAX: Final = 2000  # characters
NoticeText = Annotated[
    str,
    StringConstraints(
        strict=True,
        strip_whitespace=True,
        min_length=1,
        max_length=NOTICE_MAX,
        pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$",
    ),
]
"""Words for people, with line breaks."""


class NoticeBody(Document):
    """A notice that a host writes."""

    text: NoticeText
    team: Id | None = Field(None, description="Absent: to all of the contest.")
    days: int = Field(14, strict=True, ge=1, le=366, description="For so long it is shown.")


CopyId = Annotated[
    str,
    StringConstraints(
        strict=True, max_length=80, pattern=r"^[a-z][a-z0-9-]*\.[0-9a-f]{16}\.[0-9]+$"
    ),
]
ClaimName = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
]


class RestoreBody(Document):
    """Which copy is brought back, and into which volume of the team."""

    archive: CopyId = Field(description="The copy's id, as in the contest's list of them.")
    volume: ClaimName | None = Field(
        None, description="The claim's name; absent: as that of which the copy is."
    )
