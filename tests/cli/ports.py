"""A port that is taken for a while."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Listen on 127.0.0.1 at ``port``."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
        yield
