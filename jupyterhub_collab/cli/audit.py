"""`jupyterhub-collab audit ...`: checking the audit log, and running the service that keeps it.

What: the group of commands; those of an administrator are in `audit_admin`.
It must not: decide anything; what a command does lives below it.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ..errors import CollabError, UserError
from ..managers.audit_proof import prove_from_bundle, prove_from_database
from ..managers.audit_verification import PARALLEL_MIN_EVENTS, verify_bundle, verify_database
from ..policy.audit_bundle import proof_file
from ..policy.audit_finding import Kind
from ..policy.audit_verify import CannotCheckError, Evidence, Verdict
from ..policy.checkpoint import KeyTextError, LogVerifier
from ..storage.audit_files import Bundle, TileFiles, read_note
from ..storage.audit_offline import OfflineLog
from . import audit_admin

TAMPERED: Final = 1
CANNOT_CHECK: Final = 2
_KEY_BYTES_MAX: Final = 4096
_SHOWN: Final = 5  # findings of a kind on a terminal; --json has more

audits = typer.Typer(
    no_args_is_help=True,
    help="The audit log: check it offline, prove an event, run the service.",
)

Database = Annotated[
    str | None,
    typer.Option(help="The log's database: an address, or the path of an SQLite file."),
]
BundlePath = Annotated[
    Path | None, typer.Option("--bundle", help="A bundle that was exported: a folder or a zip.")
]
Key = Annotated[
    str, typer.Option(help="The log's public key, as text or a file; not from the log itself.")
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option("--checkpoint", help="A checkpoint that was kept outside; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(audits, name="audit")
    audits.command()(verify)
    audits.command()(prove)
    audit_admin.register(audits)


def verify(
    key: Key,
    database: Database = None,
    bundle: BundlePath = None,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(help="A folder that the log was anchored in; may be repeated."),
    ] = None,
    checkpoint: Checkpoints = None,
    inside_only: Annotated[
        bool, typer.Option("--inside-only", help="Check without anything from outside.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="As many as processors, for large logs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole result as JSON.")] = False,
) -> None:
    """Check the whole log, offline, against checkpoints that were kept outside.

    Exit code 0: it is what it was. 1: it was tampered with. 2: it cannot be checked.
    """
    try:
        with ExitStack() as stack:
            folders = [stack.enter_context(TileFiles(path)) for path in anchor or ()]
            notes = [read_note(path) for path in checkpoint or ()]
            for path, folder in zip(anchor or (), folders, strict=True):
                found = folder.notes()
                if not found:
                    raise UserError(f"{path} holds no checkpoints.")
                notes += found
            if not notes and not inside_only:
                raise UserError(
                    "Nothing from outside to check against: give --anchor or --checkpoint. Without,"
                    " a log that was rewritten whole by its host looks right; --inside-only checks"
                    " the rest."
                )
            evidence = Evidence(_read_key(key), notes, [folder.fetch for folder in folders])
            verdict = _verify(stack, database, bundle, evidence, processes)
    except (CollabError, CannotCheckError) as e:
        _fail(e)
    if as_json:
        print(json.dumps(verdict.to_wire(), indent=2))
    else:
        _tell(verdict, Console(highlight=False, soft_wrap=True))
    if not verdict.is_fine:
        raise typer.Exit(TAMPERED)
    if not (verdict.anchored or inside_only or verdict.selected is not None or not verdict.size):
        raise typer.Exit(CANNOT_CHECK)


def _verify(
    stack: ExitStack,
    database: str | None,
    bundle: Path | None,
    evidence: Evidence,
    processes: int | None,
) -> Verdict:
    progress = _show_progress(stack)
    if (database is None) == (bundle is None):
        raise UserError("Say what to check: --database or --bundle, one of them.")
    if bundle is not None:
        opened = stack.enter_context(Bundle(bundle))
        return verify_bundle(opened, evidence, progress=progress)
    url = _to_url(database or "")
    if processes is None:
        with OfflineLog(url) as log:
            is_large = log.count(PARALLEL_MIN_EVENTS) >= PARALLEL_MIN_EVENTS
        processes = len(os.sched_getaffinity(0)) if is_large else 1
    return verify_database(url, evidence, processes=processes, progress=progress)


def prove(
    event: Annotated[int, typer.Argument(min=1, help="Sequence of the event.")],
    key: Key,
    out: Annotated[Path, typer.Option(help="The proof: a new file.")],
    database: Database = None,
    bundle: BundlePath = None,
    checkpoint: Checkpoints = None,
    people: Annotated[
        bool, typer.Option(help="Whether to show who is in the event, as far as kept.")
    ] = True,
) -> None:
    """Write a proof that the log holds an event; it shows nothing of the others."""
    try:
        with ExitStack() as stack:
            verifier = _read_key(key)
            notes = [read_note(path) for path in checkpoint or ()]
            if (database is None) == (bundle is None):
                raise UserError("Say where the event is: --database or --bundle, one of them.")
            if bundle is not None:
                opened = stack.enter_context(Bundle(bundle))
                proof = prove_from_bundle(opened, event, verifier, notes)
            else:
                log = stack.enter_context(OfflineLog(_to_url(database or "")))
                proof = prove_from_database(log, event, verifier, notes)
        data = proof_file(proof, verifier.origin, with_people=people)
        try:
            with out.open("xb") as file:
                file.write(data)
        except OSError as e:
            raise UserError(f"{out} cannot be written: {e.strerror}.") from e
    except (CollabError, CannotCheckError) as e:
        _fail(e)
    print(f"{out}: event {event} is one of the first {proof.size} of {verifier.origin}.")


def _read_key(text: str) -> LogVerifier:
    """A public key, of its text or of a file with it."""
    try:
        return LogVerifier.from_text(text)
    except KeyTextError as e:
        try:
            with Path(text).open("rb") as file:
                found = file.read(_KEY_BYTES_MAX).decode()
        except (OSError, ValueError):
            raise UserError(f"The key cannot be read: {e}") from e
    try:
        return LogVerifier.from_text(found)
    except KeyTextError as e:
        raise UserError(f"The key in {text} cannot be read: {e}") from e


def _to_url(database: str) -> str:
    if "://" in database:
        return database
    return f"sqlite:///{Path(database).absolute()}"


def _fail(error: Exception) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        _printable(f"Cannot check: {error}"), markup=False
    )
    raise typer.Exit(CANNOT_CHECK)


def _printable(text: str) -> str:
    """Names in a log that somebody made up must not command the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _show_progress(stack: ExitStack) -> Callable[[int, int], None]:
    """A bar on stderr, where that is a terminal."""
    columns = (TextColumn("checked"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    stack.enter_context(bar)
    task = bar.add_task("checked", total=None)
    return lambda done, of: bar.update(task, completed=done, total=of)


def _tell(verdict: Verdict, console: Console) -> None:
    """The verdict in sentences."""

    def say(text: str, **style: Any) -> None:
        console.print(_printable(text), markup=False, **style)

    first = verdict.first_bad
    if first is None:
        say(_fine_words(verdict), style="bold green")
    else:
        say("TAMPERED. " + first.text, style="bold red")
    shown: Counter[Kind] = Counter()
    for found in verdict.findings:
        shown[found.kind] += 1
        if found != first and shown[found.kind] <= _SHOWN:
            say(f"  {found.kind.value}: {found.text}")
    more = sum(verdict.counts.values()) - sum(min(some, _SHOWN) for some in shown.values())
    if more > 0:
        say(f"  and {more} more (--json tells of the first hundred of each kind).")
    if verdict.retired:
        say(f"Events 1 to {verdict.retired} were retired by event {verdict.retired_by}.")
    for event, count in sorted(verdict.redacted.items()):
        say(f"{count} {'person was' if count == 1 else 'people were'} redacted by event {event}.")
    unanchored = verdict.unanchored
    if verdict.selected is None and unanchored is not None:
        say(
            f"Not anchored: events {unanchored[0]} to {unanchored[1]}. No checkpoint from outside"
            " vouches for them."
        )
    for warning in verdict.warnings:
        say(f"Note: {warning}")


def _fine_words(verdict: Verdict) -> str:
    if verdict.selected is not None:
        return f"All {verdict.selected} events are among the first {verdict.size} of the log."
    if not verdict.anchored:
        return f"{verdict.size} events fit together. Nothing from outside vouches for them."
    return (
        f"Events 1 to {verdict.anchored} are what they were, by {verdict.outside}"
        f" {'checkpoint' if verdict.outside == 1 else 'checkpoints'} from outside."
    )
