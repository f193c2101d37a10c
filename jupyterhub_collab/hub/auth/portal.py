"""Log-ins with a contest's own portal: people register there, and it signs them in here.

The portal can only say who somebody is at the moment when they log in; it cannot be asked later.
What it said is kept until it says otherwise: at the next log-in, or by a revocation, which ends
access at once. The protocol, for those who write a portal: docs/auth-portal.md.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jupyterhub.utils import url_path_join
from tornado import web
from traitlets import Float, List, TraitError, Unicode, default, validate

from ...errors import PermanentError, RetryableError
from ...identity.documents import DocumentReader, SourceMisconfiguredError, check_address
from ...identity.jwks import KeyFile, RemoteKeys
from ...identity.portal_revocation import verify_revocation
from ...identity.portal_token import ALGORITHMS, PortalVerifier, to_hub_audience
from ...identity.signed_token import TokenRefusedError
from ...models import Facts
from ...names import TEAM_ID_RULE, is_team_id
from ...storage.revocations import Revocations, to_ms
from ...storage.spent_tokens import SpentTokens
from .admission import TRY_AGAIN
from .events import SOURCE_UP, Outcome
from .portal_handlers import CallbackHandler, PortalLogin, RevocationHandler, StartHandler
from .source import Finding, Findings
from .team_authenticator import TeamAuthenticator

_SLUG: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
REVOKED: Final = "The portal has taken this log-in back. Go to the portal and log in again."
TELL_ADMIN: Final = (
    "This hub cannot check what the portal says. Tell the administrators of this hub when it"
    " happened."
)
log = logging.getLogger(__name__)


class PortalAuthenticator(TeamAuthenticator):
    """One portal. ``c.JupyterHub.authenticator_class = "collab-portal"``."""

    name = Unicode(
        config=True,
        help="What rules and identities call this portal: `xprize`. Never change it: with it"
        " everybody would be somebody else.",
    )

    portal_issuer = Unicode(
        config=True, help="What the portal calls itself, to the letter: `iss` of its tokens."
    )

    portal_login_url = Unicode(
        config=True,
        help="The portal's page to which browsers are sent to log in: https.",
    )

    jwks_url = Unicode(
        config=True,
        help="Address of the portal's public keys (a JSON Web Key Set). This or `key_file`.",
    )

    ca_file = Unicode(
        config=True, help="Certificates (PEM) to trust for `jwks_url`, in place of the system's."
    )

    key_file = Unicode(
        config=True,
        help="""
        File with the portal's public keys: a JSON Web Key Set, or PEM. It is read again when it
        changes. Only its owner may be able to write it: whoever can is able to log in as anybody.
        """,
    )

    contests = List(
        Unicode(),
        config=True,
        help="Ids of the contests for which this portal may log people in. At least one.",
    )

    hub_url = Unicode(
        config=True,
        help="The hub as browsers have it, with its base path. Default: JupyterHub.public_url.",
    )

    slug = Unicode(
        config=True,
        help="How the portal is called in addresses of the hub: `/hub/portal/<slug>/...`. Default:"
        " made from its name.",
    )

    login_timeout = Float(
        600.0, min=30.0, config=True, help="Seconds that somebody may take at the portal."
    )

    @default("slug")
    def _slug_default(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "portal"

    @default("login_service")
    def _login_service_default(self) -> str:
        return str(self.title or self.name)

    @validate("contests")
    def _validate_contests(self, proposal: Any) -> Any:
        for contest in proposal["value"]:
            if not is_team_id(contest):
                raise TraitError(f"contests: {contest!r} is none: {TEAM_ID_RULE}")
        return proposal["value"]

    @validate("slug")
    def _validate_slug(self, proposal: Any) -> Any:
        if not _SLUG.fullmatch(proposal["value"]):
            raise TraitError(f"slug: {proposal['value']!r} is not small letters, digits, hyphens")
        return proposal["value"]

    @property
    def issuer(self) -> str:
        """Name of the source, in identities and rules."""
        return str(self.name)

    @property
    def public_url(self) -> str:
        """The hub as browsers have it, with a slash at the end."""
        url = str(self.hub_url or getattr(self.root.parent, "public_url", ""))
        return url if url.endswith("/") else f"{url}/"

    @property
    def callback_url(self) -> str:
        """Where the portal has browsers post tokens."""
        return str(url_path_join(self.public_url, "hub/portal", self.slug, "callback"))

    def login_url(self, base_url: str) -> str:
        """Where a log-in starts."""
        return str(url_path_join(base_url, "portal", self.slug, "start"))

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """Handlers of the log-in and of revocations."""
        handlers = super().get_handlers(app)
        self._begin()
        return [
            (f"/portal/{self.slug}/start", StartHandler),
            (f"/portal/{self.slug}/callback", CallbackHandler),
            (f"/api/collab/portal/{self.slug}/revocations", RevocationHandler),
            *handlers,
        ]

    async def check(self, username: str | None = None) -> Findings:
        """Whether settings are right and keys can be had. A portal can be asked about nobody."""
        found: list[Finding] = []
        try:
            self._check_settings()
            keys = self._make_keys()
        except (TraitError, SourceMisconfiguredError) as e:
            return Findings((Finding("settings", False, str(e)),))
        found.append(Finding("settings", True, f"tokens come back to {self.callback_url}"))
        try:
            usable = await keys.load()
            text = f"{len(usable.keys)} usable"
            text += f"; not used: {'; '.join(usable.skipped)}" if usable.skipped else ""
            found.append(Finding("keys", bool(usable.keys), text))
        except (RetryableError, PermanentError) as e:
            found.append(Finding("keys", False, str(e)))
        finally:
            if isinstance(keys, RemoteKeys):
                await keys.close()
                await self._reader.close()
        if username is not None:
            found.append(Finding("person", None, "a portal can be asked about nobody"))
        return Findings(tuple(found))

    def _check_settings(self) -> None:
        """Raises TraitError."""
        for wanted in ("name", "portal_issuer", "portal_login_url", "contests"):
            if not getattr(self, wanted):
                raise TraitError(f"PortalAuthenticator.{wanted} must be set")
        if self.public_url == "/":
            raise TraitError(
                "The portal must know under which address people reach this hub, and nobody told."
                " Set c.JupyterHub.public_url = 'https://hub.example.org/'"
                " (or PortalAuthenticator.hub_url)"
            )
        if bool(self.jwks_url) == bool(self.key_file):
            raise TraitError("Set one of PortalAuthenticator.jwks_url and key_file, not both")
        try:
            to_hub_audience(self.public_url)
            check_address(self.portal_login_url, "portal_login_url")
        except SourceMisconfiguredError as e:
            raise TraitError(f"PortalAuthenticator: {e}") from e

    def _begin(self) -> None:
        """Make what the settings name. Raises TraitError."""
        self._check_settings()
        try:
            keys = self._make_keys()
            engine = self.admission.engine
            self._spent = SpentTokens(engine, now=self.admission.now)
            self._spent.create_tables()
            self._revocations = Revocations(engine)
            self._revocations.create_tables()
            self._verifier = PortalVerifier(
                self.name,
                issuer=self.portal_issuer,
                hub_url=self.public_url,
                keys=keys,
                spend=self._spent.spend,
                now=self.admission.now,
            )
            self._keys = keys
        except SourceMisconfiguredError as e:
            raise TraitError(f"PortalAuthenticator: {e}") from e
        if self.public_url.startswith("http:"):
            log.warning(
                "%s is not on https: log-ins with a portal need a click more", self.public_url
            )

    def _make_keys(self) -> KeyFile | RemoteKeys:
        if self.key_file:
            return KeyFile(Path(self.key_file), algorithms=ALGORITHMS)
        self._reader = DocumentReader(ca_file=self.ca_file or None)
        return RemoteKeys(self.jwks_url, self._reader, algorithms=ALGORITHMS)

    async def authenticate(self, handler: Any, data: Any) -> dict[str, Any] | None:
        """Who has come back from the portal. Of a form that somebody filled in: nobody."""
        login = data.get("login") if isinstance(data, dict) else None
        if not isinstance(login, PortalLogin):
            return None
        address = handler.request.remote_ip
        try:
            facts = await self._verifier.verify(
                login.token, contest=login.contest, nonce=login.nonce
            )
            await self._refuse_revoked(facts)
            SOURCE_UP.labels(self.issuer).set(1)
            facts = replace(facts, claims={**facts.claims, "contest": login.contest})
            model = await self.admit(facts, address=address)
            # Again: a revocation that came meanwhile may have found nobody to take anything from.
            await self._refuse_revoked(facts, name=model["name"])
        except TokenRefusedError as e:
            self.tell_refused(address, e.reason)
            raise web.HTTPError(403, str(e)) from None
        except RetryableError as e:
            self.tell(Outcome.UNAVAILABLE, address=address, because=str(e))
            log.error("Nobody could be let in by %s: %s", self.issuer, e)
            raise web.HTTPError(503, TRY_AGAIN) from e
        except PermanentError as e:
            self.tell(Outcome.MISCONFIGURED, address=address, because=str(e))
            log.error("Nobody can be let in by %s: %s", self.issuer, e)
            raise web.HTTPError(500, TELL_ADMIN) from e
        return model

    def tell_refused(self, address: str, because: str) -> None:
        """A log-in that was refused; the reason is for the admin, and holds nothing of a token."""
        log.warning("A log-in with %s was refused: %s", self.issuer, because)
        self.tell(Outcome.REFUSED, address=address, because=because)

    async def revoke(self, token: str) -> tuple[int, int]:
        """Do what a signed revocation says: how many it names, and how many lost access by it.

        Safe to repeat. Who came in through another source since is left alone.

        Raises
        ------
        TokenRefusedError
            It is not the portal's.
        RetryableError, PermanentError
            It could not be done, or not all of it.
        """
        revocation = await verify_revocation(
            token,
            name=self.name,
            issuer=self.portal_issuer,
            hub_url=self.public_url,
            keys=self._keys,
            spend=self._spent.spend,
            now=self.admission.now,
        )
        # First of all, so that no log-in that is under way gets past it.
        await self._revocations.revoke(revocation.identities, revocation.at)
        ended = 0
        for identity in revocation.identities:
            name = await self.admission.manager.identities.name_of(identity)
            membership = None if name is None else await self.admission.memberships.read(name)
            if membership is None or membership.identity != identity:
                continue
            if membership.is_active and to_ms(membership.confirmed_at) > to_ms(revocation.at):
                continue  # the portal let them in again since
            # Also where it was done before: perhaps not to its end.
            await self.admission.drop(membership, because=f"{self.issuer} revoked them")
            ended += membership.is_active
        log.info(
            "%s revoked %d people, %d lost access", self.issuer, len(revocation.identities), ended
        )
        return len(revocation.identities), ended

    async def _refuse_revoked(self, facts: Facts, *, name: str | None = None) -> None:
        """Raises TokenRefusedError; whoever was let in meanwhile under `name` is out again."""
        if not await self._revocations.is_revoked(facts.identity, facts.at):
            return
        membership = None if name is None else await self.admission.memberships.read(name)
        if membership is not None and membership.identity == facts.identity:
            await self.admission.drop(membership, because=f"{self.issuer} revoked them")
        raise TokenRefusedError("claim iat: not after a revocation of this person", text=REVOKED)
