"""How the audit log's tables come to be, and how a log of the first version becomes one of this."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.managers.audit_verification import verify_database
from jupyterhub_collab.policy.audit_verify import Evidence
from jupyterhub_collab.storage import audit_tables as tables
from jupyterhub_collab.storage import audit_writer
from jupyterhub_collab.storage.schema_versions import to_config
from tests.policy.audit_logs import SIGNER
from tests.storage.test_audit_index import (
    NEVER,
    QUERIES,
    check_tables,
    is_of,
    make_batch,
    open_log,
)

KEPT = ("events", "people", "datasets", "tiles", "checkpoints", "emitters")
NEW = {"audit_contests", "audit_teams", "audit_verbs", "audit_indexed", tables.VERSION_TABLE}


def make_first(engine: Engine, folder: Path, count: int) -> None:
    """A log as the first version left it, in which nothing says so."""
    other = create_engine(f"sqlite:///{folder}/other.sqlite")
    log = open_log(other, **NEVER)
    asyncio.run(log.append("hub", make_batch(range(1, count + 1))))
    note = SIGNER.sign(
        log.size, log.frontier().root(), make_batch(range(1, 2)).events[0].event.time
    )
    asyncio.run(log.add_checkpoint(log.size, note))
    log.close()
    old = MetaData()
    with engine.begin() as connection:
        command.upgrade(to_config(connection, "audit"), "0001")
        connection.execute(text(f"DROP TABLE {tables.VERSION_TABLE}"))
        old.reflect(connection)
    with other.connect() as source, engine.begin() as connection:
        for name in KEPT:
            rows = source.execute(tables.tables.tables[f"audit_{name}"].select()).mappings().all()
            to = old.tables[f"audit_{name}"]
            given = [dict(zip(to.columns.keys(), row.values(), strict=True)) for row in rows]
            connection.execute(to.insert(), given)
    other.dispose()


def address_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


async def test_a_log_of_the_first_version_goes_on(engine, tmp_path):
    await asyncio.to_thread(make_first, engine, tmp_path, 500)
    names = {index["name"] for index in inspect(engine).get_indexes("audit_events")}
    assert names == {"audit_events_contest", "audit_events_team", "audit_events_verb"}
    evidence = Evidence(SIGNER.verifier)
    assert verify_database(address_of(engine), evidence).findings == ()
    log = open_log(engine, **NEVER)
    assert (log.size, log.indexed) == (500, 500)
    check_tables(engine, log)
    await log.append("hub", make_batch(range(490, 521)))
    assert log.size == 520
    for query in QUERIES:
        found = await log.read(query, limit=1000)
        assert [one.sequence for one in found] == [n for n in range(520, 0, -1) if is_of(query, n)]
    log.close()
    check_tables(engine, log)
    assert verify_database(address_of(engine), evidence).findings == ()
    inspector = inspect(engine)
    assert inspector.get_indexes("audit_events") == []
    assert set(inspector.get_table_names()) >= NEW


def test_the_first_version_does_not_go_on_with_a_log_of_this(engine, tmp_path):
    make_first(engine, tmp_path, 300)
    first = MetaData()
    first.reflect(engine)
    asked = select(first.tables["audit_emitters"])
    with engine.connect() as connection:
        assert len(connection.execute(asked).all()) == 1  # control: as it opens its own
    open_log(engine).close()
    with engine.connect() as connection, pytest.raises(SQLAlchemyError):
        connection.execute(asked)


def test_an_upgrade_is_said_and_leaves_no_long_journal(engine, tmp_path, caplog, monkeypatch):
    make_first(engine, tmp_path, 500)
    caplog.clear()
    journal, lengths = tmp_path / "test.sqlite-wal", []
    load = audit_writer._load
    is_sqlite = engine.dialect.name == "sqlite"

    def look(*more):
        lengths.append(journal.stat().st_size if is_sqlite else 0)
        return load(*more)

    monkeypatch.setattr(audit_writer, "_load", look)
    for _ in range(2):
        open_log(engine).close()
    assert caplog.text.count("from version 0001 to 0002") == 1
    assert lengths[0] == 0


def test_a_log_whose_old_indexes_are_gone_goes_on(engine, tmp_path):
    make_first(engine, tmp_path, 300)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX audit_events_team"))
    log = open_log(engine)
    check_tables(engine, log)
    log.close()


async def test_what_is_changed_in_a_log_of_the_first_version_is_found(engine, tmp_path):
    await asyncio.to_thread(make_first, engine, tmp_path, 300)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_people WHERE sequence = 33"))
    first = verify_database(address_of(engine), Evidence(SIGNER.verifier)).first_bad
    assert first is not None
    assert first.first == 33


def test_migrations_make_what_the_code_says(engine):
    open_log(engine).close()
    with engine.connect() as connection:
        opts = {"version_table": tables.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, tables.tables) == []


def test_an_upgrade_that_breaks_off_leaves_the_log_as_it_was(engine, tmp_path, monkeypatch):
    make_first(engine, tmp_path, 300)
    before = set(inspect(engine).get_table_names())

    def fail(*more, **how):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("alembic.op.drop_index", fail)
        with pytest.raises(KeyboardInterrupt):
            open_log(engine)
    assert set(inspect(engine).get_table_names()) == before
    log = open_log(engine)
    assert log.indexed == 300
    log.close()


def test_a_log_of_a_newer_version_is_refused(engine):
    open_log(engine).close()
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(PermanentError, match="newer version \\(9999\\)"):
        open_log(engine)
