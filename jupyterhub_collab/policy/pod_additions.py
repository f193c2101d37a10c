"""What somebody other than us added to a server's pod, and may not have.

An administrator may add sidecars, scratch and configuration volumes, probes and hooks. Refused is
whatever reaches the node, another claim, another image, or lies over our own mounts. Names are
compared whole, never by a beginning or a pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import constants
from ..models import TeamSpec

NOTEBOOK = "notebook"  # KubeSpawner's name of the server's container
_OURS = "collab-"  # volumes whose names begin so are ours alone
_VOLUME_KINDS = frozenset({"emptyDir", "configMap", "secret", "downwardAPI"})
_CONTAINER_KEYS = frozenset(
    {
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "name",
        "ports",
        "readinessProbe",
        "resources",
        "restartPolicy",
        "securityContext",
        "startupProbe",
        "stdin",
        "stdinOnce",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "tty",
        "volumeMounts",
        "workingDir",
    }
)
_PORT_KEYS = frozenset({"name", "containerPort", "protocol"})
_MOUNT_KEYS = frozenset({"name", "mountPath", "readOnly", "subPath"})
_EMPTY: tuple[object, ...] = (None, False, "", [], {})


def shape_problems(spec: object) -> list[str]:
    """What is not a list or a mapping where Kubernetes has one: nothing else can be read then."""
    if not isinstance(spec, Mapping):
        return ["spec is not a mapping"]
    problems = _not_mappings(spec, "spec", ("nodeSelector", "affinity", "securityContext"))
    for key in ("volumes", "containers", "initContainers"):
        problems += _not_named(spec.get(key), f"spec.{key}")
    if problems:
        return problems
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        where = f"container {container['name']}"
        problems += _not_mappings(container, where, ("securityContext", "resources"))
        for key in ("env", "volumeMounts"):
            problems += _not_named(container.get(key), f"{where}: {key}")
        ports = container.get("ports") or []
        if not isinstance(ports, list) or not all(isinstance(port, Mapping) for port in ports):
            problems.append(f"{where}: ports is not a list of mappings")
    return problems


def _not_mappings(parent: Mapping[str, Any], where: str, keys: tuple[str, ...]) -> list[str]:
    wrong = [k for k in keys if not isinstance(parent.get(k) or {}, Mapping)]
    return [f"{where}: {key} is not a mapping" for key in wrong]


def _not_named(items: object, where: str) -> list[str]:
    items = items or []
    if isinstance(items, list) and all(
        isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in items
    ):
        return []
    return [f"{where} is not a list of mappings with names"]


def added_problems(
    spec: Mapping[str, Any], team: TeamSpec, extra_images: frozenset[str]
) -> list[str]:
    """All that is wrong with the volumes and containers of a pod spec, before ours are in it."""
    problems: list[str] = []
    volumes = spec.get("volumes") or []
    for volume in volumes:
        problems += _volume_problems(volume)
    problems += _twice("volume", volumes)
    containers = spec.get("containers") or []
    init = spec.get("initContainers") or []
    if sum(c.get("name") == NOTEBOOK for c in containers) != 1:
        problems.append(f"there is not exactly one container {NOTEBOOK}")
    problems += _twice("container", [*init, *containers])
    for container in [*init, *containers]:
        problems += _container_problems(container)
        allowed = extra_images | {image.reference for image in team.images.values()}
        # The notebook's image is set by us whatever it was.
        if container.get("name") != NOTEBOOK and container.get("image") not in allowed:
            problems.append(
                f"container {container.get('name')}: the image {container.get('image')} is not"
                " among the team's images, the platform's extra_images and"
                " TeamSpawner.allowed_extra_images"
            )
    return problems


def literal_problems(value: object, secrets: frozenset[str]) -> list[str]:
    """Where a token stands in clear text; the text of the answer does not repeat it."""
    return [
        f"{path} holds a token in clear text"
        for path, text in _texts(value, "pod")
        if any(secret and secret in text for secret in secrets)
    ]


def _volume_problems(volume: Mapping[str, Any]) -> list[str]:
    name = volume.get("name")
    kinds = [key for key in volume if key != "name" and volume[key] is not None]
    problems = [f"volume {name}: {k} is not allowed" for k in kinds if k not in _VOLUME_KINDS]
    if str(name).startswith(_OURS):
        problems.append(f"volume {name}: names that begin with {_OURS} are ours")
    if not kinds:
        problems.append(f"volume {name} has no source")
    return problems


def _container_problems(container: Mapping[str, Any]) -> list[str]:
    where = f"container {container.get('name')}"
    problems = [
        f"{where}: {key} is set"
        for key in sorted(container)
        if key not in _CONTAINER_KEYS and container[key] not in _EMPTY
    ]
    for port in container.get("ports") or []:
        problems += [f"{where}: a port's {k} is set" for k in _others(port, _PORT_KEYS)]
    for mount in container.get("volumeMounts") or []:
        problems += [f"{where}: a mount's {k} is set" for k in _others(mount, _MOUNT_KEYS)]
        path = str(mount.get("mountPath"))
        if _hides_ours(path):
            problems.append(f"{where}: a volume is mounted over ours at {path}")
        if ".." in str(mount.get("subPath") or "").split("/"):
            problems.append(f"{where}: a mount's subPath leads out of its volume")
        if str(mount.get("name")).startswith(_OURS):
            problems.append(f"{where}: mounts the volume {mount.get('name')}, which is ours")
    for key in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
        # The kubelet makes these requests itself, from the node's network.
        for path, text in _texts(container.get(key), key):
            if path.endswith(".host") and text:
                problems.append(f"{where}: {path} is set")
    return problems


def _hides_ours(path: str) -> bool:
    """Whether a mount at ``path`` would hide one of ours or lie in the team's or a data set's."""
    parts = _parts(path)
    if ".." in parts:
        return True
    home = _parts(constants.HOME)
    inner = [
        _parts(p)
        for p in (
            constants.TEAM_MOUNT,
            constants.DATASETS_MOUNT,
            constants.FROZEN_PERSONAL_MOUNT,
        )
    ]
    covers_home = home[: len(parts)] == parts
    return covers_home or any(parts[: len(folder)] == folder for folder in inner)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _others(mapping: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    return [k for k in sorted(mapping) if k not in known and mapping[k] not in _EMPTY]


def _twice(word: str, items: list[dict[str, Any]]) -> list[str]:
    found = [item.get("name") for item in items]
    return [
        f"two {word}s are called {n}" for n in sorted({str(n) for n in found if found.count(n) > 1})
    ]


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield f"{path} (a key)", key
            yield from _texts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _texts(item, f"{path}[{i}]")
    elif isinstance(value, str):
        yield path, value
