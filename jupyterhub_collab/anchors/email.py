"""Checkpoints by e-mail: a sponsor who runs nothing still holds them.

The connection is encrypted and the server's certificate checked, unless the server is this machine.

It must not: put the password anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

from ..errors import PermanentError, RetryableError
from .anchor import Delivery

_TIMEOUT_S: Final = 30.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class MailServerAwayError(RetryableError):
    """No mail at all can be handed over now."""


class NotThisMessageError(PermanentError):
    """The server takes mail, but never this one."""


class RecipientsRefusedError(RetryableError):
    """The server does not take the message for some, or for all.

    Attributes
    ----------
    refused
        By address: whether it will not take it for them later either.
    """

    def __init__(self, refused: Mapping[str, bool]) -> None:
        super().__init__(f"The mail server refuses {len(refused)} of the recipients")
        self.refused = dict(refused)


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

    def send(self, message: EmailMessage, recipients: tuple[str, ...] | None = None) -> None:
        """Hand a message over. It blocks.

        Parameters
        ----------
        recipients
            None: those whom the message names.

        Raises
        ------
        PermanentError
            The server wants another user or password, or offers no encryption.
        NotThisMessageError
            It never takes this one.
        RecipientsRefusedError
            It takes it not for all.
        MailServerAwayError
            It is not there.
        RetryableError
            It does not take it now.
        """
        link = self._open()
        try:
            refused = link.send_message(message, to_addrs=recipients)
        except smtplib.SMTPRecipientsRefused as e:
            raise _refused(e.recipients) from e
        except (smtplib.SMTPSenderRefused, smtplib.SMTPResponseException) as e:
            raise _not_taken(e) from e
        except (smtplib.SMTPNotSupportedError, UnicodeError, ValueError) as e:
            raise NotThisMessageError(
                f"The mail server cannot take it for such an address ({type(e).__name__})"
            ) from e
        except (smtplib.SMTPException, OSError) as e:
            raise RetryableError(f"The mail server does not take it ({type(e).__name__})") from e
        finally:
            # What was taken is taken, however the server says good-bye.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                link.quit()
            link.close()
        if refused:
            raise _refused(refused)

    def _open(self) -> smtplib.SMTP:
        """A connection on which mail may be handed over. Raises as `send`."""
        link: smtplib.SMTP | None = None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.is_tls:
                link = smtplib.SMTP_SSL(self.host, self.port, timeout=_TIMEOUT_S, context=context)
            else:
                link = smtplib.SMTP(self.host, self.port, timeout=_TIMEOUT_S)
            if not self.is_tls and self.host not in _LOOPBACK:
                link.starttls(context=context)
            if self.user:
                link.login(self.user, self.password)
            link.ehlo_or_helo_if_needed()
        except BaseException as e:
            if link is not None:
                link.close()
            if isinstance(e, smtplib.SMTPAuthenticationError):
                raise PermanentError("The mail server refuses the user and password") from e
            if isinstance(e, smtplib.SMTPNotSupportedError):
                raise PermanentError("The mail server offers no STARTTLS or no log-in") from e
            if isinstance(e, (smtplib.SMTPException, OSError)):
                raise MailServerAwayError(
                    f"The mail server does not answer ({type(e).__name__})"
                ) from e
            raise
        return link


def _refused(found: Mapping[str, tuple[int, bytes]]) -> RecipientsRefusedError:
    return RecipientsRefusedError({address: code >= 500 for address, (code, _) in found.items()})


def _not_taken(error: smtplib.SMTPResponseException) -> RetryableError | PermanentError:
    """Its code says whether another try may help; 421 is the server's good-bye."""
    code = error.smtp_code
    if code == 421:
        return MailServerAwayError("The mail server closes (421)")
    if code >= 500:
        return NotThisMessageError(f"The mail server refuses it ({code})")
    return RetryableError(f"The mail server does not take it now ({code})")


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
        await asyncio.to_thread(self._server.send, self._make(delivery))

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
