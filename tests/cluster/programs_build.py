"""Builds the programs of the test cluster once, and finds them.

Built are three Go modules with committed checksums (``programs/``) and ``pause.c``. The result
lies outside the clone in a folder named after the pins, put there by one rename: a build that
was killed leaves nothing that could be taken for a whole one, and the next one starts from Go's
own build cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.cluster import pins
from tests.cluster.errors import BuildFailed, CannotHave
from tests.cluster.record import Level

BUILD_HINT: Final = "build the programs once with `python -m tests.cluster build` (about 7 minutes)"
GO_HINT: Final = (
    "Go 1.26 or newer is needed to build the programs of the test cluster and none was found; "
    "install it from your system's packages or go.dev, or set KUBEBUILDER_ASSETS to a folder "
    "with etcd, kube-apiserver, kube-controller-manager and kubectl"
)
#: Beginning of the names of folders in which a build goes on.
SCRATCH: Final = "building-"
#: What the API level needs at least from KUBEBUILDER_ASSETS (envtest's convention).
ASSETS_NEEDED: Final = ("etcd", "kube-apiserver", "kubectl")


def find_programs(level: Level) -> Path:
    """Return the folder of the built programs.

    Raises
    ------
    CannotHave
        If they are not built or this machine can never run `level`; says what to do.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and level is Level.API:
        missing = [name for name in ASSETS_NEEDED if not (Path(assets) / name).exists()]
        if missing:
            raise CannotHave(f"KUBEBUILDER_ASSETS={assets} has no {', '.join(missing)}")
        return Path(assets)
    folder = pins.program_folder()
    if not folder.is_dir():
        raise CannotHave(f"the test cluster's programs are not built: {BUILD_HINT}")
    return folder


def build_programs() -> Path:
    """Build what is not built yet and return the folder. Prints a line for each step.

    Raises
    ------
    CannotHave
        If there is no Go compiler.
    BuildFailed
        If a step fails; names its log.
    """
    folder = pins.program_folder()
    with hold_lock(pins.cache_root() / "build.lock"):
        if folder.is_dir():
            report(f"programs are built already: {folder}")
            return folder
        if shutil.which("go") is None:
            raise CannotHave(GO_HINT)
        for left in pins.cache_root().glob(f"{SCRATCH}*"):
            shutil.rmtree(left)  # of a build that was killed
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=pins.cache_root()))
        try:
            binaries = scratch / "bin"
            binaries.mkdir()
            build_kubernetes(binaries, scratch)
            if platform.system() == "Linux":
                build_containerd(binaries, scratch)
                build_coredns(binaries, scratch)
                build_pause(binaries, scratch)
            scratch.chmod(0o755)
            folder.parent.parent.mkdir(parents=True, exist_ok=True)
            scratch.rename(folder.parent)
        except BaseException:
            keep_logs(scratch)
            raise
    report(f"programs are built: {folder}")
    return folder


def build_kubernetes(binaries: Path, scratch: Path) -> None:
    """Build etcd and Kubernetes as one executable with a link for each program."""
    version = pins.kubernetes_version()
    major, minor, _ = version.split(".")
    package = "k8s.io/component-base/version"
    # Without these the API server calls itself v0.0.0, and clients choose features by it.
    stamps = (f"gitVersion=v{version}", f"gitMajor={major}", f"gitMinor={minor}")
    flags = " ".join(["-s", "-w", *(f"-X {package}.{stamp}" for stamp in stamps)])
    target = binaries / "kubernetes"
    command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", flags]
    run_step(
        f"Kubernetes {version} and etcd (about 5 minutes on 2 cores)",
        [*command, "-o", str(target), "."],
        folder=pins.PROGRAM_SOURCES,
        log=scratch / "kubernetes.log",
        environment={"CGO_ENABLED": "0"},
    )
    names = [*pins.API_PROGRAMS]
    if platform.system() == "Linux":
        names += pins.NODE_PROGRAMS
    for name in names:
        (binaries / name).symlink_to("kubernetes")


def build_containerd(binaries: Path, scratch: Path) -> None:
    """Build containerd, its shim for runc, and ctr."""
    packages = [
        f"github.com/containerd/containerd/v2/cmd/{name}" for name in pins.CONTAINERD_PROGRAMS
    ]
    command = ["go", "build", "-mod=readonly", "-trimpath", "-tags", "no_btrfs"]
    run_step(
        "containerd (about 1 minute)",
        [*command, "-ldflags", "-s -w", "-o", f"{binaries}/", *packages],
        folder=pins.PROGRAM_SOURCES / "containerd",
        log=scratch / "containerd.log",
        environment={"CGO_ENABLED": "0"},
    )


def build_coredns(binaries: Path, scratch: Path) -> None:
    """Build the cluster's name server; it runs as a pod, from an image of its own."""
    command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w"]
    run_step(
        "CoreDNS (about 1 minute)",
        [*command, "-o", str(binaries / "coredns"), "."],
        folder=pins.PROGRAM_SOURCES / "coredns",
        log=scratch / "coredns.log",
        environment={"CGO_ENABLED": "0"},
    )


def build_pause(binaries: Path, scratch: Path) -> None:
    """Build the process that holds a pod's namespaces."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotHave("a C compiler is needed for pause.c; install gcc")
    run_step(
        "pause",
        [compiler, "-Os", "-static", "-s", "-o", str(binaries / "pause"), "pause.c"],
        folder=pins.PROGRAM_SOURCES,
        log=scratch / "pause.log",
    )


def run_step(
    title: str,
    command: list[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run one command of a build with its output in `log`, and report its time."""
    report(f"building {title} ...")
    begun = time.monotonic()
    with log.open("ab") as output:
        code = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildFailed(f"building {title} failed with code {code}; the log ends:\n{tail}")
    report(f"  done in {time.monotonic() - begun:.0f} s")


def keep_logs(scratch: Path) -> None:
    """Remove a build that failed, except for its logs, which take the place of older ones."""
    kept = pins.cache_root() / "failed-build"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for log in scratch.glob("*.log"):
        shutil.move(log, kept / log.name)
    shutil.rmtree(scratch)


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; says so when another build has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another build is running; waiting for it ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def report(line: str) -> None:
    """Print a progress line at once, also where standard output is a file."""
    print(line, file=sys.stderr, flush=True)
