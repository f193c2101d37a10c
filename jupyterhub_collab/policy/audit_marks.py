"""What the audit log says of itself in its own events: erasures, retirements, gaps.

`storage.audit_log` writes these details in the transaction that does what they tell, and a check of
the log reads them here. What cannot be read allows nothing.

It must not: decide what is erased, retired or missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..models.audit import PARTS

SEQUENCES: Final = "sequences"  # of audit.erase: "12:subject"
UNTIL: Final = "until"  # of audit.retire: the last event that is gone
_EMITTER: Final = "emitter"  # of audit.gap, as the next three
_INCARNATION: Final = "incarnation"
_FIRST: Final = "first"
_LAST: Final = "last"
_ERASED: Final = re.compile(r"([1-9][0-9]{0,18}):(" + "|".join(PARTS) + ")")


@dataclass(frozen=True)
class Gap:
    """Events of an emitter that never came, by its own count: `first` to `last`."""

    emitter: str
    incarnation: str
    first: int
    last: int


def read_erased(details: Mapping[str, Any]) -> list[tuple[int, str]]:
    """What an audit.erase event erased. What cannot be read is left out."""
    texts = details.get(SEQUENCES, ())
    found = (_ERASED.fullmatch(text) for text in texts if isinstance(text, str))
    return [(int(match[1]), match[2]) for match in found if match]


def read_retired(details: Mapping[str, Any]) -> int:
    """The last event that an audit.retire event took away; 0 if it cannot be read."""
    until = details.get(UNTIL)
    return until if type(until) is int and until > 0 else 0


def read_gap(details: Mapping[str, Any]) -> Gap | None:
    """What an audit.gap event tells; None if it cannot be read."""
    emitter, incarnation = details.get(_EMITTER), details.get(_INCARNATION)
    first, last = details.get(_FIRST), details.get(_LAST)
    if not isinstance(emitter, str) or not isinstance(incarnation, str):
        return None
    if type(first) is not int or type(last) is not int or not 0 < first <= last:
        return None
    return Gap(emitter, incarnation, first, last)
