"""What all handlers of the audit service share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ...policy.audit_emitters import Emitter
from .. import routing
from ..handlers import ServiceHandler
from ..routing import Route
from .work import Work

__all__ = ["Handler", "Route", "make_routes"]


class Handler(ServiceHandler):
    """Base of this service's.

    Attributes
    ----------
    methods
        Requests that this class takes on its path; none named: all.
    """

    methods: ClassVar[tuple[str, ...]] = ()
    work: Work

    def find_emitter(self) -> Emitter | None:
        """The emitter whose token came; None: none did, or nobody's."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        return self.work.emitters.current.find(token.strip())


def make_routes(work: Work, lists: Iterable[Iterable[Route]]) -> list[Any]:
    """Handlers below the service's prefix, of these lists."""
    return routing.make_routes(work.prefix, work, lists)
