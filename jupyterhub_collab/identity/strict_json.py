"""JSON from outside, read one way only.

Two readers that take different ones of two members of the same name can be played against each
other, so a name said twice is refused; so are NaN and Infinity, which are no JSON. Errors never
repeat what they read: it may be a token.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 32  # real documents nest five deep; deeper ones only cost stack


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8 that these bytes are.

    Raises
    ------
    ValueError
        They are none. The text says why and holds nothing of them.
    """
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_to_object, parse_constant=_refuse_constant
        )
    except _RefusedError as e:
        raise ValueError(str(e)) from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None  # the cause holds the bytes
    except ValueError:
        raise ValueError("it is not JSON") from None  # likewise
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    if _depth(found) > MAX_DEPTH:
        raise ValueError("it nests too deep")
    return found


class _RefusedError(ValueError):
    """Well-formed, and still refused."""


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError("it says a name twice")
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise _RefusedError("it holds NaN or Infinity")


def _depth(found: object) -> int:
    """How deep objects and lists nest, counted without recursion; stops past `MAX_DEPTH`."""
    level: list[object] = [found]
    depth = 0
    while level and depth <= MAX_DEPTH:
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = [item for item in below if isinstance(item, dict | list)]
        depth += 1
    return depth
