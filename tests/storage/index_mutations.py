"""Every way to tamper with the rows that searches go along, and with the mark behind them."""

from __future__ import annotations

import copy
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import create_engine

from jupyterhub_collab.policy.audit_align import blocks_of
from jupyterhub_collab.policy.audit_block import Row, check_block
from jupyterhub_collab.policy.audit_finding import Finding
from jupyterhub_collab.policy.audit_index import SEARCHES, SearchIndex
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.storage.audit_offline import OfflineLog
from tests.storage.written_log import Clock, append

SIZE, MARK = 1300, 1000
Values = tuple[object, ...]


class IndexScene:
    """A log whose last 300 events have no rows yet. Each change is taken back after its check."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/audit.sqlite"
        engine, clock = create_engine(self.url), Clock()
        for first, last, how in ((1, MARK, 0.0), (MARK + 1, SIZE, 10.0**6)):
            log = AuditLog(engine, now=clock, index_events=10**9, index_after_s=how)
            log.open()
            append(log, first, last)
            if last == MARK:
                log.close()
        self._log, self._engine = log, engine
        self._database = sqlite3.connect(folder / "audit.sqlite", isolation_level=None)
        self._database.execute("PRAGMA synchronous=OFF")
        self._whole = SearchIndex()
        with OfflineLog(self.url) as look:
            for first, count in blocks_of(1, SIZE):
                rows = [Row._make(row) for row in look.rows(first, count)]
                assert not check_block(rows, first, count, self._whole).findings
        self._cut = copy.deepcopy(self._whole)
        self._cut.cut(MARK)
        self.found: Counter[str] = Counter()

    def close(self) -> None:
        self._database.close()
        self._log.close()
        self._engine.dispose()

    def look(self, index: SearchIndex) -> list[Finding]:
        with OfflineLog(self.url) as look:
            assert look.last == SIZE
            findings = look.check_mark()
            findings.merge(look.compare_index(index, 1, SIZE))
        return list(findings)

    def check_control(self) -> None:
        assert self.look(copy.deepcopy(self._whole)) == []

    def check_rows(self, event: int) -> int:
        """Each way with each row of an event. How many."""
        count = 0
        for name, do, undo in self._row_changes(event):
            self._execute(do)
            found = self.look(self._cut)
            self._execute(undo)
            assert found, (name, event)
            assert {one.first for one in found} <= {event, event + 1}, (name, event, found)
            self.found[name] += 1
            count += 1
        return count

    def check_mark(self, to: int) -> None:
        """The mark says another event."""
        self._execute([("UPDATE audit_indexed SET upto = ?", (to,))])
        found = self.look(copy.deepcopy(self._whole))
        self._execute([("UPDATE audit_indexed SET upto = ?", (MARK,))])
        assert found, to
        # Further on, events without rows are hidden; further back, rows stand where none may.
        assert found[0].first == (min(to, MARK) + 1 if 0 <= to <= SIZE else 0), (to, found[0])
        self.found["mark"] += 1

    def _execute(self, statements: Iterable[tuple[str, Values]]) -> None:
        for statement, values in statements:
            assert self._database.execute(statement, values).rowcount == 1

    def _row_changes(
        self, event: int
    ) -> Iterator[tuple[str, list[tuple[str, Values]], list[tuple[str, Values]]]]:
        for table in SEARCHES:
            columns = [row[1] for row in self._database.execute(f"PRAGMA table_info({table})")]
            width = len(columns)
            add = f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"
            take = f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in columns)}"
            rows = self._database.execute(
                f"SELECT * FROM {table} WHERE sequence = ?", (event,)
            ).fetchall()
            false = (*["eve"] * (width - 1), event)
            yield f"{table}: put in", [(add, false)], [(take, false)]
            for row in rows:
                yield f"{table}: taken out", [(take, row)], [(add, row)]
                other = [(take, row), (add, false)]
                yield f"{table}: of another", other, [(take, false), (add, row)]
                moved = (*row[:-1], event + 1)
                there = self._database.execute(
                    f"SELECT 1 FROM {table} WHERE ({', '.join(columns)}) = "
                    f"({', '.join('?' * width)})",
                    moved,
                ).fetchone()
                if not there:
                    elsewhere = [(take, row), (add, moved)]
                    yield f"{table}: moved", elsewhere, [(take, moved), (add, row)]
