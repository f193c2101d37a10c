"""What leaves the log on somebody's word: `POST api/erase`, `POST api/retire`.

It takes the hub scope `SCOPE_AUDIT_MANAGE`, or an admin in a browser: a token that an admin made
for something else must not be able to destroy. With ``dryRun`` both only say what they would do.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, StringConstraints
from pydantic_core import from_json
from tornado.web import HTTPError

from ...constants import SCOPE_AUDIT_MANAGE
from ...errors import RetryableError
from ...managers.audit_retention import AuditRetention
from ...models import Document
from ...models.audit import Detail, Person, Plain
from ...policy.problems import DocumentError, to_document, to_field
from ..openapi_words import Json, answer, list_of, object_of, ref, refusals
from .handlers import Handler, Route

log = logging.getLogger(__name__)

MORE: Final = "retention"  # where in `Work.more` an `AuditRetention` is
Words = Annotated[Plain, StringConstraints(min_length=1)]
D = TypeVar("D", bound=Document)


class EraseRequest(Document):
    """Whom to erase, and why."""

    person: Words
    reason: Words
    dry_run: bool = Field(False, alias="dryRun")


class RetireRequest(Document):
    """Which of the oldest events to delete, and why."""

    older_than_days: int = Field(ge=1, le=100_000, strict=True, alias="olderThanDays")
    reason: Words
    dry_run: bool = Field(False, alias="dryRun")


class ManagingHandler(Handler):
    """Base: who may, and what was asked."""

    async def prepare(self) -> None:
        await super().prepare()
        if self._finished:
            return
        model = self.hub_model or {}
        is_token = getattr(self, "_token_authenticated", False)
        is_admin = model.get("admin") is True and not is_token
        if not (is_admin or SCOPE_AUDIT_MANAGE in model.get("scopes", ())):
            raise HTTPError(403, f"This needs the hub scope {SCOPE_AUDIT_MANAGE}.")

    @property
    def retention(self) -> AuditRetention:
        """What does it."""
        retention: AuditRetention = self.work.more[MORE]
        return retention

    @property
    def actor(self) -> Person:
        """Who asks."""
        model = self.hub_model or {}
        return Person(
            name=str(model.get("name", ""))[:1024],
            roles=("service of the hub",) if model.get("kind") == "service" else (),
            address=self.request.remote_ip or "",
        )

    def read(self, kind: type[D]) -> D | None:
        """What was asked; None once it was refused."""
        try:
            return to_document(kind, from_json(self.request.body))
        except DocumentError as error:
            problems = [
                {"field": to_field(p.path), "found": p.found, "expected": p.expected}
                for p in error.problems
            ]
            self.refuse(422, "The body is not what it should be.", problems=problems)
        except ValueError:
            self.refuse(400, "The body is not JSON.")
        return None

    def send_done(self, done: dict[str, Detail], *, is_dry: bool) -> None:
        """Answer what was done, or would be."""
        self.send({**done, "dryRun": is_dry})

    def refuse_now(self, error: RetryableError) -> None:
        """Not all may be done."""
        log.error("The audit log could not be changed: %s", error)
        self.set_header("Retry-After", "5")
        self.refuse(503, "Not all is done: the log's database does not answer. Ask again.")


class EraseHandler(ManagingHandler):
    """Erase a person."""

    async def post(self) -> None:
        asked = self.read(EraseRequest)
        if asked is None:
            return
        try:
            if asked.dry_run:
                done: dict[str, Detail] = {"events": await self.retention.count(asked.person)}
            else:
                done = await self.retention.erase(
                    asked.person, reason=asked.reason, actor=self.actor
                )
        except RetryableError as error:
            self.refuse_now(error)
        else:
            self.send_done(done, is_dry=asked.dry_run)


class RetireHandler(ManagingHandler):
    """Delete the oldest events."""

    async def post(self) -> None:
        asked = self.read(RetireRequest)
        if asked is None:
            return
        before = self.work.now() - timedelta(days=asked.older_than_days)
        try:
            until = await self.retention.find_end(before)
            if asked.dry_run or not until:
                done: dict[str, Detail] = {"until": until}
            else:
                done = await self.retention.retire(until, reason=asked.reason, actor=self.actor)
        except RetryableError as error:
            self.refuse_now(error)
        else:
            self.send_done(done, is_dry=asked.dry_run)


def managing_part() -> tuple[Json, Json]:
    """Paths and schemas for `openapi.PARTS`."""
    text: Json = {"type": "string"}
    number: Json = {"type": "integer"}
    done: dict[str, Any] = {
        "events": number,
        "parts": number,
        "until": number,
        "recorded": list_of(text),
        "overwritten": {"type": "boolean"},
        "dryRun": {"type": "boolean"},
    }
    schemas = {
        "Done": object_of(done, required=("dryRun",)),
        "EraseRequest": EraseRequest.model_json_schema(by_alias=True),
        "RetireRequest": RetireRequest.model_json_schema(by_alias=True),
    }
    words = {
        "/api/erase": ("EraseRequest", "Erase a person's data; the log can still be verified"),
        "/api/retire": ("RetireRequest", "Delete the oldest events; their hashes stay"),
    }
    paths: Json = {
        path: {
            "post": {
                "summary": summary,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": ref(name)}},
                },
                "responses": {
                    "200": answer("What was done, or would be.", ref("Done")),
                    **refusals(400, 401, 403, 422, 503),
                },
            }
        }
        for path, (name, summary) in words.items()
    }
    return paths, schemas


ROUTES: Final[list[Route]] = [("api/erase", EraseHandler), ("api/retire", RetireHandler)]
