"""One at a time, whatever happens to the one."""

from __future__ import annotations

import asyncio
import copy
import os
import subprocess
import sys
from typing import Any

import pytest

from jupyterhub_collab.kube.errors import Target, from_status, no_answer
from jupyterhub_collab.kube.lease import Lease, _start_of, _world, is_dead, make_identity


class OneLease:
    """An API with one Lease in it, and a clock."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.now = 0.0
        self.is_away = False

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _answer(self) -> dict[str, Any]:
        if self.is_away:
            raise no_answer(Target("get", "Lease"), TimeoutError())
        if self.lease is None:
            raise from_status(Target("get", "Lease"), 404, {})
        return copy.deepcopy(self.lease)

    async def get(self, kind: Any, name: str, namespace: str | None = None) -> dict[str, Any]:
        return self._answer()

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.lease = copy.deepcopy(manifest)
        self._touch()
        return self._answer()

    def _touch(self) -> None:
        assert self.lease is not None
        self.version += 1
        self.lease["metadata"]["resourceVersion"] = str(self.version)

    async def patch(self, kind: Any, name: str, patch: Any, **_: Any) -> dict[str, Any]:
        self._answer()
        assert self.lease is not None
        if patch["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise from_status(Target("patch", "Lease"), 409, {})
        self.lease["spec"] = patch["spec"]
        self._touch()
        return self._answer()


def make(api: OneLease, identity: str) -> Lease:
    return Lease(
        api,  # type: ignore[arg-type]
        "l",
        "n",
        identity=identity,
        duration_s=15,
        clock=lambda: api.now,
        sleep=api.sleep,
    )


async def test_the_first_has_it_the_second_waits_until_it_is_stale() -> None:
    api = OneLease()
    first, second = make(api, "first"), make(api, "second")
    await first.acquire()
    assert first.held
    await second.acquire()
    assert second.held
    assert api.now > 15
    assert second.holder == "second"


async def test_given_back_it_is_free_at_once() -> None:
    api = OneLease()
    first, second = make(api, "first"), make(api, "second")
    await first.acquire()
    await first.release()
    await second.acquire()
    assert api.now == 0


async def test_the_holder_finds_out_that_another_has_it() -> None:
    api = OneLease()
    first, second = make(api, "first"), make(api, "second")
    await first.acquire()
    await second.acquire()
    await first.hold()
    assert not first.held
    assert second.held


async def test_the_holder_ends_before_another_may_begin_when_the_api_is_away() -> None:
    api = OneLease()
    first = make(api, "first")
    await first.acquire()
    api.is_away = True
    await first.hold()
    assert not first.held
    assert api.now < 15  # others may take it then


async def test_renewal_keeps_it() -> None:
    api = OneLease()
    first, second = make(api, "first"), make(api, "second")
    await first.acquire()
    for _ in range(20):
        await api.sleep(5)
        assert await first._try()
        assert not await second._try()


@pytest.mark.parametrize("turns", range(8))
async def test_a_holder_that_is_told_to_end_just_as_it_renews_ends(turns: int) -> None:
    class Turning(OneLease):
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(0)

    first = make(Turning(), "first")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    for _ in range(turns):
        await asyncio.sleep(0)
    holding.cancel()
    done, _ = await asyncio.wait({holding}, timeout=1)
    assert done, "it holds on after it was told to end"


@pytest.mark.skipif(not _world(), reason="process ids cannot be told apart here")
def test_a_dead_holder_on_this_machine_is_known_to_be_dead() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    identity = f"{_world()}/{child.pid}/{_start_of(str(child.pid))}"
    try:
        assert not is_dead(identity)
        assert is_dead(f"{_world()}/{child.pid}/1"), "another process has its number now"
    finally:
        child.kill()
        child.communicate()
    assert is_dead(identity)
    assert not is_dead(make_identity())
    assert not is_dead(f"another-machine/pid:[1]/{os.getpid()}/1")
    assert not is_dead("some-uuid")
