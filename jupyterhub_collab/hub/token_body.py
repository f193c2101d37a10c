"""The one token that a program posts: in a form, or as JSON."""

from __future__ import annotations

from typing import Any

from tornado import web


def read_token(handler: Any, *, what: str) -> str:
    """Field ``token`` of a request's body, as it was sent.

    Parameters
    ----------
    handler
        A JupyterHub API handler.
    what
        What it should be, for the refusal: ``the credential``.

    Raises
    ------
    HTTPError
        400: it is not there, empty, or no text.
    """
    if handler.request.headers.get("Content-Type", "").split(";")[0] == "application/json":
        body = handler.get_json_body()
        token = body.get("token") if isinstance(body, dict) else None
    else:
        token = handler.get_body_argument("token", None, strip=False)
    if not isinstance(token, str) or not token:
        raise web.HTTPError(400, f"Send {what} as token, in a form or as JSON.")
    return token
