"""Style and script of a service's pages: its own, and the style that the pages of all share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Final

from tornado.web import HTTPError, StaticFileHandler

PAGES_STYLE: Final = "pages.css"
_SHARED: Final = Path(__file__).parent / "static"
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,60}")


class StaticHandler(StaticFileHandler):
    """The same for all who ask, logged in or not. `folder`: where the service's own files are.

    `initialize` is given what routes give to every handler of ours, which is no path.
    """

    folder: ClassVar[Path]

    def initialize(self, work: Any) -> None:  # type: ignore[override]
        super().initialize(path=str(self.folder))

    async def get(self, path: str, include_body: bool = True) -> None:
        if _NAME.fullmatch(path) is None:  # tornado breaks on some that no file can have
            raise HTTPError(404)
        if path == PAGES_STYLE:
            self.root = str(_SHARED)
        await super().get(path, include_body)

    def set_extra_headers(self, path: str) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "max-age=300")
