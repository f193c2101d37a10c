"""kill -9 of a program that emits: what `emit` returned for is delivered once, in order."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from jupyterhub_collab.timeouts import timeout
from tests.auditapi.scripted_service import CUT, LOST, TOKEN, Service, Status

KILLS = 8


async def test_nothing_told_is_lost_or_told_twice(service: Service, folder: Path) -> None:
    chance = random.Random(6)
    told = 0
    for kill in range(KILLS):
        service.script.clear()
        service.script.extend(chance.choices([None, LOST, CUT, Status(503)], k=50))
        if kill % 4 == 3:
            service.always = CUT  # away for all of this life
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.auditapi.emitting",
            *map(str, (folder, service.url, TOKEN, told)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert program.stdout is not None
        async with timeout(30):
            assert await program.stdout.readline() == b"started\n"
        reading = asyncio.create_task(program.stdout.read())
        await asyncio.sleep(chance.uniform(0.01, 0.3))  # the moment is what is drawn
        program.kill()
        await program.wait()
        lines = (await reading).split(b"\n")[:-1]
        # What was being written when it was killed may be there or not; the next life goes on
        # behind it, so that each number that comes twice was told twice.
        told = int(lines[-1]) + 2 if lines else told + 1
        service.always = None
    service.script.clear()
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.auditapi.emitting",
        *map(str, (folder, service.url, TOKEN, told)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with service.changed, timeout(60):
        await service.changed.wait_for(lambda: str(told) in service.things[-2000:])
    program.kill()
    await program.wait()
    numbers = [int(thing) for thing in service.things]
    assert numbers == sorted(set(numbers))
    missing = set(range(told)) - set(numbers)
    assert len(missing) <= KILLS + 1  # numbers between two lives, which nobody was told of
    assert all(number + 1 in numbers or number + 1 == told for number in missing)
    (log,) = service.stored.values()
    assert [sequence for sequence, _ in log] == list(range(1, len(log) + 1))
    assert service.late
