"""How commands reach the contests service: options, the token, errors.

The token comes from a file or the environment, never from the command line: others on the machine
can read that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console

from ..errors import UserError
from ..hubapi.client import to_api_url
from ..hubapi.contests import ContestsClient

HUB_URL_VARIABLE: Final = "JUPYTERHUB_COLLAB_HUB_URL"
CONTESTS_URL_VARIABLE: Final = "JUPYTERHUB_COLLAB_CONTESTS_URL"
TOKEN_VARIABLE: Final = "JUPYTERHUB_COLLAB_TOKEN"  # noqa: S105 - a name

T = TypeVar("T")
HubUrl = Annotated[
    str | None,
    typer.Option(envvar=HUB_URL_VARIABLE, help="The hub's address: https://hub.example.org"),
]
ContestsUrl = Annotated[
    str | None,
    typer.Option(
        envvar=CONTESTS_URL_VARIABLE,
        help="The contests service's address, where it is not the hub's with /services/contests/.",
    ),
]
TokenFile = Annotated[
    Path | None, typer.Option(help=f"File that holds the API token; or set {TOKEN_VARIABLE}.")
]


def read_token(token_file: Path | None) -> str:
    """The hub's API token, of a file or the environment. Raises UserError."""
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"the token file {token_file} cannot be read: {e}") from e
        source = str(token_file)
    else:
        token, source = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
    if not token:
        raise UserError(
            f"no API token: give --token-file FILE or set {TOKEN_VARIABLE} (a service's token, or"
            " an admin's own from the hub's token page)"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{source} holds no token: one line of letters and digits is expected")
    return token


def to_contests_url(hub_url: str | None, contests_url: str | None) -> str:
    """Where the service is. Raises UserError, HubRefusedError."""
    if contests_url:
        to_api_url(contests_url)  # for its checks
        return contests_url.rstrip("/").removesuffix("/api")
    if not hub_url:
        raise UserError(f"no hub: give --hub-url URL or set {HUB_URL_VARIABLE}")
    return f"{to_api_url(hub_url).removesuffix('/hub/api')}/services/contests"


def run(
    hub_url: str | None,
    contests_url: str | None,
    token_file: Path | None,
    use: Callable[[ContestsClient], Awaitable[T]],
) -> T:
    """Use the service that the options name."""
    url = to_contests_url(hub_url, contests_url)
    token = read_token(token_file)

    async def work() -> T:
        async with ContestsClient(url, token) as client:
            return await use(client)

    return asyncio.run(work())


def make_console() -> Console:
    """For people and for scripts: nothing is wrapped or coloured into something else."""
    return Console(highlight=False, soft_wrap=True)
