"""What the embedded API answers when it refuses: Kubernetes `Status` bodies.

Clients read `code`, `reason`, `message` and `details`; their wording here is that of the real API
server wherever a contract test compares it.
"""

from __future__ import annotations

from ..kube import kinds as k
from .resources import Json, group_of, qualify


class ApiError(Exception):
    """A refused request: HTTP status, the API's own word for it, its sentence, details."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def to_status(self) -> Json:
        """The body of the answer."""
        told = {"message": self.message, "reason": self.reason, "code": self.code}
        told |= {"details": self.details} if self.details is not None else {}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", **told}


def _details(kind: k.Kind, name: str) -> Json:
    group = {"group": group_of(kind)} if group_of(kind) else {}
    return {"name": name, **group, "kind": kind.plural}


def not_found(kind: k.Kind, name: str) -> ApiError:
    message = f'{qualify(kind)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(kind, name))


def already_exists(kind: k.Kind, name: str) -> ApiError:
    message = f'{qualify(kind)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(kind, name))


def forbidden(kind: k.Kind, name: str, why: str, *causes: Json) -> ApiError:
    details = {**_details(kind, name), **({"causes": list(causes)} if causes else {})}
    message = f'{qualify(kind)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, details)


def conflict(kind: k.Kind, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {qualify(kind)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(kind, name))


def invalid(kind: k.Kind, name: str, field: str, why: str) -> ApiError:
    cause = {"reason": "FieldValueInvalid", "message": why, "field": field}
    details = {"name": name, "group": group_of(kind), "kind": kind.name, "causes": [cause]}
    message = f'{kind.name} "{name}" is invalid: {field}: {why}'
    return ApiError(422, "Invalid", message, details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unsupported(content_type: str) -> ApiError:
    message = f"the body of the request was in an unknown format: {content_type} - accepted media "
    message += "types include: application/json, application/yaml"
    return ApiError(415, "UnsupportedMediaType", message)
