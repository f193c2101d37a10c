"""The API of readers: what is not right is named, exports are whole and safe, streams end."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from jupyterhub_collab.managers.audit_verification import verify_bundle
from jupyterhub_collab.policy.audit_bundle import check_proof, read_proof_file
from jupyterhub_collab.policy.audit_verify import Evidence
from jupyterhub_collab.storage.audit_files import Bundle
from tests.audit_reading.conftest import GROUPS, Scene

HOSTILE = (
    ("contest", "Sea", "contest"),
    ("contest", "../x", "contest"),
    ("team", "o" * 31, "team"),
    ("team", "ocean\x00", "team"),
    ("team", "' OR 1=1 --", "team"),
    ("dataset", "tides", "dataset"),
    ("dataset", "sea/tides/x", "dataset"),
    ("person", "a" * 256, "person"),
    ("person", "a\nb", "person"),
    ("person", "a\x00b", "person"),
    ("verb", "login'", "verb"),
    ("verb", "*", "verb"),
    ("verb", ".*", "verb"),
    ("outcome", "fine", "outcome"),
    ("since", "yesterday", "since"),
    ("since", "2027-13-01", "since"),
    ("since", "20270301", "since"),
    ("since", "0001-01-01T00:00+23:59", "since"),
    ("until", "2027-03-01T25:00", "until"),
    ("limit", "0", "limit"),
    ("limit", "1001", "limit"),
    ("limit", "-1", "limit"),
    ("limit", "1e3", "limit"),
    ("limit", "٣", "limit"),
    ("before", "0", "before"),
    ("before", "9" * 40, "before"),
    ("before", "9007199254740993", "before"),
    ("after", "x", "after"),
    ("order", "team", "order"),
    ("sort", "sequence", "sort"),
)


@pytest.mark.parametrize(("name", "value", "field"), HOSTILE)
def test_what_is_not_right_is_named_by_its_field(
    scene: Scene, name: str, value: str, field: str
) -> None:
    answer = scene.ask("ada", "api/events", params={name: value})
    assert answer.status_code == 422, answer.text
    assert [p["field"] for p in answer.json()["problems"]] == [field]


def test_more_that_is_not_right(scene: Scene) -> None:
    def problems(query: str) -> list[str]:
        answer = scene.ask("ada", f"api/events?{query}")
        assert answer.status_code == 422, answer.text
        return [problem["field"] for problem in answer.json()["problems"]]

    assert problems("before=3&after=2") == ["after"]
    assert problems("person=a&person=b") == ["person"]
    assert problems("&".join(f"team=t{n}" for n in range(21))) == ["team"]
    assert problems("team=%FF%FE&limit=x") == ["team", "limit"]
    assert scene.ask("ada", "api/export?format=xml").status_code == 422
    assert scene.ask("ada", "api/export?limit=3").status_code == 422
    assert scene.ask("ada", "api/events?team=&person=&since=").status_code == 200


def test_times_are_read_with_and_without_a_zone(scene: Scene) -> None:
    events = scene.events("root")
    middle = events[len(events) // 2]["stored"]
    for text in (middle, middle.replace("Z", ""), middle.replace("Z", "+00:00")):
        found = scene.events("root", until=text)
        assert found
        assert all(e["stored"] < middle for e in found)
    raw = scene.ask("root", f"api/events?since={middle.replace('Z', '+00:00')}&limit=1000")
    assert raw.status_code == 200, "a + that was not escaped is a space"


def test_pages_forwards_and_backwards_are_the_same(scene: Scene) -> None:
    wanted = [e["sequence"] for e in scene.events("eve", until="2030-01-01")]
    last = wanted[0]
    for way, start in (("before", last + 1), ("after", 0)):
        found: list[int] = []
        at: int | None = start
        while at is not None:
            page = scene.ask("eve", "api/events", params={way: at, "limit": 3}).json()
            found += [e["sequence"] for e in page["events"]]
            at = page["next"]
        found = [n for n in found if n <= last]
        assert found == (wanted if way == "before" else wanted[::-1])


def test_a_proof_can_be_checked_by_itself(scene: Scene) -> None:
    [event, *_] = scene.events("bob", verb="dataset.read")
    answer = scene.ask("bob", f"api/events/{event['sequence']}/proof")
    proof = read_proof_file(answer.content)
    checkpoint = check_proof(proof, scene.service.signer.verifier)
    assert checkpoint.size >= event["sequence"]
    assert proof.event.people["subject"]["value"]["name"] == "bob"
    listed = scene.ask("bob", "api/checkpoints").json()
    assert listed["key"] == scene.service.signer.verifier.to_text()
    sizes = [c["size"] for c in listed["checkpoints"]]
    assert sizes == sorted(sizes, reverse=True)
    assert len(scene.ask("bob", "api/checkpoints?limit=1").json()["checkpoints"]) == 1


def test_csv_is_safe_in_a_spreadsheet(scene: Scene) -> None:
    text = scene.ask("root", "api/export?format=csv").text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows
    assert rows[0]["subject_name"] == "ada"
    for row in rows:
        assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "|")) for cell in row.values())


def test_a_bundle_says_how_to_check_it_and_checks(scene: Scene, tmp_path: Path) -> None:
    answer = scene.ask("hana", "api/export?format=bundle&team=ocean")
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as held:
        assert held.testzip() is None
        assert set(held.namelist()) == {"bundle.json", "checkpoint", "key", "README.txt",
                                        "events.jsonl", "proofs.jsonl"}  # fmt: skip
        assert "audit verify" in held.read("README.txt").decode()
        checkpoint = scene.service.signer.verifier.open(held.read("checkpoint").decode())
        lines = held.read("events.jsonl").splitlines()
        assert 0 < len(lines) <= checkpoint.size
    path = tmp_path / "bundle.zip"
    path.write_bytes(answer.content)
    with Bundle(path) as bundle:
        verdict = verify_bundle(bundle, Evidence(scene.service.signer.verifier))
    assert verdict.findings == ()
    assert (verdict.selected, verdict.size) == (len(lines), checkpoint.size)


def test_parquet_has_types(scene: Scene) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    answer = scene.ask("hana", "api/export?format=parquet")
    assert answer.status_code == 200
    table = parquet.read_table(io.BytesIO(answer.content))
    found = table.to_pylist()
    assert [row["sequence"] for row in found] == sorted(row["sequence"] for row in found)
    assert isinstance(found[0]["stored"], datetime)
    mounted = next(row for row in found if row["verb"] == "server.start")
    assert mounted["datasets"] in (["tides"], ["salt"])
    assert mounted["subject_name"]


def test_each_export_leaves_two_records(scene: Scene) -> None:
    before = len(scene.events("hana", verb="audit.export"))
    scene.ask("hana", "api/export?format=csv")
    records = scene.events("hana", verb="audit.export")
    assert len(records) == before + 2
    assert [r["outcome"] for r in records[:2]] == ["succeeded", "allowed"]
    assert records[0]["details"]["format"] == "csv"


class Stream:
    """Server-sent events in a thread."""

    def __init__(self, scene: Scene, name: str, query: str = "", **headers: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.ended = ""
        self.status = 0
        token = headers.pop("token", "") or scene.token(name)
        self._client = httpx.Client(
            headers={"Authorization": f"token {token}", **headers}, verify=False
        )
        self._url = f"{scene.service.url}api/events/live?{query}"
        self._link: Any = None
        self._opened = threading.Event()
        self.closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._opened.wait(10)

    def _run(self) -> None:
        with (
            contextlib.suppress(httpx.HTTPError, OSError),
            self._client.stream("GET", self._url, timeout=60) as answer,
        ):
            self.status = answer.status_code
            self._link = answer.extensions["network_stream"].get_extra_info("socket")
            kind = ""
            for line in answer.iter_lines():
                self._opened.set()
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: ") and kind == "audit":
                    self.events.append(json.loads(line[6:]))
                elif line.startswith("data: "):
                    self.ended = json.loads(line[6:])["message"]
        self._opened.set()
        self.closed.set()

    def wait(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 15
        while len(self.events) < count:
            assert time.monotonic() < deadline, self.events
            time.sleep(0.05)
        return self.events

    def close(self) -> None:
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._client.close()


@pytest.fixture
def streams() -> Iterator[list[Stream]]:
    made: list[Stream] = []
    yield made
    for stream in made:
        stream.close()


def test_live_shows_what_comes_and_goes_on_after_a_gap(scene: Scene, streams: list[Stream]) -> None:
    streams.append(Stream(scene, "cyd", "team=river"))
    streams.append(Stream(scene, "eve"))
    scene.events("cyd", team="river")
    [event] = streams[0].wait(1)
    assert (event["verb"], event["team"]) == ("audit.read", "river")
    again = Stream(scene, "cyd", "verb=audit.read", **{"Last-Event-ID": str(event["sequence"] - 1)})
    streams.append(again)
    assert again.wait(1)[0]["sequence"] == event["sequence"]
    scene.events("eve")
    streams[1].wait(1)
    shown = streams[1].events
    assert all("river" not in json.dumps(e) for e in shown)


def test_live_streams_are_bounded_for_each_person(scene: Scene, streams: list[Stream]) -> None:
    for _ in range(3):
        streams.append(Stream(scene, "bob"))
    answer = scene.ask("bob", "api/events/live")
    assert answer.status_code == 429
    assert "At most 3" in answer.json()["message"]
    streams.append(Stream(scene, "stew"))
    assert streams[-1].status == 200
    streams.pop(0).close()
    deadline = time.monotonic() + 10
    while True:
        stream = Stream(scene, "bob")
        streams.append(stream)
        if stream.status == 200:
            break
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_stream_ends_when_its_token_or_its_reader_s_role_does(
    scene: Scene, streams: list[Stream]
) -> None:
    made = scene.hub.api("POST", "users/ivo/tokens", json={}).json()
    streams.append(Stream(scene, "ivo", token=made["token"]))
    streams.append(Stream(scene, "ada"))
    assert scene.hub.api("DELETE", f"users/ivo/tokens/{made['id']}").status_code == 204
    scene.write({**GROUPS, "ada": ["team-ocean", "team-river"]})
    try:
        scene.hub.browser().log_in("ada")
        assert streams[0].closed.wait(15)
        assert streams[1].closed.wait(15)
        assert "logged out" in streams[0].ended
        assert "has changed" in streams[1].ended
    finally:
        scene.write(GROUPS)
        scene.hub.browser().log_in("ada")


def test_a_bad_last_event_id_is_refused(scene: Scene) -> None:
    headers = {"Last-Event-ID": "x"}
    assert scene.ask("ada", "api/events/live", headers=headers).status_code == 422


def test_a_reader_that_leaves_an_export_is_no_error(scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", scene.service.port), timeout=10) as link:
        token = scene.token("root")
        link.sendall(
            f"GET /services/audit/api/export?format=jsonl HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: token {token}\r\n\r\n".encode()
        )
        link.recv(10)
    assert scene.ask("root", "api/who").status_code == 200
    assert "Traceback" not in scene.service.log
