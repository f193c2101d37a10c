"""Webhook, e-mail and the stream to a SIEM, each to a real server."""

from __future__ import annotations

import asyncio
import contextlib
import email
import json
import socketserver
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from sqlalchemy import create_engine

from jupyterhub_collab.anchors.anchor import Delivery
from jupyterhub_collab.anchors.email import EmailAnchor, MailServer
from jupyterhub_collab.anchors.syslog import SyslogSink, make_sink
from jupyterhub_collab.anchors.webhook import WebhookAnchor
from jupyterhub_collab.errors import PermanentError, RetryableError
from jupyterhub_collab.managers.audit_stream import AuditStream
from jupyterhub_collab.models.audit import AuditEvent, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.policy.webhook_signature import SIGNATURE_HEADER, sign
from jupyterhub_collab.reconcile.backoff import Backoff
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.timeouts import timeout

SECRET = b"a-secret-of-at-least-16-bytes"
DELIVERY = Delivery("log.test/audit", 7, "the note\n\n— x y\n", 0, (), lambda _: iter(()))


def now() -> datetime:
    return datetime.now(timezone.utc)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of 127.0.0.1: certificate and key."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    at = now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def serving(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_a_webhook_can_tell_that_it_is_ours() -> None:
    heard: list[tuple[dict[str, str], bytes]] = []
    statuses = [503, 302, 204]

    class Sponsor(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((dict(self.headers), body))
            self.send_response(statuses.pop(0))
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sponsor)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    anchor = WebhookAnchor("webhook", f"http://127.0.0.1:{server.server_port}/", SECRET)
    try:
        for status in (503, 302):
            with pytest.raises(RetryableError, match=str(status)):
                await anchor.deliver(DELIVERY)
        await anchor.deliver(DELIVERY)
    finally:
        await anchor.close()
        server.shutdown()
        thread.join()
        server.server_close()
    for headers, body in heard:
        assert headers[SIGNATURE_HEADER] == sign(SECRET, body)
        assert json.loads(body) == {
            "event": "audit.checkpoint",
            "log": "log.test/audit",
            "size": 7,
            "checkpoint": DELIVERY.note,
        }
        assert SECRET not in body + str(headers).encode()


class MailBox(socketserver.ThreadingTCPServer):
    """As much of a mail server as smtplib speaks to."""

    allow_reuse_address = True
    daemon_threads = False

    def __init__(self, address: str, context: ssl.SSLContext | None = None) -> None:
        self.mails: list[bytes] = []
        self.words: list[str] = []
        self.context = context
        super().__init__((address, 0), _Talk)

    def get_request(self) -> Any:
        link, address = super().get_request()
        if self.context is not None:
            link.settimeout(5)
            try:
                link = self.context.wrap_socket(link, server_side=True)
            except OSError:
                link.close()
                raise
        return link, address

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what a test wants to see."""


class _Talk(socketserver.StreamRequestHandler):
    server: MailBox

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper().decode()
            self.server.words.append(word)
            if word == "DATA":
                self.wfile.write(b"354 go on\r\n")
                mail = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    mail += part
                self.server.mails.append(mail)
            elif word == "QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            elif word == "AUTH":
                self.wfile.write(b"535 no\r\n")
                continue
            self.wfile.write(b"250-test\r\n250 AUTH PLAIN\r\n" if word == "EHLO" else b"250 ok\r\n")


@contextlib.contextmanager
def mail_box(address: str, context: ssl.SSLContext | None = None) -> Iterator[MailBox]:
    with MailBox(address, context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def make_mail(server: MailServer) -> EmailAnchor:
    return EmailAnchor(
        "email", server, sender="audit@hub.test", recipients=("ada@sponsor.test", "b@sponsor.test")
    )


async def test_an_email_holds_the_note_unbroken(certificate: tuple[Path, Path]) -> None:
    with mail_box("127.0.0.1", serving(certificate)) as server:
        port = server.server_address[1]
        ca_file = str(certificate[0])
        await make_mail(MailServer("127.0.0.1", port, is_tls=True, ca_file=ca_file)).deliver(
            DELIVERY
        )
        with pytest.raises(RetryableError, match="SSLCertVerificationError"):
            await make_mail(MailServer("127.0.0.1", port, is_tls=True)).deliver(DELIVERY)
        wrong = MailServer("127.0.0.1", port, "ada", "hunter2", is_tls=True, ca_file=ca_file)
        with pytest.raises(PermanentError, match="refuses the user and password") as refused:
            await make_mail(wrong).deliver(DELIVERY)
        assert "hunter2" not in f"{refused.value}{wrong!r}"
        (mail,) = server.mails
    found = email.message_from_bytes(mail)
    assert found["Subject"] == "Audit checkpoint of log.test/audit: 7 events"
    assert found["To"] == "ada@sponsor.test, b@sponsor.test"
    (attached,) = [part for part in found.walk() if part.get_filename()]
    payload = attached.get_payload(decode=True)
    assert payload == DELIVERY.note.encode()


async def test_no_email_leaves_this_machine_unencrypted() -> None:
    with mail_box("127.0.0.2") as server:
        port = server.server_address[1]
        with pytest.raises(PermanentError, match="STARTTLS"):
            await make_mail(MailServer("127.0.0.2", port)).deliver(DELIVERY)
        assert server.mails == []
        assert "MAIL" not in server.words


class Collector:
    """A syslog server: takes frames, and can go away."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.port = 0
        self._context = context
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self.heard = asyncio.Condition()

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._links.add(writer)
        try:
            while True:
                size = int(await reader.readuntil(b" "))
                message = (await reader.readexactly(size)).decode()
                head, _, line = message.partition(" audit - ")
                async with self.heard:
                    self.heads.append(head)
                    self.lines.append(json.loads(line))
                    self.heard.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self._links.discard(writer)
            writer.close()

    async def wait_for(self, sequence: int) -> None:
        async with self.heard, timeout(20):
            await self.heard.wait_for(
                lambda: any(line["sequence"] == sequence for line in self.lines)
            )


@pytest.fixture
async def audit_log(tmp_path: Path) -> AsyncIterator[AuditLog]:
    engine = create_engine(f"sqlite:///{tmp_path}/log.sqlite")
    found = AuditLog(engine, now=now)
    found.open()
    yield found
    found.close()
    engine.dispose()


async def append(audit_log: AuditLog, first: int, count: int) -> None:
    who = Person(name="ada", address="10.0.0.1")
    events = tuple(
        SentEvent(sequence=n, event=AuditEvent(time=now(), verb=Verb.LOGIN, subject=who))
        for n in range(first, first + count)
    )
    await audit_log.append("hub", SentBatch(incarnation="0" * 32, events=events))


def make_stream(
    audit_log: AuditLog, port: int, folder: Path, scheme: str = "tcp", **more: Any
) -> AuditStream:
    ca_file = more.pop("ca_file", None)
    return AuditStream(
        audit_log,
        make_sink(f"{scheme}://127.0.0.1:{port}", ca_file),
        folder,
        look_s=0.02,
        backoff=Backoff(first_s=0.02, longest_s=0.1),
        **more,
    )


@contextlib.asynccontextmanager
async def streaming(stream: AuditStream) -> AsyncIterator[None]:
    task = asyncio.create_task(stream.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_every_event_is_streamed_over_restarts_of_either_side(
    audit_log: AuditLog, tmp_path: Path
) -> None:
    collector = Collector()
    await collector.start()
    await append(audit_log, 1, 400)
    await append(audit_log, 401, 300)
    noted = asyncio.Event()  # what is not noted as sent comes again

    def on_sent(sequence: int) -> None:
        if sequence == 700:
            noted.set()

    async with streaming(make_stream(audit_log, collector.port, tmp_path, on_sent=on_sent)):
        await collector.wait_for(700)
        await asyncio.wait_for(noted.wait(), 20)
    assert [line["sequence"] for line in collector.lines] == list(range(1, 701))
    assert "ada" not in json.dumps(collector.lines)
    assert collector.heads[0].startswith("<109>1 20")
    assert collector.lines[0]["verb"] == "login"
    await append(audit_log, 701, 10)
    await collector.stop()
    async with streaming(make_stream(audit_log, collector.port, tmp_path, with_people=True)):
        await append(audit_log, 711, 10)  # a SIEM that is away holds up nothing
        await collector.start()
        await collector.wait_for(720)
    await collector.stop()
    later = [line["sequence"] for line in collector.lines[700:]]
    assert sorted(set(later)) == list(range(701, 721))
    assert collector.lines[-1]["subject"] == {"name": "ada", "address": "10.0.0.1"}


async def test_a_stream_over_tls_goes_to_whom_it_should(
    audit_log: AuditLog, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    collector = Collector(serving(certificate))
    await collector.start()
    sink = SyslogSink("tls", "127.0.0.1", collector.port)
    with pytest.raises(RetryableError, match="SSLCertVerificationError"):
        await sink.send("2027-01-01T00:00:00Z", b"{}")
    await sink.close()
    await append(audit_log, 1, 3)
    stream = make_stream(audit_log, collector.port, tmp_path, "tls", ca_file=str(certificate[0]))
    async with streaming(stream):
        await collector.wait_for(3)
    await collector.stop()
    assert len(collector.lines) == 3


async def test_a_stream_over_udp(audit_log: AuditLog, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            heard.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
    await append(audit_log, 1, 1)
    port = transport.get_extra_info("sockname")[1]
    async with streaming(make_stream(audit_log, port, tmp_path, "udp")):
        message = await heard.get()
    transport.close()
    assert json.loads(message.partition(b" audit - ")[2])["sequence"] == 1


@pytest.mark.parametrize(
    "url", ["", "host", "http://host", "tcp://", "tcp://h:99999", "tcp://h/x", "tcp://h:x"]
)
def test_a_stream_to_nowhere_is_refused_in_words(url: str) -> None:
    with pytest.raises(PermanentError, match="say stdout, tcp://"):
        make_sink(url)


def test_how_far_it_is_must_be_readable(audit_log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / "streamed").write_text("x")
    with pytest.raises(PermanentError, match="cannot be read from"):
        make_stream(audit_log, 1, tmp_path)
