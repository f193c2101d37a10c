"""The page above several hubs: what it lists, and what it lets nobody do."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jupyterhub_collab.cli.main import app
from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models.registry import Registry
from jupyterhub_collab.policy.registry_page import make_registry_page, parse_registry

FORECAST: dict[str, Any] = {
    "id": "forecast",
    "title": "Seasonal forecasts",
    "state": "Registration is open",
    "url": "https://forecast.example.org",
    "opens": "2027-01-10T09:00:00+01:00",
    "ends": "2027-06-30T22:00:00Z",
}


def make_file(*contests: dict[str, Any], **more: Any) -> str:
    """JSON is YAML too."""
    head = {"apiVersion": "jupyterhub-collab.org/v1alpha1", "kind": "Registry"}
    return json.dumps({**head, "title": "Our contests", "contests": contests, **more})


class Reader(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def page_of(*contests: dict[str, Any], **more: Any) -> Reader:
    registry = Registry.model_validate(json.loads(make_file(*contests, **more)))
    return read(make_registry_page(registry))


def refusals(text: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_registry(text, file="registry.yaml")
    return "\n".join(str(problem) for problem in error.value.problems)


def test_the_command_writes_one_page_whole(tmp_path: Path) -> None:
    file, out = tmp_path / "registry.yaml", tmp_path / "site" / "contests"
    file.write_text(make_file(FORECAST))
    for _ in range(2):
        done = CliRunner().invoke(app, ["registry", str(file), "--out", str(out)])
        assert done.exit_code == 0, done.output
    assert [path.name for path in out.iterdir()] == ["index.html"]
    seen = read((out / "index.html").read_text())
    assert seen.links == ["https://forecast.example.org"]
    assert "Registration is open" in seen.text
    assert "Opens 2027-01-10 08:00 UTC. Ends 2027-06-30 22:00 UTC." in seen.text


def test_a_mistake_leaves_the_page_that_is_there(tmp_path: Path) -> None:
    file, page = tmp_path / "registry.yaml", tmp_path / "index.html"
    page.write_text("before")
    file.write_text(make_file({**FORECAST, "url": "javascript:alert(1)"}))
    done = CliRunner().invoke(app, ["registry", str(file), "--out", str(tmp_path)])
    assert isinstance(done.exception, SpecError)
    assert page.read_text() == "before"


def test_no_contest_at_all_is_said() -> None:
    assert "There is no contest at the moment." in page_of().text


texts = st.text(
    st.characters(codec="utf-8", categories=("L", "P", "S", "N")), min_size=1, max_size=90
)


@given(title=texts, state=texts, description=texts)
def test_whatever_stands_in_the_file_is_text(title: str, state: str, description: str) -> None:
    hostile = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>"
    plain = page_of({**FORECAST, "description": "x"}, title="x")
    said = {"title": title + hostile, "state": state + hostile, "description": description[:50]}
    seen = page_of({**FORECAST, **said}, title=hostile + title)
    assert seen.tags == plain.tags
    assert seen.attributes == plain.attributes
    assert seen.links == plain.links
    assert said["state"] in seen.text


def test_nothing_runs_on_it_and_nothing_comes_from_elsewhere() -> None:
    page = make_registry_page(parse_registry(make_file(FORECAST), file="x"))
    assert "default-src 'none'" in page
    assert not {"script", "img", "link", "iframe", "form"} & set(read(page).tags)


@pytest.mark.parametrize(
    "url",
    [
        *("javascript:alert(1)", "data:text/html,x", "//evil.example", "ftp://x.example"),
        *("https://hub.example.org@evil.example", "https://evil.example\\@hub", "https://"),
        *('https://x.example/"onclick="x', "https://x.example/ y", " https://x.example"),
    ],
)
def test_a_link_is_a_web_address_and_what_it_looks_like(url: str) -> None:
    assert "contests[0].url" in refusals(make_file({**FORECAST, "url": url}))


@pytest.mark.parametrize(
    ("contests", "said"),
    [
        ([FORECAST, FORECAST], 'contests[1].id: found "forecast" again'),
        ([{**FORECAST, "ends": "2027-01-01T00:00:00Z"}], "contests[0].ends"),
        ([{**FORECAST, "ends": "2027-06-30T22:00:00"}], "contests[0].ends"),
        ([{**FORECAST, "status": "x"}], "contests[0].status"),
        ([{**FORECAST, "id": "Forecast!"}], "contests[0].id"),
    ],
)
def test_mistakes_are_told(contests: list[dict[str, Any]], said: str) -> None:
    assert said in refusals(make_file(*contests))
