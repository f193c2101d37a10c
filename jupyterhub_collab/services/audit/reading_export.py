"""Exports: everything that a reader may see and asks for, in one file, oldest event first.

Events go out as they are read, some hundred at a time, and no file is made here: an export of a
million events takes the memory of a page. An export that cannot be finished is cut off, so that
nobody takes a part for the whole.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import logging
import zipfile
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from tornado.iostream import StreamClosedError

from ...errors import CollabError, PermanentError
from ...managers.audit_reading import AuditReading, NotYetError
from ...policy.audit_bundle import (
    CHECKPOINT,
    EVENTS,
    KEY,
    MANIFEST,
    PROOFS,
    README,
    Manifest,
    event_line,
    manifest_file,
    proof_line,
)
from ...policy.audit_reading import ShownEvent
from ...policy.audit_table import COLUMNS, LISTS, TIMES, to_csv, to_row
from ...timeouts import TIMED_OUT, timeout
from ..slots import Slots, TooManyError
from .handlers import Route
from .reading import ReadingHandler
from .reading_query import BadQueryError, read_choice, read_query

log = logging.getLogger(__name__)

PER_PERSON: Final = 2
IN_ALL: Final = 8
_SLOW_S: Final = 60.0
_PROOFS_AT_ONCE: Final = 200
_ROW_GROUP: Final = 5000
_MEDIA: Final = {
    "csv": ("text/csv; charset=utf-8", "csv"),
    "jsonl": ("application/x-ndjson", "jsonl"),
    "parquet": ("application/vnd.apache.parquet", "parquet"),
    "bundle": ("application/zip", "zip"),
}
NO_PARQUET: Final = (
    "This installation cannot write Parquet: the service lacks pyarrow. Take csv or jsonl, or ask"
    " an admin to install jupyterhub-collab[audit-parquet]."
)
_HOW_TO_CHECK: Final = """Events of the audit log {origin}, with proofs that the log holds them.

  {events}     a line for each event: the text that was hashed, and what is personal beside it
  {proofs}     a line for each event, in the same order: the hashes that lead to the head
  {checkpoint}       the signed head
  {key}              the log's public key, for convenience

Check them without the service:

  jupyterhub-collab audit verify --bundle THIS_FILE --key KEY --checkpoint CHECKPOINT

Take KEY and CHECKPOINT from whom you trust, not from this file: whoever could make up the events
could make up what lies beside them. Who is not named beside an event was erased, or you were not
shown all of it.
Events that came after the head was signed are not in here.
"""

Chunks = AsyncIterator[bytes]
Pages = AsyncGenerator[Sequence[ShownEvent], None]


class ExportHandler(ReadingHandler):
    """One file."""

    async def get(self) -> None:
        arguments = self.request.query_arguments
        try:
            asked = read_query(arguments, also=("format",), paging=False)
            form = read_choice(arguments, "format", tuple(_MEDIA), "jsonl")
            if form == "parquet":
                _import_parquet()
        except BadQueryError as error:
            self.refuse_query(error)
            return
        except PermanentError as error:
            self.refuse(501, str(error))
            return
        slots = self.settings.setdefault("audit_exports", Slots(PER_PERSON, IN_ALL))
        try:
            with slots.taken(self.reader.name):
                await self._export(asked.query, form)
        except TooManyError:
            self.set_header("Retry-After", "60")
            self.refuse(429, f"At most {PER_PERSON} exports at once. Wait for the others to end.")

    async def _export(self, query: Any, form: str) -> None:
        reading, covered = self.reading, None
        try:
            if form == "bundle":
                covered = await reading.covered()
                if covered is None:
                    raise NotYetError("There is no signed checkpoint yet. Ask again.")
            until = None if covered is None else covered[0]
            pages = await reading.export(self.reader, query, form=form, until=until)
        except CollabError as error:
            self.answer_error(error)
            return
        media, suffix = _MEDIA[form]
        day = reading.now().strftime("%Y%m%dT%H%M%SZ")
        self.set_header("Content-Type", media)
        self.set_header("Content-Disposition", f'attachment; filename="audit-{day}.{suffix}"')
        write: dict[str, Callable[[Pages], Chunks]] = {
            "csv": _csv,
            "jsonl": _jsonl,
            "parquet": _parquet,
            "bundle": lambda pages: _bundle(pages, reading, covered or (0, "")),
        }
        try:
            async with aclosing(pages):
                async for chunk in write[form](pages):
                    self.write(chunk)
                    async with timeout(_SLOW_S):
                        await self.flush()
        except StreamClosedError:
            log.info("A reader left before the end of an export")
        except TIMED_OUT:
            log.info("A reader took nothing of an export for %s s and was cut off", _SLOW_S)
            self.cut_off()
        except CollabError as error:
            log.error("An export could not be finished: %s", error)
            self.cut_off()


async def _csv(pages: Pages) -> Chunks:
    yield to_csv((), with_head=True)
    async for events in pages:
        yield to_csv(events)


async def _jsonl(pages: Pages) -> Chunks:
    async for events in pages:
        yield b"".join(json.dumps(event.to_wire()).encode() + b"\n" for event in events)


async def _bundle(pages: Pages, reading: AuditReading, covered: tuple[int, str]) -> Chunks:
    """A zip as `policy.audit_bundle` has it, for a sink that is emptied as it fills."""
    size, note = covered
    origin = reading.verifier.origin
    sink = _Sink()
    sequences = array("q")
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, manifest_file(Manifest("selection", origin, size)))
        archive.writestr(CHECKPOINT, note)
        archive.writestr(KEY, reading.verifier.to_text() + "\n")
        words = {"events": EVENTS, "proofs": PROOFS, "checkpoint": CHECKPOINT, "key": KEY}
        archive.writestr(README, _HOW_TO_CHECK.format(origin=origin, **words))
        with archive.open(EVENTS, "w", force_zip64=True) as file:
            async for events in pages:
                sequences.extend(event.sequence for event in events)
                file.write(b"".join(event_line(event.body, event.opened) for event in events))
                yield sink.take()
        with archive.open(PROOFS, "w", force_zip64=True) as file:
            for at in range(0, len(sequences), _PROOFS_AT_ONCE):
                some = sequences[at : at + _PROOFS_AT_ONCE]
                paths = await reading.prove_many(some, size)
                lines = [
                    proof_line(sequence - 1, path)
                    for sequence, path in zip(some, paths, strict=True)
                ]
                file.write(b"".join(lines))
                yield sink.take()
    yield sink.take()


async def _parquet(pages: Pages) -> Chunks:
    arrow, parquet = _import_parquet()
    fields = [(name, _arrow_type(arrow, name)) for name in COLUMNS]
    schema = arrow.schema(fields)
    sink = _Sink()
    writer = parquet.ParquetWriter(arrow.PythonFile(sink, mode="w"), schema)
    rows: list[dict[str, Any]] = []

    def write() -> None:
        writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
        rows.clear()

    async for events in pages:
        rows.extend(_typed(to_row(event)) for event in events)
        if len(rows) >= _ROW_GROUP:
            await asyncio.to_thread(write)
            yield sink.take()
    if rows:
        await asyncio.to_thread(write)
    writer.close()
    yield sink.take()


def _import_parquet() -> tuple[Any, Any]:
    """pyarrow and its Parquet. Raises PermanentError where they are not installed."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as e:
        raise PermanentError(NO_PARQUET) from e


def _arrow_type(arrow: Any, name: str) -> Any:
    if name == "sequence":
        return arrow.int64()
    if name == "late":
        return arrow.bool_()
    if name in TIMES:
        return arrow.timestamp("us", tz="UTC")
    return arrow.list_(arrow.string()) if name in LISTS else arrow.string()


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: datetime.fromisoformat(row[name].replace("Z", "+00:00")) for name in TIMES}
    return {**row, **times}


class _Sink(io.RawIOBase):
    """What zip and Parquet write to; `take` empties it."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def take(self) -> bytes:
        """All that was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


ROUTES: Final[list[Route]] = [("api/export", ExportHandler)]
