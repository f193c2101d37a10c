"""The page of events says something of each, and is what is generated."""

from __future__ import annotations

from jupyterhub_collab.models.audit import Verb
from tools.audit_events_page import PAGE, ROWS, render


def test_every_verb_has_a_line() -> None:
    assert set(ROWS) == set(Verb)


def test_the_page_is_generated() -> None:
    assert PAGE.read_text() == render(), "python tools/generate_docs.py"
