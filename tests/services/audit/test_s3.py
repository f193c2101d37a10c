"""Checkpoints in an object store: one that checks signatures, and one that writes down headers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jupyterhub_collab.anchors.anchor import Delivery
from jupyterhub_collab.anchors.s3 import S3Anchor
from jupyterhub_collab.errors import PermanentError, RetryableError
from jupyterhub_collab.policy.tiles import Tile
from tests.real_hub import find_free_port
from tests.services.running import wait_until

pytest.importorskip("minio", reason="minio is not installed: not proved that S3 anchors work")

NOW = datetime(2027, 3, 1, 12, tzinfo=timezone.utc)
TILE = Tile(0, 0, 2)


def make_delivery(size: int = 2, note: str = "the note") -> Delivery:
    return Delivery(
        "log.test/audit", size, note, 0, ((1, "first"),), lambda _: iter([(TILE, b"h")])
    )


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Endpoint and folder of a store with one bucket."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which("rclone", path=beside)
    if program is None:
        pytest.skip("rclone is not installed: not proved that a store takes our signatures")
    folder = tmp_path / "store"
    (folder / "audit-bucket").mkdir(parents=True)
    port = find_free_port()
    command = [program, "serve", "s3", "--auth-key", "ada,a-secret-key"]
    process = subprocess.Popen(
        [*command, "--addr", f"127.0.0.1:{port}", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_up, timeout_s=20, what=lambda: "rclone")
        yield f"http://127.0.0.1:{port}", folder / "audit-bucket"
    finally:
        process.kill()
        process.wait()


async def test_a_store_that_checks_signatures_takes_and_gives(
    store: tuple[str, Path], keys: None
) -> None:
    endpoint, bucket = store
    anchor = S3Anchor(
        "s3", "audit-bucket", now=lambda: NOW, prefix="a/", endpoint=endpoint, region="us-east-1"
    )
    try:
        assert await anchor.newest() is None
        await anchor.deliver(make_delivery())
        assert await anchor.newest() == "the note"
    finally:
        await anchor.close()
    kept = {str(p.relative_to(bucket)): p.read_text() for p in bucket.rglob("*") if p.is_file()}
    assert kept == {
        "a/checkpoint": "the note",
        "a/checkpoints/1": "first",
        "a/checkpoints/2": "the note",
        "a/tile/0/000.p/2": "h",
    }


async def test_with_a_wrong_key_nothing_is_taken(
    store: tuple[str, Path], keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, bucket = store
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-key")
    anchor = S3Anchor("s3", "audit-bucket", now=lambda: NOW, endpoint=endpoint, region="us-east-1")
    try:
        with pytest.raises(PermanentError, match=r"does not take it \(403\)|SignatureDoesNotMatch"):
            await anchor.deliver(make_delivery())
    finally:
        await anchor.close()
    assert list(bucket.iterdir()) == []


async def test_each_object_is_locked_until_its_time(keys: None) -> None:
    heard: list[tuple[str, dict[str, str]]] = []

    class Recording(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Recording)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    anchor = S3Anchor(
        "s3",
        "audit-bucket",
        now=lambda: NOW,
        retain=timedelta(days=10),
        endpoint=f"http://127.0.0.1:{server.server_port}",
        region="us-east-1",
    )
    try:
        await anchor.deliver(make_delivery())
    finally:
        await anchor.close()
        server.shutdown()
        thread.join()
        server.server_close()
    assert [path.removeprefix("/audit-bucket/") for path, _ in heard] == [
        "tile/0/000.p/2",
        "checkpoints/1",
        "checkpoints/2",
        "checkpoint",  # last: what it needs is there
    ]
    for _, headers in heard:
        assert headers["x-amz-object-lock-mode"] == "COMPLIANCE"
        assert headers["x-amz-object-lock-retain-until-date"].startswith("2027-03-11T12:00:00")
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=ada/")


async def test_a_store_that_does_not_answer_is_tried_again(keys: None) -> None:
    endpoint = f"http://127.0.0.1:{find_free_port()}"
    anchor = S3Anchor("s3", "audit-bucket", now=lambda: NOW, endpoint=endpoint, region="us-east-1")
    try:
        with pytest.raises(RetryableError, match="does not take it"):
            await anchor.deliver(make_delivery())
        with pytest.raises(RetryableError, match="does not give it"):
            await anchor.newest()
    finally:
        await anchor.close()
