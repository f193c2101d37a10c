"""What the Kubernetes API refuses, sorted by what can be done about it.

Messages carry verb, kind, namespace, name, status and the API's own sentence; never a header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ..errors import KubeError, PermanentError, RetryableError
from .kinds import Kind

# 401: credentials are read again (client.py); a token may also be younger than a server's clock.
_RETRYABLE: Final = frozenset({401, 408, 409, 410, 423, 425, 429})
_LONGEST_WAIT_S: Final = 300.0  # whatever Retry-After says: a team must not wait for days


@dataclass(frozen=True)
class Target:
    """What a request was about, for messages."""

    verb: str
    kind: str
    namespace: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.kind}{' ' + self.name if self.name else ''}{where}"


class RetryableKubeError(KubeError, RetryableError):
    """The same request may succeed later."""


class PermanentKubeError(KubeError, PermanentError):
    """The API refuses, and will until something else changes."""


class NotFoundError(PermanentKubeError):
    """There is no such object (404)."""


class ConflictError(RetryableKubeError):
    """409: it exists already, or is not what the request said it was. Read it anew."""


class GoneError(RetryableKubeError):
    """410: this resourceVersion or page is too old. List anew."""


def _fill(error: KubeError, target: Target, *, status: int, reason: str, message: str) -> None:
    error.status, error.reason, error.message = status, reason, message
    error.kind, error.namespace, error.name = target.kind, target.namespace, target.name


def is_policy_refusal(error: KubeError) -> bool:
    """Whether an admission policy refused it (`jupyterhub_collab.manifests.guard`, or another).

    The API server says so in its words alone: the status is 422 unless the policy names another.
    """
    return error.status in (403, 422) and "ValidatingAdmissionPolicy" in error.message


def no_answer(target: Target, cause: BaseException) -> RetryableKubeError:
    """No answer came: time-out, refused, cut. The request may have been carried out."""
    what = str(cause) or type(cause).__name__
    error = RetryableKubeError(f"Cannot {target}: no answer from the Kubernetes API ({what}).")
    _fill(error, target, status=0, reason="", message=what)
    return error


def retry_after_s(headers: Mapping[str, str], status: Mapping[str, Any]) -> float | None:
    """Seconds the API asks to be left alone: the header, or the Status object's detail.

    At most five minutes. A date (RFC 9110) counts from the answer's own Date, where it has one:
    clocks differ.
    """
    details = status.get("details")
    for raw in (
        headers.get("Retry-After"),
        details.get("retryAfterSeconds") if isinstance(details, Mapping) else None,
    ):
        if raw is None:
            continue
        text = str(raw).strip()
        if re.fullmatch(r"[0-9]{1,18}", text):
            return min(float(text), _LONGEST_WAIT_S)
        until = _to_time(text)
        if until is not None:
            since = _to_time(headers.get("Date", "")) or datetime.now(timezone.utc)
            return min(max((until - since).total_seconds(), 0.0), _LONGEST_WAIT_S)
    return None


def _to_time(text: str) -> datetime | None:
    """Time of an HTTP date."""
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def _is_terminating(status: Mapping[str, Any]) -> bool:
    """Whether a 403 only says that the namespace is being deleted."""
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return any(
        isinstance(cause, Mapping) and cause.get("reason") == "NamespaceTerminating"
        for cause in causes or ()
    )


def refused(target: Target, code: int, headers: Mapping[str, str], body: bytes) -> KubeError:
    """Error of an answer that is not a success."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        status = {"message": body[:300].decode("utf-8", "replace").strip()}
    return from_status(target, code, status, retry_after=retry_after_s(headers, status))


def from_status(
    target: Target, code: int, status: Mapping[str, Any], *, retry_after: float | None = None
) -> KubeError:
    """Error of a Status object."""
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    text = f"Cannot {target}: the Kubernetes API answered {code} {reason}: {message}"
    error: KubeError
    if code == 404:
        error = NotFoundError(text)
    elif code == 409:
        error = ConflictError(text, retry_after_s=retry_after)
    elif code == 410:
        error = GoneError(text, retry_after_s=retry_after)
    elif code >= 500 or code in _RETRYABLE or (code == 403 and _is_terminating(status)):
        error = RetryableKubeError(text, retry_after_s=retry_after)
    else:
        error = PermanentKubeError(text)
    _fill(error, target, status=code, reason=reason, message=message)
    return error


def target_of(
    verb: str, kind: Kind, namespace: str | None = None, name: str | None = None
) -> Target:
    """Shorthand."""
    return Target(verb, kind.name, namespace if kind.namespaced else None, name)
