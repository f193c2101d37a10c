"""Tries an OpenID Connect provider out, as far as it goes without a person (`doctor auth`).

Nothing is changed there: the client's secret is shown once, with a refresh token that is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ...errors import CollabError
from ...identity.documents import SourceMisconfiguredError
from ...identity.oidc import ProviderMetadata
from .source import Finding

if TYPE_CHECKING:
    from .oidc import OIDCTeamAuthenticator


async def try_out(source: OIDCTeamAuthenticator) -> tuple[Finding, ...]:
    """Discovery, keys, PKCE, what the provider can do, and our credentials. Never raises."""
    found: list[Finding] = []
    try:
        metadata = await source.provider.discover()
    except CollabError as e:
        return (Finding("discovery", False, str(e)),)
    algorithms = ", ".join(sorted(metadata.algorithms))
    found.append(Finding("discovery", True, f"{metadata.issuer} signs ID tokens with {algorithms}"))
    found.append(await _tried("keys", lambda: _keys(source)))
    found.append(
        Finding("PKCE", True, "the provider says that it checks S256")
        if metadata.has_pkce
        else Finding("PKCE", None, "sent always; the provider does not say that it checks it")
    )
    found.append(await _tried("credentials", lambda: _credentials(source)))
    found += _abilities(source, metadata)
    return tuple(found)


async def _tried(step: str, work: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(step, True, await work())
    except CollabError as e:
        return Finding(step, False, str(e))


async def _keys(source: OIDCTeamAuthenticator) -> str:
    keys = await source.provider.read_keys()
    skipped = f"; not used: {'; '.join(keys.skipped)}" if keys.skipped else ""
    if not keys.keys:
        raise SourceMisconfiguredError(f"none that can be used{skipped}")
    return f"{len(keys.keys)} that can be used{skipped}"


async def _credentials(source: OIDCTeamAuthenticator) -> str:
    await source.client.check_credentials()
    if not source.read_secret():
        return f"the provider knows {source.client_id}, which has no secret"
    return f"the provider takes {source.client_id} and its secret"


def _abilities(source: OIDCTeamAuthenticator, metadata: ProviderMetadata) -> list[Finding]:
    """What the provider can do, and what that means here."""
    path = source.path_of("backchannel_logout")
    found = [
        Finding("back-channel log-out", True, f"tell the provider the address .../hub{path}")
        if metadata.has_backchannel_logout
        else Finding(
            "back-channel log-out",
            None,
            f"the provider has none: what is lost there is lost here within"
            f" {source.refresh_interval + source.watch_interval:.0f} s",
        )
    ]
    if source.log_out_at_provider and metadata.end_session_endpoint is None:
        text = "the provider has no end_session_endpoint: its session goes on after a log-out here"
        found.append(Finding("log-out", None, text))
    if metadata.userinfo_endpoint is None or not source.use_userinfo:
        text = "is not asked: the ID token, also of a refresh, must hold the name and the groups"
        found.append(Finding("userinfo", None, text))
    return found
