"""Puts the sample contests and their data sets into a data folder.

What: data sets come from the Python package that ships them; contest manifests from templates
that are told where the data sets lie and which image to use.
Why: whoever starts `up` without a manifest of their own has something real to look at.
It must not: overwrite a manifest that somebody changed.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from ... import samples
from ...errors import UserError
from .data_folder import DataFolder, write_file

CSI_DRIVER = "collab.embedded"
"""The embedded cluster's driver: mounts ``volumeAttributes.path`` of this machine."""

DATASETS = ("seattle-weather", "us-employment")
CONTESTS = ("rain-or-shine", "labour-market")


@dataclass(frozen=True)
class SampleSettings:
    """What differs between clusters.

    Attributes
    ----------
    image
        Reference of the image that servers run.
    driver
        CSI driver that mounts a folder, read-only.
    datasets_path
        Where the data sets' folders lie for that driver; the data folder's own unless said.
    names_suffix
        Contests' domains end in it; None: teams have no names.
    """

    image: str
    driver: str = CSI_DRIVER
    datasets_path: str | None = None
    names_suffix: str | None = None


def put_samples(folder: DataFolder, settings: SampleSettings) -> list[Path]:
    """Write what is missing; the manifests' paths, in the order to apply them."""
    for dataset in DATASETS:
        if not (folder.datasets / dataset).exists():
            put_dataset(dataset, folder.datasets)
    values = {
        "image": settings.image,
        "driver": settings.driver,
        "datasets": settings.datasets_path or str(folder.datasets),
    }
    suffix = settings.names_suffix
    manifests = []
    for contest in CONTESTS:
        values["domain"] = f"  domain: {contest}.{suffix}\n" if suffix else ""
        path = folder.contests / f"{contest}.yaml"
        if not path.exists():
            text = (files(samples) / "contests" / f"{contest}.yaml").read_text(encoding="utf-8")
            write_file(path, Template(text).substitute(values))
        manifests.append(path)
    return manifests


def put_dataset(dataset: str, datasets: Path) -> None:
    """Make one data set's folder whole, in one step: its table, what it is, the first notebook."""
    table = _find_table(f"{dataset}.csv")
    with tempfile.TemporaryDirectory(dir=datasets, prefix=".") as name:
        fresh = Path(name) / dataset
        fresh.mkdir()
        shutil.copyfile(table, fresh / table.name)
        for part in (files(samples) / "datasets" / dataset).iterdir():
            (fresh / part.name).write_bytes(part.read_bytes())
        for file in fresh.iterdir():
            file.chmod(0o444)  # read by servers of other users on a real node
        fresh.chmod(0o755)
        fresh.rename(datasets / dataset)


def _find_table(name: str) -> Path:
    # Found without importing it: the package imports pandas, which takes a second.
    spec = importlib.util.find_spec("vega_datasets")
    for place in (spec.submodule_search_locations or []) if spec else []:
        table = Path(place) / "_data" / name
        if table.exists():
            return table
    raise UserError(
        f"The sample data {name} is missing: install it with `pip install vega_datasets`, "
        "or say which contest manifests to use instead of the samples."
    )
