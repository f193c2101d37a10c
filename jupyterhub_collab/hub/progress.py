"""What happens while a server starts, as it happens, in words a person understands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from .reflector import PodEvent

_MESSAGES_MAX = 200  # of one start; a pod that cannot be placed repeats itself for long

# Reasons of pod events that tell a person something, and how far along that is, in per cent.
_SENTENCES: dict[str, tuple[int, str]] = {
    "Scheduled": (50, "A machine has room for your server."),
    "FailedScheduling": (
        45,
        "No machine has room for your server yet. It starts as soon as one has.",
    ),
    "NotTriggerScaleUp": (45, "No machine has room for your server yet, and none can be added."),
    "TriggeredScaleUp": (45, "A machine is being added for your server. This takes minutes."),
    "SuccessfulAttachVolume": (55, "A volume is attached."),
    "FailedAttachVolume": (50, "A volume is still in use elsewhere. Trying again."),
    "FailedMount": (50, "A volume cannot be opened yet. Trying again."),
    "Pulling": (60, "The environment is being fetched. The first time on a machine takes long."),
    "Pulled": (75, "The environment is there."),
    "Created": (80, "Your server is made."),
    "Started": (85, "JupyterLab starts."),
    "BackOff": (60, "Something does not work yet. Trying again, ever more slowly."),
    "Failed": (60, "Something went wrong."),
    "Evicted": (60, "The machine ran out of something and gave your server up."),
    "Killing": (60, "The server is being stopped."),
}

# The scheduler's words where no machine lacks room: sentences by what stands in its message, the
# first that fits. It counts machines by what keeps the pod off each.
_NOT_PLACED: Final = (
    ("unbound immediate PersistentVolumeClaims", "A volume is still being made."),
    ("Insufficient ", ""),  # at least one machine would take it, if it had room
    (
        "were unschedulable",
        "The cluster's machines are being worked on and take no new servers at the moment. Your"
        " server starts as soon as one does.",
    ),
    (
        "node.kubernetes.io/",  # taints such as not-ready, unreachable, memory-pressure
        "The cluster's machines are not well at the moment. Your server starts as soon as one is.",
    ),
    (
        "had untolerated taint",
        "No machine takes servers of your team. Tell an administrator of this hub.",
    ),
)


_VOLUME_SENTENCE: Final = _NOT_PLACED[0][1]


def _why_not_placed(message: str) -> str:
    """Sentence for the scheduler's message; empty where machines lack room."""
    return next((sentence for words, sentence in _NOT_PLACED if words in message), "")


class ProgressLog:
    """Messages of one start. Any number of pages may follow it, each from the beginning."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self.is_closed = False
        self._percent = 0
        self._seen: set[tuple[str, int]] = set()

    @property
    def last_warning(self) -> str:
        """Message of the last warning among the pod's events, empty when there was none."""
        for message in reversed(self._messages):
            raw = message.get("raw_event")
            if raw is not None and raw["type"] == "Warning":
                return str(raw["message"])
        return ""

    def say(self, sentence: str, *, percent: int, raw: dict[str, Any] | None = None) -> None:
        """Add a message. The bar never goes back."""
        if self.is_closed or len(self._messages) >= _MESSAGES_MAX:
            return
        if raw is None and self._messages and self._messages[-1]["message"] == sentence:
            return
        self._percent = max(self._percent, percent)
        message: dict[str, Any] = {"progress": self._percent, "message": sentence}
        if raw is not None:
            message["raw_event"] = raw
        self._messages.append(message)
        self._wake()

    def tell(self, event: PodEvent) -> None:
        """Add a pod's event, once, however often the API repeats it."""
        key = (event.uid or event.message, event.count)
        if key in self._seen:
            return
        self._seen.add(key)
        percent, sentence = _SENTENCES.get(event.reason, (0, ""))
        if event.reason == "FailedScheduling":
            sentence = _why_not_placed(event.message) or sentence
            if sentence == _VOLUME_SENTENCE:  # its words would only worry
                self.say(sentence, percent=percent)
                return
        if not sentence and event.type != "Warning":
            return
        if event.type == "Warning":
            sentence = f"{sentence or 'Something does not work yet.'} ({event.message})"
        raw = {
            "type": event.type,
            "reason": event.reason,
            "message": event.message,
            "lastTimestamp": event.time,
            "eventTime": event.time,
        }
        self.say(sentence, percent=percent, raw=raw)

    def close(self) -> None:
        """Nothing more will come."""
        self.is_closed = True
        self._wake()

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """All messages, then those to come, until it is closed."""
        sent = 0
        while True:
            while sent < len(self._messages):
                sent += 1
                yield dict(self._messages[sent - 1])
            if self.is_closed:
                return
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
