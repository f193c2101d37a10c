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
from .controllers import DRIVER
from .folder import Paths
from .process import Command

Json = dict[str, Any]
Reader = Callable[[str, str, str], Awaitable[Json | None]]  # plural, namespace, name -> object

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
            inside = re.compile(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])")
            text = inside.sub(lambda m: f"{self.root}{m[0]}", text)
        text = re.sub(r"(?<![\d.])0\.0\.0\.0(?![\d.])", self.address, text)
        text = re.sub(r"(?<=//)(\[::\])?(?=:\d)|^(?<=)--ip=\Z", self._own_address, text)
        for name, address in self.aliases.items():
            here = rf"(?:(?<=//)|(?<=@)|(?<=,)|^){re.escape(name)}(?=$|[:/?#,])"
            text = re.sub(here, address, text)
        return text

    def _own_address(self, match: re.Match[str]) -> str:
        return f"--ip={self.address}" if match[0].startswith("--") else self.address


def _link(target: Path, path: Path) -> None:
    """Make `path` a link to `target`, in place of an older link or an empty folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        try:
            path.rmdir()
        except OSError as error:
            raise MountError(f"cannot mount at {path}: a folder with content is there") from error
    path.symlink_to(target, target_is_directory=True)


class PodFiles:
    """The folder of one pod, and what it takes from the cluster."""

    def __init__(self, paths: Paths, pod: Json, address: str, read: Reader) -> None:
        self._pod = pod
        self._address = address
        self._read = read
        self._namespace: str = pod["metadata"]["namespace"]
        self.folder: Path = paths.pods / pod["metadata"]["uid"]
        self._root = self.folder / "root"

    async def _volume_folder(self, volume: Json) -> Path:
        name = volume["name"]
        if claim_source := volume.get("persistentVolumeClaim"):
            return await self._claim_folder(claim_source["claimName"])
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        for source, plural, key in (
            ("secret", "secrets", "secretName"),
            ("configMap", "configmaps", "name"),
        ):
            if source in volume:
                data = await self._data(plural, volume[source][key])
                for file, content in data.items():
                    opened = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                    with open(opened, "wb") as out:
                        out.write(content)
                return folder
        if "emptyDir" not in volume:
            raise MountError(f'volume "{name}" is of a type that the embedded node does not have')
        return folder

    async def _claim_folder(self, name: str) -> Path:
        claim = await self._read("persistentvolumeclaims", self._namespace, name)
        bound = (claim or {}).get("spec", {}).get("volumeName")
        volume = await self._read("persistentvolumes", "", bound) if bound else None
        source = (volume or {}).get("spec", {}).get("csi") or {}
        if source.get("driver") != DRIVER:
            raise MountError(f'claim "{name}" has no volume of the driver {DRIVER}')
        folder = Path(source["volumeAttributes"]["path"])
        if "provisioned" in source["volumeAttributes"]:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.is_dir():
            raise MountError(f'the folder {folder} of claim "{name}" is not there')
        return folder

    async def _data(self, plural: str, name: str) -> dict[str, bytes]:
        obj = await self._read(plural, self._namespace, name)
        if obj is None:
            raise MountError(f'{plural[:-1]} "{name}" not found')
        data = obj.get("data") or {}
        if plural == "secrets":
            return {k: base64.b64decode(v) for k, v in data.items()}
        return {k: v.encode() for k, v in data.items()}

    async def _environment(self, container: Json) -> dict[str, str]:
        env: dict[str, str] = {}
        for entry in container.get("env") or ():
            source = entry.get("valueFrom") or {}
            if reference := source.get("secretKeyRef"):
                data = await self._data("secrets", reference["name"])
                if reference["key"] not in data:
                    raise MountError(f"secret {reference['name']} has no key {reference['key']}")
                env[entry["name"]] = data[reference["key"]].decode()
            elif reference := source.get("fieldRef"):
                value: Any = {**self._pod, "status": {"podIP": self._address}}
                for part in reference["fieldPath"].split("."):
                    value = value.get(part, "") if isinstance(value, dict) else ""
                env[entry["name"]] = str(value)
            elif source:
                raise MountError(f"env {entry['name']}: {next(iter(source))} is not supported here")
            else:
                env[entry["name"]] = entry.get("value") or ""
        return env

    async def make_command(self, container: Json, images: dict[str, str]) -> Command:
        """Mount what the container mounts, and say what to run.

        Parameters
        ----------
        images
            Image name -> prefix of the Python environment that stands for it; others get ours.

        Raises
        ------
        MountError
            Something is missing; it may come.
        """
        sources = {v["name"]: v for v in self._pod["spec"].get("volumes") or ()}
        mounts = sorted(container.get("volumeMounts") or (), key=lambda m: len(m["mountPath"]))
        self._root.mkdir(parents=True, exist_ok=True)
        for mount in mounts:
            folder = await self._volume_folder(sources[mount["name"]])
            if sub_path := mount.get("subPath"):
                folder = folder / sub_path
                if ".." in Path(sub_path).parts or Path(sub_path).is_absolute():
                    raise MountError(f"subPath {sub_path} must be relative and without '..'")
                folder.mkdir(parents=True, exist_ok=True)
            _link(folder, self._root / mount["mountPath"].strip("/"))
        aliases = self._pod["spec"].get("hostAliases") or ()
        paths = {m["mountPath"].rstrip("/") for m in mounts} | {HOME}
        rewrite = Rewriter(
            self._root,
            tuple(sorted(paths, key=len, reverse=True)),
            self._address,
            {name: alias["ip"] for alias in aliases for name in alias.get("hostnames", ())},
        )
        env = {k: rewrite(v) for k, v in (await self._environment(container)).items()}
        prefix = images.get(container.get("image", ""), sys.prefix)
        own_path = f"{prefix}/bin:{_SYSTEM_PATH}"
        env["PATH"] = f"{env['PATH']}:{own_path}" if env.get("PATH") else own_path
        env = {"LANG": "C.UTF-8", "HOSTNAME": self._pod["metadata"]["name"], **env}
        env.setdefault("HOME", rewrite(HOME))
        cwd = Path(rewrite(container.get("workingDir") or env["HOME"]))
        for needed in (Path(env["HOME"]), cwd):
            needed.mkdir(parents=True, exist_ok=True)
        argv = [*(container.get("command") or ()), *(container.get("args") or ())]
        argv = [rewrite(a) for a in argv or _DEFAULT_COMMAND]
        if os.geteuid() == 0 and Path(argv[0]).name.startswith("jupyter"):
            argv.append("--allow-root")  # in a container the image's user is an ordinary one
        return Command(tuple(argv), env, cwd)
