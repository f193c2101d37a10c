"""docs/embedded.md says what the contract suite says."""

from __future__ import annotations

from tests.contract import docs


def test_the_page_is_up_to_date() -> None:
    """Made anew by ``python -m tests.contract.docs`` the page is the committed one."""
    assert docs.PAGE.read_text() == docs.make_page()


def test_every_statement_stands_once() -> None:
    texts = [s.text for s in docs.read_statements()]
    assert len(texts) == len(set(texts)) > 100


def test_the_excuses_name_what_matters() -> None:
    """Whoever reads the page learns of these, whatever becomes of the suite."""
    excused = " ".join(s.excuse for s in docs.read_statements() if s.excuse)
    for word in ("RBAC", "Pod Security", "NetworkPolicies", "limits", "Read-only", "files"):
        assert word in excused
