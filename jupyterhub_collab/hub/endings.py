"""Why a server cannot start, or has ended, as sentences: from what the cluster says of its pod.

Pure. The person who reads them cannot see events or pods; what the cluster's own words add is in
the progress messages and in the hub's log. It must not guess: where nothing is known, it says only
what is seen.
"""

from __future__ import annotations

import re
from typing import Final

from .reflector import PodView

# Kubernetes goes back and forth between an attempt and the pause after it: both count.
_STUCK: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImagePull",
        "ImagePullBackOff",
        "RunContainerError",
    }
)
_HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})

# What a registry's no looks like in the container runtime's words. Whether somebody may and
# whether it exists are the same answer for many registries. A number counts only where it is the
# status of an answer: a port or a tag may be 404 as well.
_STATUS: Final = r"\b(?:status(?: code)?|HTTP(?:/[\d.]+)?)[:=]? *\[?(?:\w+ )?"
_REFUSED: Final = re.compile(
    r"unauthorized|forbidden|authorization failed|pull access denied|insufficient_scope"
    rf"|{_STATUS}40[13]\b",
    re.I,
)
_NOT_FOUND: Final = re.compile(rf"not found|manifest unknown|name unknown|{_STATUS}404\b", re.I)
# Image references and addresses: quoted and without a space, or with a slash in them.
_NAMES: Final = re.compile(r"""(["'`])[^\s"'`]+\1|\S*/\S*""")

_FILES: Final = "Your files are in place. Start it again."


def is_stuck(view: PodView) -> bool:
    """Whether its container cannot be made at the moment; that may pass."""
    return view.waiting in _STUCK or is_hopeless(view)


def is_hopeless(view: PodView) -> bool:
    """Whether its container cannot be made however long one waits."""
    if view.waiting in _HOPELESS:
        return True
    is_pull = view.waiting in ("ErrImagePull", "ImagePullBackOff")
    text = _without_names(view.waiting_message)
    return is_pull and bool(_NOT_FOUND.search(text) or _REFUSED.search(text))


def _without_names(message: str) -> str:
    """What the runtime says, without the names in it: those are free, and could say anything."""
    return _NAMES.sub("-", message)


def to_stuck(view: PodView, *, image_id: str, reference: str) -> str:
    """Why a server's container cannot be made.

    Parameters
    ----------
    image_id
        What the person chose.
    reference
        The image behind it, which the host of the contest can put right.
    """
    if "Image" not in view.waiting:
        return f"Your server could not be made: {view.waiting_message or view.waiting}."
    return (
        f"The environment {image_id} cannot be fetched: {_why_not_fetched(view)} ({reference})."
        " Choose another one, and tell the host of the contest."
    )


def _why_not_fetched(view: PodView) -> str:
    text = _without_names(view.waiting_message)
    if view.waiting == "InvalidImageName":
        return "its image has no valid name"
    if view.waiting == "ErrImageNeverPull":
        return "its image is not on the machine, and none is fetched"
    if _REFUSED.search(text):
        return "the registry does not give its image to this cluster"
    if _NOT_FOUND.search(text):
        return "the registry has no such image"
    return "the registry of its image does not answer as it should"


def to_last_words(view: PodView) -> str:
    """Why a server ended while it started."""
    if view.exit_reason == "OOMKilled" or view.status_reason == "Evicted" or view.disruption:
        return to_end(view)
    code = f" with exit code {view.exit_code}" if view.exit_code is not None else ""
    return (
        f"Your server ended{code} while it started. Something in your home folder may keep it from"
        " starting (.jupyter, .local), or the environment is broken."
    )


def to_end(view: PodView | None) -> str:
    """Why a server that ran has ended; empty where its own end was an orderly one.

    Parameters
    ----------
    view
        The last that was seen of its pod; None when nothing was.
    """
    if view is None:
        return f"Your server was removed from the cluster. {_FILES}"
    if view.status_reason == "Evicted":
        return _to_eviction(view.status_message)
    if view.exit_reason == "OOMKilled":
        return (
            "Your server used more memory than its profile has, and was stopped. Choose a larger"
            " profile."
        )
    known = _DISRUPTIONS.get(view.disruption)
    if known is not None:
        return f"{known} {_FILES}"
    if view.exit_reason == "ContainerStatusUnknown" or view.status_reason in _NODE_REASONS:
        return f"The machine that your server ran on was restarted. {_FILES}"
    if view.status_reason:
        said = view.status_message.strip().rstrip(".") or view.status_reason
        return f"The cluster gave your server up: {said}. {_FILES}"
    if view.exit_code is None:
        return f"Your server was removed from the cluster. {_FILES}" if view.is_terminating else ""
    return f"Your server ended with exit code {view.exit_code}." if view.exit_code else ""


def to_end_reason(view: PodView | None) -> str:
    """The same as a word, for the audit log."""
    if view is None:
        return "removed"
    if view.status_reason == "Evicted":
        return "evicted"
    if view.exit_reason == "OOMKilled":
        return "out-of-memory"
    if view.disruption:
        return "disrupted"
    if view.exit_reason == "ContainerStatusUnknown" or view.status_reason:
        return "node-lost" if view.status_reason in _NODE_REASONS else "given-up"
    if view.exit_code is None:
        return "removed"
    return "failed" if view.exit_code else "ended"


_NODE_REASONS: Final = frozenset(
    {"NodeLost", "NodeShutdown", "Terminated", "UnexpectedAdmissionError"}
)
# Reasons of the pod condition DisruptionTarget.
_DISRUPTIONS: Final = {
    "EvictionByEvictionAPI": "The machine that your server ran on was taken out of service.",
    "DeletionByTaintManager": "The machine that your server ran on stopped answering.",
    "DeletionByPodGC": "The machine that your server ran on is gone.",
    "PreemptionByScheduler": "Your server made room for a more important one.",
    "TerminationByKubelet": "The machine that your server ran on was shut down.",
}


def _to_eviction(message: str) -> str:
    """From the kubelet's words for what ran out."""
    if "low on resource: memory" in message:
        return f"The machine ran out of memory and gave your server up. {_FILES}"
    if "ephemeral" in message or "emptyDir" in message:
        return (
            "Your server wrote more outside your home and your team's folder than it may, to /tmp"
            " for instance, and was stopped. Files there are lost; all others are in place."
        )
    return f"The machine gave your server up: {message or 'it ran out of something'}"
