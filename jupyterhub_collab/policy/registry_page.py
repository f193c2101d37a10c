"""The page above several hubs: which contests there are, and where. From a file to HTML, pure.

It is one file without scripts, pictures or anything from elsewhere, so that any web server can keep
it, and it goes on when every hub is down.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from html import escape
from typing import Final

from ..models.registry import ListedContest, Registry
from .document_file import read_document
from .problems import FieldProblem, to_found

KIND: Final = "Registry"
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 46rem; padding: 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.15rem; margin: 0; }
ul { list-style: none; padding: 0; }
li { border-top: 1px solid #8886; padding: .8rem 0; overflow-wrap: anywhere; }
p { margin: .2rem 0; }
.state { font-weight: 600; }
"""


def parse_registry(text: str | bytes, *, file: str) -> Registry:
    """Read and check a registry file. `file`: name for error messages.

    Raises
    ------
    SpecError
        With all problems, in the order of the file.
    """
    return read_document(Registry, text, file=file, kind=KIND, check=_check)


def make_registry_page(registry: Registry) -> str:
    """The page. What stands in the file is text in it, whatever it looks like."""
    title = escape(registry.title)
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    items = "\n".join(map(_make_item, registry.contests))
    contests = f"<ul>\n{items}\n</ul>" if items else "<p>There is no contest at the moment.</p>"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{contests}
</main>
</body>
</html>
"""


def _make_item(contest: ListedContest) -> str:
    parts = [f'<h2><a href="{escape(contest.url)}">{escape(contest.title)}</a></h2>']
    parts.append(f'<p class="state">{escape(contest.state)}</p>')
    if contest.description is not None:
        parts.append(f"<p>{escape(contest.description)}</p>")
    dates = [
        f"{word} {_make_time(moment)}"
        for word, moment in (("Opens", contest.opens), ("Ends", contest.ends))
        if moment is not None
    ]
    if dates:
        parts.append(f"<p>{'. '.join(dates)}.</p>")
    return f'<li id="{escape(contest.id)}">{"".join(parts)}</li>'


def _make_time(moment: datetime) -> str:
    utc = moment.astimezone(timezone.utc)
    return f'<time datetime="{utc:%Y-%m-%dT%H:%MZ}">{utc:%Y-%m-%d %H:%M} UTC</time>'


def _check(registry: Registry) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    for i, contest in enumerate(registry.contests):
        where = ("contests", i)
        if contest.id in seen:
            found = f"{to_found(contest.id)} again"
            problems.append(FieldProblem((*where, "id"), found, "each contest once"))
        seen.add(contest.id)
        if contest.opens and contest.ends and contest.ends <= contest.opens:
            found = contest.ends.isoformat()
            problems.append(FieldProblem((*where, "ends"), found, "a time after opens"))
    return problems
