"""How the registry's tables come to be, on both databases, by any number of processes at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command as alembic
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from setuptools import find_packages
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.storage.contest_migration import VERSION_TABLE, to_config, upgrade
from jupyterhub_collab.storage.contest_tables import tables
from jupyterhub_collab.storage.contests import EVERYBODY, ContestStore, DeliveryState
from jupyterhub_collab.storage.database import DatabaseError
from tests.storage.contest_samples import put

ROOT = Path(__file__).parents[2]
UPGRADE = """
import sys
from sqlalchemy import create_engine
from jupyterhub_collab.storage.contests import ContestStore
engine = create_engine(sys.argv[1])
store = ContestStore(engine)
print("ready", flush=True)
sys.stdin.readline()
store.upgrade()
store.close()
engine.dispose()
"""


@pytest.fixture
def elsewhere(url: str, tmp_path: Path) -> Iterator[Engine]:
    """Another empty place of the same kind."""
    if url.startswith("sqlite"):
        engine = create_engine(f"sqlite:///{tmp_path}/elsewhere.sqlite")
        yield engine
        engine.dispose()
        return
    owner = create_engine(url)
    with owner.begin() as connection:
        connection.execute(text("CREATE SCHEMA elsewhere"))
    engine = create_engine(url, connect_args={"options": "-csearch_path=elsewhere"})
    yield engine
    engine.dispose()
    with owner.begin() as connection:
        connection.execute(text("DROP SCHEMA elsewhere CASCADE"))
    owner.dispose()


def describe(connection: Connection) -> set[tuple[str, ...]]:
    """All that the database itself says of our tables."""
    if connection.dialect.name == "sqlite":
        asked = "SELECT name, coalesce(sql, '') FROM sqlite_master WHERE tbl_name LIKE 'contest_%'"
    else:
        asked = """
            SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
                || coalesce(character_maximum_length, 0) || coalesce(collation_name, ''),
                coalesce(column_default, '')
            FROM information_schema.columns WHERE table_schema = current_schema()
            UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
        """
    rows = connection.execute(text(asked))
    said = {(name, " ".join(sql.replace('"', "").split())) for name, sql in rows}
    return {
        (name, re.sub(r"\b(public|elsewhere)\.", "", sql))
        for name, sql in said
        if VERSION_TABLE not in name
    }


def version_in(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars())


def newest() -> str:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        head = ScriptDirectory.from_config(to_config(connection)).get_current_head()
    engine.dispose()
    assert head is not None
    return head


def test_migrations_make_what_the_code_says(registry: ContestStore, engine: Engine) -> None:
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables) == []


def test_migrations_make_the_very_same(engine: Engine, elsewhere: Engine) -> None:
    """Also what alembic does not compare: collations, conditions of indexes, counters."""
    upgrade(engine)
    tables.create_all(elsewhere)
    with engine.connect() as ours, elsewhere.connect() as theirs:
        assert describe(ours) == describe(theirs)
        assert len(describe(ours)) > 20


async def test_upgrading_again_keeps_all(registry: ContestStore, engine: Engine) -> None:
    await put(registry, teams=["ocean"], members={"ocean": ("ada",)})
    upgrade(engine)
    assert version_in(engine) == [newest()]
    assert list(await registry.teams_of("ada")) == ["ocean"]


def test_beside_the_hub_s_own_tables(engine: Engine) -> None:
    """In one database with a JupyterHub, whose alembic has its version in a table as well."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('4621fec11365')"))
        connection.execute(text("CREATE TABLE users (name VARCHAR(32))"))
    upgrade(engine)
    with engine.connect() as connection:
        hub = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    assert hub == ["4621fec11365"]
    found = {name for name in inspect(engine).get_table_names() if not name.startswith("contest_")}
    assert found == {"alembic_version", "users"}


def test_a_database_of_a_newer_version(registry: ContestStore, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0099'"))
    with pytest.raises(PermanentError, match=r"newer version \(0099\).*up to 0004"):
        registry.upgrade()
    assert version_in(engine) == ["0099"]


def test_upgrades_at_once(url: str) -> None:
    engines = [create_engine(url) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(upgrade, engines))
    assert version_in(engines[0]) == [newest()]
    for engine in engines:
        engine.dispose()


def test_processes_that_upgrade_at_once(url: str, engine: Engine) -> None:
    command = [sys.executable, "-W", "error", "-c", UPGRADE, url]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, wrong = process.communicate(timeout=120)
        assert (process.returncode, wrong) == (0, "")
    assert version_in(engine) == [newest()]


def test_an_upgrade_that_fails_in_the_middle(engine: Engine) -> None:
    """All of it or nothing: whoever is killed leaves no half of the tables."""

    def fail(_c: object, _cursor: object, sql: str, *_more: object) -> None:
        if "CREATE TABLE contest_operations" in sql:
            raise OSError("the cable is out")

    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(OSError, match="cable"):
        upgrade(engine)
    event.remove(engine, "before_cursor_execute", fail)
    assert inspect(engine).get_table_names() == []
    upgrade(engine)
    assert version_in(engine) == [newest()]


def test_who_may_not(tmp_path: Path) -> None:
    path = tmp_path / "test.sqlite"
    path.touch(mode=0o400)
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(DatabaseError, match="cannot be made"):
        upgrade(engine)
    engine.dispose()


def test_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/test.sqlite")
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_migrations_are_shipped() -> None:
    packages = find_packages(str(ROOT), include=["jupyterhub_collab", "jupyterhub_collab.*"])
    folder = ROOT / "jupyterhub_collab" / "storage" / "migrations"
    scripts = {path.parent.relative_to(ROOT) for path in folder.rglob("*.py")}
    assert {".".join(path.parts) for path in scripts} <= set(packages)


async def test_what_was_brought_everywhere_is_not_brought_again(engine: Engine) -> None:
    """From the version that knew how far a notice had come, and not to whom."""
    with engine.connect() as connection:
        alembic.upgrade(to_config(connection), "0002")
        connection.execute(
            text(
                "INSERT INTO contest_deliveries VALUES (1, 'hook', '', true, 1, 0),"
                " (1, 'mail', 'ocean', false, 2, 0)"
            )
        )
        connection.commit()
    upgrade(engine)
    store = ContestStore(engine)
    try:
        ((recipient, delivery),) = (await store.deliveries.of(1, "hook")).items()
        assert (recipient, delivery.state) == (EVERYBODY, DeliveryState.DONE)
        assert await store.deliveries.of(1, "mail") == {}, "who has it is not known: all are told"
    finally:
        store.close()
