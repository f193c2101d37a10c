"""What the commands on contests share: their arguments, lists in pages, how answers are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from .. import names
from ..errors import UserError
from ..hubapi.contests import ContestsClient
from .contests_service import make_console

Json = dict[str, Any]

Contest = Annotated[str, typer.Argument(metavar="CONTEST", help="The contest's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="The service's answer, for programs.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until it is done.")]


async def read_all(client: ContestsClient, path: str, key: str, query: str = "") -> list[Json]:
    """A list that the service gives in pages."""
    found: list[Json] = []
    after: str | None = ""
    while after is not None:
        page = await client.get(f"{path}?after={quote(after, safe='')}{query}")
        found += page[key]
        after = page["next"]
    return found


def show(found: Json, to_line: Callable[[Json], str], *, as_json: bool) -> None:
    """An answer, as a line for people or whole."""
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        say(to_line(found))


def show_tables(found: object, to_tables: Callable[[], Sequence[Table]], *, as_json: bool) -> None:
    """An answer, as tables for people or whole."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = make_console()
    for number, table in enumerate(to_tables()):
        if number:
            console.print("")
        console.print(table)


def say(text: str) -> None:
    """A line for people, as text and never as markup."""
    make_console().print(text, markup=False)


def to_id(text: str) -> str:
    """Raises UserError: no contest and no team can be called so."""
    if not names.is_team_id(text):
        raise UserError(f"{text!r} is no id: {names.TEAM_ID_RULE}")
    return text
