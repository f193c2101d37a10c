"""What is left to delete, and strays, when the hub's database does not answer at first."""

import asyncio
import json
import logging

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tornado import web

from jupyterhub_collab.hub.cluster import ClusterLink
from jupyterhub_collab.hub.database import refused_without_database
from jupyterhub_collab.hub.strays import read_states, sweep, watch_strays
from jupyterhub_collab.kube.errors import Target, from_status
from tests.hub.conftest import until
from tests.hub.test_faults import own_hub, start, uid_of, wait_polled

__all__ = ["own_hub"]

LEAVING = {"namespace": "team-ocean", "name": "server-bob", "server_id": "old", "uid": "uid-old"}


class Api:
    """Remembers what was deleted."""

    def __init__(self):
        self.deleted = []

    async def delete(self, kind, name, *, namespace, uid):
        self.deleted.append(uid)
        raise from_status(Target("delete", "Pod"), 404, {"reason": "NotFound"})


@pytest.fixture
def db():
    """A session on a database that has no table of spawners yet."""
    engine = sqlalchemy.create_engine("sqlite://")
    with Session(engine) as session:
        yield session
    engine.dispose()


def fill(db, *states):
    db.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS spawners (state TEXT)"))
    db.execute(sqlalchemy.text("DELETE FROM spawners"))
    for state in states:
        db.execute(sqlalchemy.text("INSERT INTO spawners VALUES (:state)"), {"state": state})
    db.commit()


def stray(link, server_id):
    annotations = {
        "hub.jupyter.org/username": "ada",
        "jupyterhub-collab.org/server-id": server_id,
    }
    meta = {"namespace": "team-ocean", "name": f"server-{server_id}", "uid": f"uid-{server_id}"}
    meta |= {"resourceVersion": "1", "annotations": annotations}
    link.pods.note({"metadata": meta, "status": {"phase": "Running"}})


async def meanwhile(condition):
    """Let other tasks work until it is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while not condition():
        assert loop.time() < deadline, "it did not happen"
        await asyncio.sleep(0)


@pytest.mark.parametrize("harm", ["no-table", "no-json"])
def test_who_asks_is_told_that_the_database_cannot_be_read(db, harm):
    if harm == "no-json":
        fill(db, '{"collab')
    said = pytest.raises(web.HTTPError, match="hub's database does not answer as it should")
    with said as refusal, refused_without_database(db):
        read_states(db)
    assert refusal.value.status_code == 503
    fill(db, "{}")
    assert read_states(db) == [], "the session is usable again"


@pytest.mark.parametrize("harm", ["no-table", "no-json"])
async def test_what_is_to_be_deleted_waits_for_the_database(db, caplog, harm):
    if harm == "no-json":
        fill(db, '{"collab')
    api = Api()
    link = ClusterLink(api, hub_id="hub")
    watch = asyncio.create_task(watch_strays(link, db, prefix="team-", again_s=0))
    await meanwhile(lambda: caplog.text.count("cannot be read; it is asked again") >= 2)
    assert api.deleted == []
    fill(db, json.dumps({"collab_leavings": [LEAVING]}))
    await meanwhile(lambda: api.deleted)
    assert api.deleted == ["uid-old"]
    watch.cancel()
    await link.close()


async def test_strays_are_told_of_after_the_database_was_away(db, caplog):
    fill(db)
    link = ClusterLink(Api(), hub_id="hub")
    watch = asyncio.create_task(watch_strays(link, db, prefix="team-", every_s=0, again_s=0))
    link.pods.synced.set()
    stray(link, "one")
    await meanwhile(lambda: "Pod server-one in namespace" in caplog.text)
    db.execute(sqlalchemy.text("DROP TABLE spawners"))
    stray(link, "two")
    await meanwhile(lambda: "cannot be read; it is asked again" in caplog.text)
    assert "Pod server-two in namespace" not in caplog.text
    fill(db)
    await meanwhile(lambda: "Pod server-two in namespace" in caplog.text)
    assert caplog.text.count("Pod server-one in namespace") == 1
    watch.cancel()
    await link.close()


async def test_a_sweep_reads_nothing_itself_and_is_asked_for_once():
    """It is called in polls: there nothing may be raised."""

    class Broken:
        asked = 0

        def execute(self, _query):
            self.asked += 1
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))

        def rollback(self):
            raise OperationalError("ROLLBACK", {}, Exception("there is no connection"))

    db, link = Broken(), ClusterLink(Api(), hub_id="hub")
    sweep(link, db, prefix="team-")
    sweep(link, db, prefix="team-")
    assert db.asked == 0
    await meanwhile(lambda: db.asked)
    await asyncio.sleep(0)
    assert db.asked == 1
    await link.close()


async def test_work_that_ends_by_an_error_is_in_the_log(caplog):
    async def fail():
        raise RuntimeError("something nobody thought of")

    link = ClusterLink(Api(), hub_id="hub")
    with caplog.at_level(logging.ERROR):
        link.keep(fail(), name="watch strays")
        await meanwhile(lambda: caplog.records)
    assert "'watch strays' ended, and stays so until the hub restarts" in caplog.text
    assert "something nobody thought of" in caplog.text
    await link.close()


_BROKEN = """
import sqlalchemy
from pathlib import Path


def _break(conn, cursor, statement, *_):
    harm = Path({file!r})
    if harm.exists() and harm.read_text() in statement:
        raise sqlalchemy.exc.OperationalError(statement, {{}}, Exception("it is to order"))


sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", _break)
"""


def check_refused_in_words(hub, method, what):
    answer = hub.api(method, f"collab/{what}", json={})
    assert answer.status_code == 503
    assert "hub's database does not answer as it should (Operat" in answer.json()["message"]


def test_a_database_that_fails_ends_no_server(own_hub, cluster, tmp_path):
    """Neither when the hub has just started, nor later: a poll knows nothing, and says so."""
    harm = tmp_path / "harm"
    start(own_hub)
    uid = uid_of(cluster, "bob")
    own_hub.kill()
    more = own_hub.more
    own_hub.more = more + _BROKEN.format(file=str(harm))
    harm.write_text("WHERE state LIKE")
    try:
        own_hub.start()
        until(lambda: "cannot be read; it is asked again" in own_hub.log)
        wait_polled(own_hub)
        assert own_hub.server("bob")["ready"] is True
        check_refused_in_words(own_hub, "GET", "strays")
        harm.write_text("FROM api_tokens")  # not even who asks is known
        check_refused_in_words(own_hub, "GET", "strays")
        check_refused_in_words(own_hub, "POST", "adopt")
        harm.write_text("FROM groups")
        until(lambda: "does not say whether a server is over" in own_hub.log)
        harm.unlink()
        wait_polled(own_hub)
        assert own_hub.server("bob")["ready"] is True
        assert uid_of(cluster, "bob") == uid
    finally:
        harm.unlink(missing_ok=True)
        own_hub.kill()
        own_hub.more = more
        own_hub.start()
    until(lambda: own_hub.server("bob").get("ready"))
    assert uid_of(cluster, "bob") == uid
    own_hub.stop_server("bob")
    own_hub.wait_stopped("bob")
