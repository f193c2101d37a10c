"""Notices by e-mail: one message to a team's addresses, which nobody of them sees."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from ..errors import PermanentError
from .email import (
    MailServer,
    MailServerAwayError,
    NotThisMessageError,
    RecipientsRefusedError,
)
from .notice_channel import ChannelAwayError, NotAllTookItError, NoticeMessage

_SUBJECT_MAX: Final = 150
_THREADS: Final = 8  # more than are ever under way: a slow server takes nobody else's threads


class NoticeEmail:
    """As `NoticeChannel` has it."""

    is_per_team = True

    def __init__(self, name: str, server: MailServer, *, sender: str) -> None:
        self.name = name
        self._server, self._sender = server, sender
        self._pool: ThreadPoolExecutor | None = None

    async def send(self, message: NoticeMessage) -> None:
        if not message.recipients:
            return
        made, loop = self._make(message), asyncio.get_running_loop()
        if self._pool is None:  # whoever closed it may go on later, under the lease again
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"notices-{self.name}")
        try:
            await loop.run_in_executor(self._pool, self._server.send, made, message.recipients)
        except RecipientsRefusedError as e:
            raise NotAllTookItError(e.refused) from e
        except NotThisMessageError:
            raise
        except (MailServerAwayError, PermanentError) as e:
            # Also where it wants another password: nobody's notice is the worse for that.
            raise ChannelAwayError(str(e)) from e

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _make(self, message: NoticeMessage) -> EmailMessage:
        made = EmailMessage()
        # A title is one line of somebody else's text.
        title = " ".join(message.title.split())[:_SUBJECT_MAX]
        made["Subject"] = f"{title}: notice to team {message.team}"
        made["From"] = self._sender
        made["To"] = "undisclosed-recipients:;"
        made["Date"] = format_datetime(message.notice.at)
        # The same at each try: mail servers drop what they have.
        domain = self._sender.rpartition("@")[2]
        made["Message-ID"] = f"<notice-{message.number}-{message.team}@{domain}>"
        made["Auto-Submitted"] = "auto-generated"
        made.set_content(f"{message.notice.text}\n")
        return made
