"""A database of each kind: SQLite in a file, and a PostgreSQL server of the tests' own."""

import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from jupyterhub_collab.storage.contests import ContestStore


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """URL of a server of our own on a socket of our own; none where there is no PostgreSQL."""
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), *os.get_exec_path()]
    initdb = shutil.which("initdb", path=os.pathsep.join(map(str, programs)))
    if initdb is None:
        pytest.skip("PostgreSQL is not installed: not proved that one of many is the first there")
    pytest.importorskip("psycopg", reason="psycopg is not installed: not proved on PostgreSQL")
    server = str(Path(initdb).with_name("postgres"))
    who = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    # A socket's path must be short; and each folder of tests that borrows this has its own server.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if who is not None:
        shutil.chown(folder, who)
    try:
        data = folder / "data"
        initialise = [initdb, "-D", str(data), "-U", "hub", "-A", "trust", "-N", "-E", "UTF8"]
        done = subprocess.run(initialise, user=who, cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        process = subprocess.Popen(
            [server, "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-F"],
            user=who,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        told = []
        for line in process.stderr:  # ends if the server does
            told.append(line)
            if "ready to accept connections" in line:
                break
        else:
            pytest.fail("".join(told))
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        try:
            yield f"postgresql+psycopg://hub@/postgres?host={folder}"
        finally:
            process.terminate()
            process.wait(30)
            drain.join()
            process.stderr.close()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgresql_url(postgresql):
    """A database of this test's own, gone with it whoever is still at work in it."""
    name = f"test_{secrets.token_hex(8)}"
    server = create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgresql.replace("/postgres?", f"/{name}?")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.sqlite"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def engine(url):
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def registry(engine):
    """The team registry, with tables."""
    made = ContestStore(engine)
    made.upgrade()
    yield made
    made.close()


@pytest.fixture
def stores(url, registry):
    """Four on the same tables with nothing else in common, as in four processes."""
    engines = [create_engine(url) for _ in range(4)]
    made = [ContestStore(engine, timeout_s=60) for engine in engines]
    yield made
    for store in made:
        store.close()
    for engine in engines:
        engine.dispose()
