"""Stands in for JupyterLab where a test is not about it: answers every request, starts at once.

What to do is read from the home, as a member could arrange it: a file ``silent`` and it never
answers, a file ``broken`` and it ends at once, a file ``version`` and it says to be that.
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    """Says yes."""

    def do_GET(self) -> None:
        if (Path.home() / "silent").exists():
            time.sleep(3600)
        self.send_response(200)
        version = Path.home() / "version"
        said = version.read_text() if version.exists() else "6.1.1"
        self.send_header("X-JupyterHub-Version", said)
        self.end_headers()


if (Path.home() / "broken").exists():
    sys.exit(3)
url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
server = ThreadingHTTPServer((url.hostname or "", url.port or 0), Handler)
server.daemon_threads = True
server.serve_forever()
