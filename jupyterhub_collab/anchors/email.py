"""Checkpoints by e-mail: a sponsor who runs nothing still holds them.

The connection is encrypted and the server's certificate checked, unless the server is this machine.

It must not: put the password anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

from ..errors import PermanentError, RetryableError
from .anchor import Delivery

_TIMEOUT_S: Final = 30.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class MailServer:
    """Where e-mail is handed over, and as whom.

    Attributes
    ----------
    is_tls
        TLS from the first byte (port 465) in place of STARTTLS.
    ca_file
        Certificates that the server's is checked against, in place of the system's.
    """

    host: str
    port: int
    user: str = ""
    password: str = ""
    is_tls: bool = False
    ca_file: str | None = None

    def __repr__(self) -> str:
        return f"MailServer({self.host}:{self.port})"


class EmailAnchor:
    """As `Anchor` has it. It cannot be read."""

    def __init__(
        self,
        name: str,
        server: MailServer,
        *,
        sender: str,
        recipients: tuple[str, ...],
        interval_s: float = 3600.0,
    ) -> None:
        self.name, self.interval_s = name, interval_s
        self._server, self._sender, self._recipients = server, sender, recipients

    async def deliver(self, delivery: Delivery) -> None:
        await asyncio.to_thread(self._send, self._make(delivery))

    async def newest(self) -> str | None:
        return None

    async def set_aside(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _make(self, delivery: Delivery) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = f"Audit checkpoint of {delivery.origin}: {delivery.size} events"
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(
            "Keep this message. With it anybody can prove whether the log's first"
            f" {delivery.size} events are still what they were:\n"
            "save the attachment and run jupyterhub-collab audit verify --checkpoint FILE.\n"
        )
        message.add_attachment(
            delivery.note.encode(),
            maintype="application",
            subtype="octet-stream",  # so that no relay breaks its lines
            filename=f"checkpoint-{delivery.size}.txt",
        )
        return message

    def _send(self, message: EmailMessage) -> None:
        server = self._server
        try:
            context = ssl.create_default_context(cafile=server.ca_file)
            if server.is_tls:
                link: smtplib.SMTP = smtplib.SMTP_SSL(
                    server.host, server.port, timeout=_TIMEOUT_S, context=context
                )
            else:
                link = smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT_S)
            try:
                if not server.is_tls and server.host not in _LOOPBACK:
                    link.starttls(context=context)
                if server.user:
                    link.login(server.user, server.password)
                refused = link.send_message(message)
            finally:
                # What was taken is taken, however the server says good-bye.
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    link.quit()
                link.close()
        except smtplib.SMTPAuthenticationError as e:
            raise PermanentError("The mail server refuses the user and password") from e
        except smtplib.SMTPNotSupportedError as e:
            raise PermanentError("The mail server offers no STARTTLS or no log-in") from e
        except (smtplib.SMTPException, OSError) as e:
            raise RetryableError(f"The mail server does not take it ({type(e).__name__})") from e
        if refused:
            raise RetryableError(f"The mail server refuses {len(refused)} of the recipients")
