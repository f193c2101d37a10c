"""Options that `up` and `doctor` have in common: what `up` is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_DATA: Final = Path("demo-data")

Data = Annotated[Path, typer.Option(help="Folder that keeps all state.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of this machine to listen on.")]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="A real cluster to run on, instead of the embedded one.")
]
