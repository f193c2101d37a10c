"""A hub with two directories on paper and a portal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.auth.conftest import Browser
from tests.auth.portals import ISSUER, PortalHub

RULES = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - {issuer: genoa, group: {like: "team-{team}"}, gives: {team: "{team}"}}
  - {issuer: jena, group: {like: "team-{team}"}, gives: {team: "{team}"}}
  - {issuer: xprize, group: {like: "team-{team}"}, gives: {team: "{team}"}}
  - {issuer: genoa, group: admins, gives: {role: admin}}
"""


@dataclass(kw_only=True)
class SeveralHub(PortalHub):
    """University of Genoa (names as they are), University of Jena (`j-`), Ocean Prize (`p-`)."""

    genoa: str = ""
    jena: str = ""
    sources_more: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.folder / "several-rules.yaml").write_text(RULES)
        for source in ("genoa", "jena"):
            self.write_people(source, {})
        self.more += f"""
from jupyterhub_collab.hub.auth.several import SeveralAuthenticators
c.JupyterHub.authenticator_class = SeveralAuthenticators
c.TeamAuthenticator.rules_file = {str(self.folder / "several-rules.yaml")!r}
c.TeamAuthenticator.watch_interval = 3600.0
c.PortalAuthenticator.name_prefix = ""
paper = lambda name, **more: {{"class": "tests.auth.paper_authenticator.PaperAuthenticator",
    "config": {{"paper_name": name, "file": {str(self.folder)!r} + f"/{{name}}.json", **more}}}}
portal = {{"class": PortalAuthenticator, "config": {{"name_prefix": "p-"}}}}
c.SeveralAuthenticators.authenticators = [
    paper("genoa", title="University of Genoa", {self.genoa}),
    paper("jena", title="Universität <Jena>", name_prefix="j-", {self.jena}),
    portal,
]
{self.sources_more}
"""

    def write_people(self, source: str, people: dict[str, Any], *, down: bool = False) -> None:
        text = json.dumps({"people": people, "down": down})
        (self.folder / f"{source}.json").write_text(text)


def log_in(browser: Browser, source: str | None, name: str, password: str = "pw") -> httpx.Response:
    browser.client.get("login")
    form = {"username": name, "password": password, "_xsrf": browser.client.cookies["_xsrf"]}
    form |= {} if source is None else {"source": source}
    return browser.client.post("login", data=form)


__all__ = ["ISSUER", "SeveralHub", "log_in"]
