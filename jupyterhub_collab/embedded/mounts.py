"""A pod's containers without containers: paths, addresses and host names rewritten.

A process cannot be given a file system or a network of its own without privileges. So each mount
path becomes a link below the pod's own root folder, and the paths in HOME, the working folder,
arguments and environment are rewritten to lie below it; the address 0.0.0.0 becomes the pod's own
loopback address; names from `hostAliases` become their addresses. Read-only mounts cannot be
enforced: they are links like the others.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..constants import HOME
from ..kube import kinds as k
from .controllers import DRIVER
from .process import Command
from .resources import Json

Reader = Callable[[k.Kind, str | None, str], Awaitable[Json | None]]  # namespace, name -> object

_DEFAULT_COMMAND: Final = ("jupyterhub-singleuser",)
_SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class MountError(Exception):
    """Something the pod needs is not there (yet)."""


@dataclass(frozen=True)
class Rewriter:
    """Rewrites what names a pod's surroundings."""

    root: Path
    mounts: tuple[str, ...]  # absolute paths, longest first
    address: str
    aliases: dict[str, str]  # host name -> address

    def __call__(self, text: str) -> str:
        for path in self.mounts:
            inside = rf"(?<![\w./-]){re.escape(path)}(?![\w.-])"
            text = re.sub(inside, lambda found: f"{self.root}{found[0]}", text)
        text = re.sub(r"(?<![\d.])0\.0\.0\.0(?![\d.])", self.address, text)
        text = re.sub(r"(?<=//)(\[::\])?(?=:\d)|(?<=^--ip=)$", self.address, text)
        for name, address in self.aliases.items():
            here = rf"(?:(?<=//)|(?<=@)|(?<=,)|^){re.escape(name)}(?=$|[:/?#,])"
            text = re.sub(here, address, text)
        return text


def _link(volume: Path, inside: Path, path: Path) -> None:
    """Make `path` a link into a volume, in place of an older link or an empty folder."""
    if not volume.is_dir():
        raise MountError(f"the folder {volume} of a volume is not there")
    target = volume / inside
    target.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        try:
            path.rmdir()
        except OSError as error:
            raise MountError(f"cannot mount at {path}: a folder with content is there") from error
    path.symlink_to(target, target_is_directory=True)


def _write(folder: Path, data: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in data.items():
        opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(opened, "wb") as file:
            file.write(content)
    return folder


class PodFiles:
    """What one pod takes from its folder and from the cluster."""

    def __init__(self, folder: Path, pod: Json, address: str, read: Reader) -> None:
        self._folder = folder
        self._pod = pod
        self._address = address
        self._read = read
        self._namespace: str = pod["metadata"]["namespace"]

    async def _mount_source(self, volume: Json) -> Path:
        folder = self._folder / "volumes" / str(volume["name"])
        if claim := volume.get("persistentVolumeClaim"):
            return await self._claimed_folder(claim["claimName"])
        if "secret" in volume:
            return _write(folder, await self._data(k.SECRET, volume["secret"]["secretName"]))
        if "configMap" in volume:
            return _write(folder, await self._data(k.CONFIG_MAP, volume["configMap"]["name"]))
        if "emptyDir" in volume:
            return _write(folder, {})
        raise MountError(f"volume {volume['name']} is of a type that the embedded node lacks")

    async def _claimed_folder(self, claim_name: str) -> Path:
        claim = await self._read(k.PERSISTENT_VOLUME_CLAIM, self._namespace, claim_name) or {}
        bound = claim.get("spec", {}).get("volumeName", "none")
        volume = await self._read(k.PERSISTENT_VOLUME, None, bound) or {}
        source = volume.get("spec", {}).get("csi") or {}
        if source.get("driver") != DRIVER:
            raise MountError(f"claim {claim_name} has no volume of the driver {DRIVER}")
        return Path(source["volumeAttributes"]["path"])

    async def _data(self, kind: k.Kind, name: str) -> dict[str, bytes]:
        found = await self._read(kind, self._namespace, name)
        if found is None:
            raise MountError(f'{kind.name.lower()} "{name}" not found')
        decode = base64.b64decode if kind is k.SECRET else str.encode
        return {key: decode(value) for key, value in (found.get("data") or {}).items()}

    async def _value(self, entry: Json) -> str:
        """The value of an environment variable."""
        source = entry.get("valueFrom") or {"value": entry.get("value") or ""}
        if reference := source.get("secretKeyRef"):
            data = await self._data(k.SECRET, reference["name"])
            if reference["key"] not in data:
                raise MountError(f"secret {reference['name']} has no key {reference['key']}")
            return data[reference["key"]].decode()
        if reference := source.get("fieldRef"):
            value: Any = {**self._pod, "status": {"podIP": self._address}}
            for part in reference["fieldPath"].split("."):
                value = value.get(part, "")
            return str(value)
        if "value" not in source:
            raise MountError(f"env {entry['name']}: {next(iter(source))} is not supported here")
        return str(source["value"])

    async def make_command(self, container: Json) -> Command:
        """Mount what the container mounts, and say what to run: in our own Python environment,
        whatever the image.

        Raises
        ------
        MountError
            Something is missing; it may come.
        """
        spec, root = self._pod["spec"], self._folder / "root"
        sources = {v["name"]: v for v in spec.get("volumes") or ()}
        mounts = sorted(container.get("volumeMounts") or (), key=lambda m: len(m["mountPath"]))
        for mount in mounts:
            inside = Path(mount.get("subPath", ""))
            if ".." in inside.parts or inside.is_absolute():
                raise MountError(f"subPath {inside} must be relative and without '..'")
            folder = await self._mount_source(sources[mount["name"]])
            _link(folder, inside, root / mount["mountPath"].strip("/"))
        paths = {m["mountPath"].rstrip("/") for m in mounts} | {HOME}
        aliases = {n: a["ip"] for a in spec.get("hostAliases") or () for n in a["hostnames"]}
        longest_first = tuple(sorted(paths, key=len, reverse=True))
        rewrite = Rewriter(root, longest_first, self._address, aliases)
        env = {"LANG": "C.UTF-8", "HOSTNAME": self._pod["metadata"]["name"], "HOME": rewrite(HOME)}
        for entry in container.get("env") or ():
            env[entry["name"]] = rewrite(await self._value(entry))
        own_path = f"{sys.prefix}/bin:{_SYSTEM_PATH}"
        env["PATH"] = f"{env['PATH']}:{own_path}" if env.get("PATH") else own_path
        cwd = Path(rewrite(container.get("workingDir") or env["HOME"]))
        for needed in (Path(env["HOME"]), cwd):
            needed.mkdir(parents=True, exist_ok=True)
        given = [*(container.get("command") or ()), *(container.get("args") or ())]
        argv = [rewrite(a) for a in given or _DEFAULT_COMMAND]
        if os.geteuid() == 0 and Path(argv[0]).name.startswith("jupyter"):
            argv.append("--allow-root")  # in a container the image's user is an ordinary one
        return Command(tuple(argv), env, cwd)
