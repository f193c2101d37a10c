"""``python -m tests.cluster``: build, start, stop and look at test clusters."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.cluster import debian, images, lifecycle, pins, programs_build
from tests.cluster.errors import CannotHave, ClusterError
from tests.cluster.record import Level, read_record


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the programs, once for their pins")
    commands.add_parser("images", help="build the images of the node, once for their contents")
    up = commands.add_parser("up", help="start a cluster that stays until `down`")
    up.add_argument("--level", type=Level, default=Level.NODE, metavar="api|node")
    down = commands.add_parser("down", help="stop it and delete its folder")
    down.add_argument(
        "--forget",
        action="store_true",
        help="also remove the route that makes clients of a stopped node fail at once",
    )
    status = commands.add_parser("status", help="say whether it runs")
    for command in (up, down, status):
        command.add_argument("--dir", type=Path, default=pins.state_root(), help="its folder")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; exit code 1 with one message when it cannot be done."""
    options = make_parser().parse_args(arguments)
    try:
        if options.command == "build":
            build()
        elif options.command == "images":
            built = images.ensure_images(images.ALL_IMAGES)
            for image in built:
                print(f"{image.name}  {image.archive}")
            images.ensure_store(built)
        elif options.command == "up":
            up(options.level, options.dir.resolve())
        elif options.command == "down":
            was_there = lifecycle.stop(options.dir.resolve(), should_forget=options.forget)
            print("stopped" if was_there else f"no cluster in {options.dir}")
        else:
            return print_status(options.dir.resolve())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build() -> None:
    """Install what Debian has, as far as that can be done here, and build the rest."""
    if sys.platform == "linux":
        try:
            debian.install(debian.COMPILER_PACKAGES)
            debian.install({**debian.NODE_PACKAGES, **debian.IMAGE_PACKAGES})
        except CannotHave as error:
            programs_build.report(f"no node with containers here: {error}")
    programs_build.build_programs()


def up(level: Level, directory: Path) -> None:
    """Start a detached cluster and print how to reach it."""
    keeper = lifecycle.start(level, directory, is_detached=True)
    keeper.let_go()
    print(f"cluster ready at {keeper.record.server}")
    print(f"export KUBECONFIG={directory / 'kubeconfig'}")


def print_status(directory: Path) -> int:
    """Print one line; exit code 0 only for a cluster that runs."""
    record = read_record(directory)
    if record is None or not record.is_alive():
        print(f"no cluster runs in {directory}")
        return 3
    state = "ready" if record.is_ready else "starting"
    print(f"{state}: level {record.level.value}, {record.server}, keeper {record.keeper}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
