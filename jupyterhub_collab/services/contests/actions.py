"""Actions over HTTP: their dry run, asking for them, a second person's approval."""

from __future__ import annotations

from typing import Final

from ...models.contest_life import Operation, OperationState
from ...policy.contest_access import Right, may
from .bodies import bad_field
from .handlers import PAGE_MAX, Handler, Route
from .requests import ActionBody, EmptyBody
from .wire import operation_wire, plan_wire


class ActionsHandler(Handler):
    """What is asked for."""

    async def post(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        body = self.read_body(ActionBody)
        request = body.to_request()
        registry = self.work.registry
        if body.dry_run:
            self.send(plan_wire(await registry.plan(found.id, request)))
            return
        operation = await registry.act(
            found.id, request, by=self.asker.name, key=self.read_key(), shown=body.plan_hash
        )
        self.set_header("Location", f"{self.work.prefix}api/operations/{operation.number}")
        self.send({"operation": operation_wire(operation)}, 202)


class OperationsHandler(Handler):
    """What was asked for, the newest first."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        text = self.get_query_argument("state", "")
        words = [state.value for state in OperationState]
        if text and text not in words:
            raise bad_field("state (query)", repr(text[:60]), "one of " + ", ".join(words))
        states = (OperationState(text),) if text else ()
        limit = self.read_number("limit", 100, PAGE_MAX, least=1)
        operations = await self.work.store.operations(found.id, states=states, limit=limit)
        self.send({"operations": [operation_wire(operation) for operation in operations]})


class _OperationHandler(Handler):
    """Base: one that whoever asks may see."""

    async def find(self, number: str, right: Right) -> Operation:
        """It. Raises HTTPError."""
        found = await self.work.store.operation(int(number))
        if found is None or not may(self.asker, Right.HOST, contest=found.contest):
            self.not_there("operation", number)
        await self.require(right, found.contest)
        return found


class OperationHandler(_OperationHandler):
    """One operation."""

    async def get(self, number: str) -> None:
        self.send({"operation": operation_wire(await self.find(number, Right.HOST))})


class ApproveHandler(_OperationHandler):
    """A second person's yes."""

    async def post(self, number: str) -> None:
        found = await self.find(number, Right.APPROVE)
        self.read_body(EmptyBody)
        operation = await self.work.registry.approve(found.number, by=self.asker.name)
        self.send({"operation": operation_wire(operation)}, 202)


class DeclineHandler(_OperationHandler):
    """No."""

    async def post(self, number: str) -> None:
        found = await self.find(number, Right.HOST)
        self.read_body(EmptyBody)
        operation = await self.work.registry.decline(found.number, by=self.asker.name)
        self.send({"operation": operation_wire(operation)})


_NUMBER: Final = "([0-9]{1,15})"

ROUTES: Final[list[Route]] = [
    ("api/contests/([^/]+)/actions", ActionsHandler),
    ("api/contests/([^/]+)/operations", OperationsHandler),
    (f"api/operations/{_NUMBER}", OperationHandler),
    (f"api/operations/{_NUMBER}/approve", ApproveHandler),
    (f"api/operations/{_NUMBER}/decline", DeclineHandler),
]
