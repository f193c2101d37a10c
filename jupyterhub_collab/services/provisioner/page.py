"""The teams as a table for people. One page without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ...managers.tenancy_status import TeamStatus

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem;color:#1b1b1b;background:#fff}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ccc;vertical-align:top}"
    "td.message{white-space:pre-line;max-width:60ch}"
    ".ready{color:#0a5c2b}.failed{color:#a30d0d;font-weight:600}"
    "@media(prefers-color-scheme:dark){body{background:#16181b;color:#eee}"
    ".ready{color:#7ddc9f}.failed{color:#ff9b9b}a{color:#9cc4ff}}"
)


def make_page(statuses: Sequence[TeamStatus], *, total: int, offset: int, after: int | None) -> str:
    """HTML of one page of teams."""
    rows = "".join(_make_row(status) for status in statuses)
    first = offset + 1 if statuses else 0
    more = f'<p><a href="?offset={after}">Next teams</a></p>' if after is not None else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Teams - provisioner</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>Teams</h1><p>{first} to {offset + len(statuses)} of {total}.</p>"
        "<table><thead><tr><th scope=col>Team</th><th scope=col>Contest</th>"
        "<th scope=col>Namespace</th><th scope=col>State</th><th scope=col>What to know</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>{more}</main></body></html>"
    )


def _make_row(status: TeamStatus) -> str:
    message = "\n".join(c.message for c in status.conditions if c.message and c.type != "Ready")
    return (
        f"<tr><th scope=row>{escape(status.team)}</th><td>{escape(status.contest)}</td>"
        f"<td>{escape(status.namespace)}</td>"
        f'<td class="{status.state.value}">{status.state.value}</td>'
        f'<td class="message">{escape(message)}</td></tr>'
    )
