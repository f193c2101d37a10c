"""Builds the images that the tests run, and a store of them that a node starts with.

The Dockerfiles in ``images/`` are the product's; their base is a build argument, which is a
Debian bootstrapped here. buildah builds them; each becomes an archive in the cache, named
after the hash of everything that goes into it, so that what has not changed is not built.

The store is containerd's own folder with all images imported. A node gets a copy of its small
files and links to its snapshots (which are never written to), in a blink where an import takes a
quarter of a minute. A store that a node uses is locked and not deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from tests.cluster import debian, pins
from tests.cluster.errors import BuildFailed, CannotHave, ClusterError
from tests.cluster.node_files import PAUSE_IMAGE, NodePaths, make_containerd_settings
from tests.cluster.programs_build import SCRATCH, hold_lock, run_step

SUITE: Final = "bookworm"
BASE_PACKAGES: Final = ("ca-certificates", "python3", "python3-venv", "tini")
#: Raise when the way of building changes without a change of what goes in.
IMAGE_RECIPE: Final = "2"

BASE_IMAGE: Final = "collab.test/base:1"
SINGLEUSER_IMAGE: Final = "collab.test/singleuser-basic:1"
HUB_IMAGE: Final = "collab.test/hub:1"
PROXY_IMAGE: Final = "collab.test/proxy:1"
COREDNS_IMAGE: Final = "collab.test/coredns:1"


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile of the product, and what it copies from the repository."""

    dockerfile: str
    context: tuple[str, ...]


LOWEST_FLOOR: Final = tuple(
    f"jupyterhub_collab/{name}.py" for name in ("__init__", "constants", "errors", "names", "units")
)
PACKAGING: Final = ("constraints.txt", "setup.py", "pyproject.toml", "LICENSE")
RECIPES: Final = {
    SINGLEUSER_IMAGE: Recipe(
        "images/singleuser-basic/Dockerfile",
        (*PACKAGING, *LOWEST_FLOOR, "jupyterhub_collab/singleuser"),
    ),
    HUB_IMAGE: Recipe("images/hub/Dockerfile", (*PACKAGING, "jupyterhub_collab")),
    PROXY_IMAGE: Recipe(
        "images/proxy/Dockerfile", ("constraints.txt", "jupyterhub_collab/cli/up/proxy_package")
    ),
}
#: What a node has; others are loaded by those who need them, if the store did not hold them.
NODE_IMAGES: Final = (PAUSE_IMAGE, BASE_IMAGE, SINGLEUSER_IMAGE)
#: What a hub in the cluster needs besides.
HOME_IMAGES: Final = (HUB_IMAGE, PROXY_IMAGE, COREDNS_IMAGE)
ALL_IMAGES: Final = (*NODE_IMAGES, *HOME_IMAGES)
#: Where containerd keeps the layers of images, below its folder.
SNAPSHOTS: Final = ("io.containerd.snapshotter.v1.overlayfs", "snapshots")
#: In a store: locked by every node that uses it.
USERS: Final = "collab-users"
#: Beginning of the names of folders in which a store is made.
IMPORTING: Final = "importing-"
#: In a store: the archives that it holds.
IMPORTED: Final = "collab-images.txt"
#: Where Debian and most others keep the authorities they trust. A machine behind a proxy with an
#: authority of its own has it in there, and image builds must trust it too.
TRUSTED: Final = Path("/etc/ssl/certs/ca-certificates.crt")
STORE_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Image:
    """A built image: its name in the cluster and its archive."""

    name: str
    archive: Path


def image_folder() -> Path:
    """Return the folder of archives and stores."""
    return pins.cache_root() / "images"


def ensure_images(names: Iterable[str] = NODE_IMAGES) -> list[Image]:
    """Build which of `names` are not built yet (the first two always), and return them.

    Raises
    ------
    CannotHave
        If this is not Linux with root and the Debian packages.
    BuildFailed
        If a step fails; names its log.
    """
    if os.geteuid() != 0:
        raise CannotHave("images for the node are built as root (buildah and debootstrap need it)")
    debian.demand(debian.IMAGE_PACKAGES)
    image_folder().mkdir(parents=True, exist_ok=True)
    with hold_lock(image_folder() / "build.lock"):
        for left in image_folder().glob(f"{SCRATCH}*"):
            shutil.rmtree(left)  # of a build that was killed
        pause = ensure_image(PAUSE_IMAGE, [pins.program_pin()], build_pause)
        base_inputs = [SUITE, *BASE_PACKAGES, IMAGE_RECIPE]
        base = ensure_image(BASE_IMAGE, base_inputs, build_base)
        built = [pause, base]
        for name in names:
            if name in RECIPES:
                inputs = [base.archive.name, digest_recipe(RECIPES[name]), IMAGE_RECIPE]
                built.append(ensure_image(name, inputs, build_from_dockerfile))
        if COREDNS_IMAGE in names:
            built.append(ensure_image(COREDNS_IMAGE, [pins.program_pin()], build_coredns))
    return built


def digest_recipe(recipe: Recipe) -> str:
    """Hash a Dockerfile and what it copies from the repository."""
    files: list[Path] = []
    for name in (recipe.dockerfile, *recipe.context):
        path = pins.REPOSITORY / name
        found = path.rglob("*") if path.is_dir() else [path]
        files += [item for item in found if item.is_file() and "__pycache__" not in item.parts]
    return pins.digest_files(files, root=pins.REPOSITORY)


def ensure_image(
    name: str, inputs: Sequence[str], build: Callable[[str, Path, Path], None]
) -> Image:
    """Return the archive of `name` for `inputs`; builds it if there is none."""
    stem = name.split("/")[1].replace(":", "-")
    archive = image_folder() / f"{stem}-{pins.digest_files([], root=Path(), extra=inputs)}.tar"
    if archive.exists():
        return Image(name, archive)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=image_folder()))
    try:
        log = scratch / "log"
        build(name, scratch, log)
        target = scratch / "image.tar"
        # Not compressed: that took a quarter of a minute at every change, to save disk.
        command = ["push", name, f"docker-archive:{target}:{name}"]
        run_step(f"the archive of {name}", buildah(*command), folder=scratch, log=log)
        for old in image_folder().glob(f"{stem}-*.tar"):
            old.unlink()
        target.rename(archive)
    except BuildFailed:
        shutil.move(scratch / "log", image_folder() / f"failed-{stem}.log")
        raise
    finally:
        shutil.rmtree(scratch)
    return Image(name, archive)


def buildah(*arguments: str) -> list[str]:
    """Return a buildah command that keeps everything of its own in the cache."""
    storage = image_folder() / "buildah"
    options = ["--root", str(storage / "root"), "--runroot", str(storage / "run")]
    return ["buildah", *options, "--storage-driver", "overlay", *arguments]


def build_pause(name: str, scratch: Path, log: Path) -> None:
    """Build the image of the process that holds a pod's namespaces."""
    shutil.copy(pins.program_folder() / "pause", scratch / "pause")
    recipe = 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n'
    (scratch / "Dockerfile").write_text(recipe)
    run_step(name, buildah("build", "-t", name, str(scratch)), folder=scratch, log=log)


def build_coredns(name: str, scratch: Path, log: Path) -> None:
    """Build the image of the cluster's name server, which has nothing but its program."""
    shutil.copy(pins.program_folder() / "coredns", scratch / "coredns")
    recipe = 'FROM scratch\nCOPY coredns /coredns\nUSER 65535:65535\nENTRYPOINT ["/coredns"]\n'
    (scratch / "Dockerfile").write_text(recipe)
    run_step(name, buildah("build", "-t", name, str(scratch)), folder=scratch, log=log)


def build_base(name: str, scratch: Path, log: Path) -> None:
    """Bootstrap a small Debian with Python and make an image of it."""
    root = scratch / "root"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}"]
    run_step(
        f"a Debian {SUITE} base (about 1 minute)",
        [*command, SUITE, str(root)],
        folder=scratch,
        log=log,
    )
    for cached in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / cached)
        (root / cached / "partial").mkdir(parents=True)
    run_step("its layer", ["tar", "-C", str(root), "-cf", "root.tar", "."], folder=scratch, log=log)
    (scratch / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    ignored = scratch / ".dockerignore"
    ignored.write_text("root\n")
    run_step(name, buildah("build", "-t", name, str(scratch)), folder=scratch, log=log)


def build_from_dockerfile(name: str, scratch: Path, log: Path) -> None:
    """Build one of the product's Dockerfiles on the bootstrapped base."""
    options = ["--layers", "--isolation", "chroot", "--network", "host", "--pull-never"]
    # The default of buildah is more than a restricted root may have.
    options += ["--ulimit", "nofile=20000:20000", "--build-arg", f"BASE_IMAGE={BASE_IMAGE}"]
    if TRUSTED.exists():
        options += ["-v", f"{TRUSTED}:{TRUSTED}:ro", "--env", f"PIP_CERT={TRUSTED}"]
        options += ["--env", f"NODE_EXTRA_CA_CERTS={TRUSTED}"]
    if subprocess.run(buildah("inspect", BASE_IMAGE), capture_output=True, check=False).returncode:
        (base,) = image_folder().glob("base-1-*.tar")
        run_step("the base again", buildah("pull", f"oci-archive:{base}"), folder=scratch, log=log)
    file = pins.REPOSITORY / RECIPES[name].dockerfile
    run_step(
        f"{name} (about 2 minutes the first time)",
        buildah("build", *options, "-t", name, "-f", str(file), str(pins.REPOSITORY)),
        folder=scratch,
        log=log,
    )


def ensure_store(images: Iterable[Image]) -> Path:
    """Return a containerd folder in which all of `images` are imported; there may be more."""
    chosen = list(images)
    names = [image.archive.name for image in chosen]
    store = image_folder() / f"store-{pins.digest_files([], root=Path(), extra=names)}"
    with hold_lock(image_folder() / "store.lock"):
        for found in (store, *sorted(image_folder().glob("store-*"))):
            if found.is_dir() and read_imported(found) >= set(names):
                return found
        for left in image_folder().glob(f"{IMPORTING}*"):
            shutil.rmtree(left)
        scratch = Path(tempfile.mkdtemp(prefix=IMPORTING, dir=image_folder()))
        others = sorted(image_folder().glob("store-*"))
        try:
            if others:  # what has not changed since need not be imported again
                copy_store(others[-1], scratch / "containerd", is_whole=True)
            import_images(chosen, scratch)
            (scratch / "containerd").rename(store)
        finally:
            shutil.rmtree(scratch)
        for other in others:
            remove_unused(other)
    return store


def read_imported(store: Path) -> set[str]:
    """Return the names of the archives that a store, or a node's copy of one, began with."""
    file = store / IMPORTED
    return set(file.read_text().split()) if file.exists() else set()


def use_store(store: Path) -> TextIOWrapper:
    """Keep `store` from being deleted as long as the file that is returned is open."""
    file = (store / USERS).open("w")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def remove_unused(store: Path) -> None:
    """Delete `store` unless a node uses it; the next change of images tries again."""
    with (store / USERS).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(store)


def import_images(images: Sequence[Image], scratch: Path) -> None:
    """Start containerd alone, import `images` into ``scratch/containerd``, and stop it."""
    binaries = pins.program_folder()
    paths = NodePaths(scratch, binaries)
    state = Path(tempfile.mkdtemp(prefix="collab-import-"))
    socket = state / "containerd.sock"
    settings = make_containerd_settings(paths).replace("/run/collab/", f"{state}/")
    file = paths.write("containerd.toml", settings)
    with (scratch / "containerd.log").open("wb") as log:
        process = subprocess.Popen(
            [str(binaries / "containerd"), "--config", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + STORE_TIMEOUT_S
        ctr = [str(binaries / "ctr"), "-a", str(socket), "-n", "k8s.io"]
        while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                log_text = (scratch / "containerd.log").read_text(errors="replace")
                raise ClusterError(f"containerd did not start: {log_text[-1500:]}")
            time.sleep(0.05)
        imported = paths.containerd_root / IMPORTED
        present = read_imported(paths.containerd_root)
        for image in images:
            if image.archive.name in present:
                continue
            command = [*ctr, "images", "import", "--local", str(image.archive)]
            title = f"the store: {image.name}"
            run_step(title, command, folder=scratch, log=scratch / "import.log")
        # What an image of before has left goes when its last names are removed: our own was
        # taken over, and the runtime made one of the image's digest.
        listed = subprocess.run([*ctr, "images", "ls", "-q"], capture_output=True, text=True)
        stale = set(listed.stdout.split()) - {image.name for image in images}
        if stale:
            subprocess.run([*ctr, "images", "rm", "--sync", *stale], capture_output=True)
        imported.unlink(missing_ok=True)  # not through the link: the old store has it too
        imported.write_text("".join(f"{image.archive.name}\n" for image in images))
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(state)


def copy_store(store: Path, target: Path, *, is_whole: bool = False) -> None:
    """Copy `store` to `target`, with links to its snapshots unless the copy is to stand alone."""
    snapshots = Path(*SNAPSHOTS)
    shutil.copytree(
        store, target, ignore=lambda folder, _: find_snapshots(store, folder), copy_function=share
    )
    (target / snapshots).mkdir()
    for snapshot in sorted((store / snapshots).iterdir()):
        place = target / snapshots / snapshot.name
        if is_whole:
            subprocess.run(["cp", "-al", str(snapshot), str(place)], check=True)
        else:
            place.symlink_to(snapshot)


def find_snapshots(store: Path, folder: str) -> list[str]:
    """Return what is not to be copied of `folder`."""
    return [SNAPSHOTS[-1]] if Path(folder) == store.joinpath(*SNAPSHOTS[:-1]) else []


def share(source: str, target: str) -> None:
    """Copy a file that containerd writes to, and share the others, where that can be done."""
    if Path(source).suffix != ".db" and Path(source).name not in (USERS, IMPORTED):
        with contextlib.suppress(OSError):  # another file system
            os.link(source, target)
            return
    shutil.copy2(source, target)
