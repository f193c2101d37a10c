"""The informer against what watches do: end, break, fall silent, fall behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.errors import Target, from_status
from jupyterhub_collab.kube.informer import Change, Informer
from tests.kube.scripted import ScriptedApi, event, gone, obj, silent


class Ticking:
    """A clock that only `sleep` moves on, and what was slept."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    api: ScriptedApi, **options: Any
) -> AsyncIterator[tuple[Informer, list[Change], Ticking]]:
    changes: list[Change] = []
    time = Ticking()
    informer = Informer(
        api,  # type: ignore[arg-type]
        kinds.RESOURCE_QUOTA,
        on_change=changes.append,
        clock=lambda: time.now,
        sleep=time.sleep,
        uniform=lambda _low, high: high,
        **options,
    )
    task = asyncio.create_task(informer.run())
    try:
        yield informer, changes, time
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(check: Callable[[], bool]) -> None:
    """Let the informer run until it is so."""
    for _ in range(10_000):
        if check():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


def names(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [
        (
            change.obj["metadata"]["name"],
            change.old["metadata"]["resourceVersion"] if change.old else "",
            change.new["metadata"]["resourceVersion"] if change.new else "",
        )
        for change in changes
    ]


async def test_pages_then_a_watch_from_there() -> None:
    api = ScriptedApi(
        [([obj("a", 1)], 9, "more"), ([obj("b", 2)], 9, None)],
        [[event("ADDED", obj("c", 10)), event("DELETED", obj("a", 11))]],
    )
    async with running(api) as (informer, changes, _):
        await until(lambda: len(changes) == 4)
        assert api.asked == ["list", "list more", "watch 9"]
        assert set(informer.in_namespace("n")) == {"b", "c"}
        assert names(changes)[-1] == ("a", "1", "")
        assert informer.live
        assert informer.synced.is_set()


async def test_a_watch_that_ends_goes_on_where_it_was_bookmarks_included() -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "42"}})
    api = ScriptedApi([([], 5, None)], [[bookmark, None]])
    async with running(api) as (informer, _, time):
        await until(lambda: len(api.asked) == 3)
        assert api.asked == ["list", "watch 5", "watch 42"]
        assert informer.lists == 1
        assert time.slept == [0.2]  # a watch that ends at once must not spin


async def test_410_means_a_new_list_and_what_vanished_meanwhile_is_told() -> None:
    api = ScriptedApi(
        [([obj("a", 1), obj("b", 2)], 5, None), ([obj("b", 2), obj("c", 7)], 8, None)],
        [[gone()]],
    )
    async with running(api) as (informer, changes, _):
        await until(lambda: informer.lists == 2 and informer.live)
        assert api.asked == ["list", "watch 5", "list", "watch 8"]
        assert names(changes)[2:] == [("c", "", "7"), ("a", "1", "")]


def refused(status: int) -> Exception:
    return from_status(Target("list", "ResourceQuota"), status, {"message": "no"})


async def test_a_kind_that_the_cluster_does_not_know_has_nothing_in_it() -> None:
    api = ScriptedApi([refused(404), refused(403), ([obj("a", 1)], 5, None)], [[refused(404)]])
    async with running(api, may_be_absent=True) as (informer, changes, time):
        await until(lambda: len(api.asked) == 2)
        assert informer.synced.is_set()
        assert informer.is_absent
        assert time.slept[0] == 300.0
        await until(lambda: len(changes) == 2)
        assert len(informer) == 0, "it is gone with its kind"


async def test_410_between_pages_starts_the_list_again() -> None:
    api = ScriptedApi([([obj("a", 1)], 5, "more"), gone(), ([obj("a", 1)], 6, None)], [])
    async with running(api) as (informer, changes, _):
        await until(lambda: informer.live)
        assert api.asked == ["list", "list more", "list", "watch 6"]
        assert names(changes) == [("a", "", "1")]


async def test_silence_means_a_new_connection_not_a_new_list() -> None:
    api = ScriptedApi([([], 5, None)], [[event("ADDED", obj("a", 6)), silent()]])
    async with running(api) as (informer, _, time):
        await until(lambda: len(api.asked) == 3)
        assert api.asked == ["list", "watch 5", "watch 6"]
        assert time.slept == [0.2]
        assert len(informer) == 1


async def test_an_api_that_is_away_is_asked_ever_more_rarely_for_ever() -> None:
    api = ScriptedApi([silent() for _ in range(12)] + [([], 5, None)], [])
    async with running(api) as (informer, _, time):
        await until(lambda: informer.live)
        assert time.slept[:4] == [0.2, 0.4, 0.8, 1.6]
        assert max(time.slept) == 30.0
        assert len(time.slept) == 12


async def test_what_we_wrote_is_known_at_once_and_no_news_later() -> None:
    api = ScriptedApi([([], 5, None)], [])
    async with running(api) as (informer, changes, _):
        await until(lambda: informer.live)
        assert informer.note(obj("a", 7, spec={"hard": {}})) is informer.get("a", "n")
        api.pushed.put_nowait(event("ADDED", obj("a", 7, spec={"hard": {}})))
        api.pushed.put_nowait(event("MODIFIED", obj("a", 8, spec={"hard": {"pods": "1"}})))
        await until(lambda: bool(changes))
        assert names(changes) == [("a", "7", "8")]
        late = informer.note(obj("a", 7, spec={"hard": {}}))
        assert late is not None
        assert late["metadata"]["resourceVersion"] == "8", "the answer came after the event"


async def test_what_was_noted_need_not_be_told_until_the_next_watch() -> None:
    """A store that was restored gives versions anew, and no watch outlives that."""
    api = ScriptedApi([([], 5, None)], [])
    async with running(api) as (informer, _, _time):
        await until(lambda: informer.live)
        informer.note(obj("a", 7, uid="u"))
        is_known = api.told["is_known"]
        assert is_known("u", "7")
        assert not is_known("u", "8")
        assert not is_known("another", "7")
        api.pushed.put_nowait(None)
        await until(lambda: len(api.asked) == 3)
        assert not is_known("u", "7")


async def test_old_events_and_deletions_of_another_object_are_dropped() -> None:
    api = ScriptedApi([([obj("a", 20, uid="new")], 30, None)], [])
    async with running(api) as (informer, changes, _):
        await until(lambda: informer.live)
        api.pushed.put_nowait(event("MODIFIED", obj("a", 19, uid="new", spec=1)))
        api.pushed.put_nowait(event("DELETED", obj("a", 31, uid="old")))
        api.pushed.put_nowait(event("ADDED", obj("z", 32)))
        await until(lambda: len(changes) == 2)
        assert "spec" not in (informer.get("a", "n") or {})


async def test_a_change_of_nothing_that_is_kept_is_no_news() -> None:
    def trim(thing: dict[str, Any]) -> dict[str, Any]:
        thing.pop("status", None)
        return thing

    api = ScriptedApi([([obj("a", 1, status={"used": 1})], 5, None)], [])
    async with running(api, transform=trim) as (informer, changes, _):
        await until(lambda: informer.live)
        api.pushed.put_nowait(event("MODIFIED", obj("a", 6, status={"used": 2})))
        api.pushed.put_nowait(event("ADDED", obj("z", 7)))
        await until(lambda: len(changes) == 2)
        assert names(changes)[1] == ("z", "", "7")
        assert (informer.get("a", "n") or {})["metadata"]["resourceVersion"] == "6"


async def test_what_is_made_while_the_list_is_read_is_not_taken_for_gone() -> None:
    api = ScriptedApi([([], 5, "more"), ([], 5, None)], [])
    informer_: list[Informer] = []
    page = api.list_page

    async def list_page(kind: Any, **more: Any) -> Any:
        if more.get("token"):
            informer_[0].note(obj("a", 6))
        return await page(kind, **more)

    api.list_page = list_page  # type: ignore[method-assign]
    async with running(api) as (informer, _, _time):
        informer_.append(informer)
        await until(lambda: informer.live)
        assert informer.get("a", "n") is not None


async def test_a_cluster_restored_from_a_backup_is_believed() -> None:
    """Versions go back: what is younger than the backup is gone, what is there is older."""
    api = ScriptedApi(
        [([obj("a", 50, spec=2), obj("b", 51)], 60, None), ([obj("a", 10, spec=1)], 20, None)],
        [[gone()]],
    )
    async with running(api) as (informer, changes, _):
        await until(lambda: informer.lists == 2 and informer.live)
        assert names(changes)[2:] == [("a", "50", "10"), ("b", "51", "")]
        assert (informer.get("a", "n") or {})["spec"] == 1


async def test_an_outage_means_a_new_list_for_the_store_may_have_been_restored() -> None:
    """A watch from a version that is yet to come is silent for ever, so nobody would say so."""
    api = ScriptedApi(
        [([obj("a", 50, spec=2)], 60, None), ([obj("a", 10, spec=1)], 20, None)],
        [[silent()], [silent()], [event("ADDED", obj("b", 21))]],
    )
    async with running(api) as (_informer, changes, _):
        await until(lambda: len(changes) == 3)
        assert api.asked == ["list", "watch 60", "watch 60", "list", "watch 20"]
        assert names(changes)[1:] == [("a", "50", "10"), ("b", "", "21")]


async def test_a_restored_cluster_whose_versions_passed_ours_again_is_believed() -> None:
    """What is known but no younger than the list gives way to it, also where versions are equal."""
    first = [obj("a", 50, spec=2), obj("b", 55, spec=2), obj("c", 58)]
    second = [obj("a", 10, spec=1), obj("b", 55, spec=1)]
    api = ScriptedApi([(first, 60, None), (second, 70, None)], [[gone()]])
    async with running(api) as (informer, changes, _):
        await until(lambda: informer.lists == 2 and informer.live)
        assert names(changes)[3:] == [("a", "50", "10"), ("b", "55", "55"), ("c", "58", "")]


async def test_what_may_be_old_is_listed_anew_before_it_counts() -> None:
    api = ScriptedApi([([obj("a", 1), obj("b", 2)], 9, None), ([obj("b", 2)], 20, None)], [])
    async with running(api) as (informer, _, _time):
        await until(informer.synced.is_set)
        await until(lambda: informer.live)
    informer.invalidate()
    assert not informer.synced.is_set()
    again = asyncio.create_task(informer.run())
    await until(lambda: informer.live)
    assert informer.synced.is_set()
    assert api.asked == ["list", "watch 9", "list", "watch 20"]
    assert set(informer.in_namespace("n")) == {"b"}
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
