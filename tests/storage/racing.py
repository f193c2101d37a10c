"""One of several processes that spend the same tokens at the same time: `URL COUNT EXPIRES`.

Says "ready", waits for a line, then prints the numbers of those it was the first to spend.
"""

import asyncio
import sys
from datetime import datetime, timezone

from sqlalchemy import create_engine

from jupyterhub_collab.storage.spent_tokens import SpentTokens


async def main(url: str, count: int, expires: datetime) -> None:
    engine = create_engine(url)
    spent = SpentTokens(engine)
    spent.create_tables()
    print("ready", flush=True)
    sys.stdin.readline()
    first = [i for i in range(count) if await spent.spend("portal", f"token-{i}", expires)]
    print(*first, flush=True)
    spent.close()
    engine.dispose()


asyncio.run(
    main(sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), timezone.utc))
)
