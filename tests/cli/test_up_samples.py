"""The sample input is what it says: two contests, real data, notebooks that run."""

from __future__ import annotations

import csv
from pathlib import Path

import nbformat
import pytest
import yaml

from jupyterhub_collab.cli.up.data_folder import open_data_folder
from jupyterhub_collab.cli.up.samples import DATASETS, SampleSettings, put_samples
from jupyterhub_collab.errors import UserError

SETTINGS = SampleSettings(image="example.org/basic:1")


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Path, list[dict[str, object]]]:
    opened = open_data_folder(tmp_path / "data")
    manifests = [yaml.safe_load(p.read_text()) for p in put_samples(opened.folder, SETTINGS)]
    opened.lease.release()
    return opened.folder.root, manifests


def test_two_contests_several_tiers_and_somebody_in_two_teams(
    samples: tuple[Path, list[dict[str, dict[str, object]]]],
) -> None:
    _, manifests = samples
    assert ["ends" in manifest["contest"] for manifest in manifests] == [True, False]
    teams = {name: team for m in manifests for name, team in m["teams"].items()}
    assert len(teams) == 6
    assert len({team["tier"] for team in teams.values()}) == 3
    of_ada = [name for name, team in teams.items() if "ada" in team["members"]]
    assert of_ada == ["ocean", "payrolls"]


def test_data_sets_are_whole_and_read_only(samples: tuple[Path, object]) -> None:
    root, _ = samples
    for dataset, rows in zip(DATASETS, (1461, 120), strict=True):
        folder = root / "datasets" / dataset
        names = {p.name for p in folder.iterdir()}
        assert names == {f"{dataset}.csv", "README.md", "start-here.ipynb"}
        assert all(p.stat().st_mode & 0o222 == 0 for p in folder.iterdir())
        with (folder / f"{dataset}.csv").open() as table:
            assert len(list(csv.DictReader(table))) == rows
        notebook = nbformat.read(folder / "start-here.ipynb", 4)
        nbformat.validate(notebook)
        assert all(not cell.get("outputs") for cell in notebook.cells)


def test_a_changed_manifest_is_not_overwritten(tmp_path: Path) -> None:
    opened = open_data_folder(tmp_path / "data")
    manifest = put_samples(opened.folder, SETTINGS)[0]
    manifest.write_text("changed")
    put_samples(opened.folder, SETTINGS)
    assert manifest.read_text() == "changed"
    opened.lease.release()


def test_missing_sample_data_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_data_folder(tmp_path / "data")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install it with `pip install vega_datasets`"):
        put_samples(opened.folder, SETTINGS)
    assert list(opened.folder.datasets.iterdir()) == []
    opened.lease.release()
