"""Run every benchmark, one after the other, and sum up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HARNESS = {"__init__", "__main__", "measure"}


def main() -> None:
    names = sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in HARNESS and not path.stem.startswith("_")
    )
    failed = []
    for name in names:
        print(f"benchmark {name}", file=sys.stderr, flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"outside their targets, or failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
