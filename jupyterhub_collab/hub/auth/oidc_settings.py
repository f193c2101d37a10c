"""Settings of the authenticator for OpenID Connect.

OAuthenticator's keep their names; those of them that would weaken a log-in, or mean nothing here,
are refused with what to do instead.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from oauthenticator.generic import GenericOAuthenticator
from traitlets import Bool, Enum, Float, List, TraitError, Unicode, Union, default, validate

from ...identity.documents import SourceMisconfiguredError
from .team_authenticator import TeamAuthenticator

# And what to do instead.
_NOT_HERE: Final = {
    "authorize_url": "addresses come by discovery: set issuer",
    "token_url": "addresses come by discovery: set issuer",
    "userdata_url": "addresses come by discovery: set issuer and use_userinfo",
    "userdata_from_id_token": "the ID token is always read, and verified",
    "userdata_params": "userinfo is asked as the standard says",
    "userdata_token_method": "a token never goes into an address",
    "token_params": "the code is exchanged as the standard says",
    "extra_params": "the code is exchanged as the standard says",
    "enable_pkce": "PKCE is always on",
    "validate_server_cert": "certificates are always verified: set ca_file",
    "tls_verify": "certificates are always verified: set ca_file",
    "http_request_kwargs": "set ca_file for certificates",
    "basic_auth": "set client_auth",
    "allowed_scopes": "write a rule (rules_file)",
    "allowed_groups": "write a rule (rules_file)",
    "admin_groups": "write a rule that gives the role admin (rules_file)",
    "auth_state_groups_key": "set groups_claim",
    "claim_groups_key": "set groups_claim",
    "username_key": "set username_claim",
    "modify_auth_state_hook": "a rule can look at every claim (rules_file)",
    "refresh_user_hook": "the provider is asked",
}


class OIDCSettings(TeamAuthenticator, GenericOAuthenticator):  # type: ignore[misc]
    """What an admin can say about one provider."""

    issuer = Unicode(
        config=True,
        help="""
        The provider's issuer, exactly as it writes it; the source's name in rules, too.
        `https://login.example.org/realms/science`
        """,
    )

    client_secret_file = Unicode(
        config=True,
        help="File with the client's secret, in place of `client_secret`. Read again when used.",
    )

    client_auth = Enum(
        ("auto", "basic", "post"),
        "auto",
        config=True,
        help="How the client shows its secret; auto: as the provider says that it takes it.",
    )

    ca_file = Unicode(
        config=True, help="Certificates (PEM) to trust with the provider, in place of the system's."
    )

    algorithms = List(
        Unicode(),
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
        config=True,
        help="Algorithms of ID tokens that are taken, where the provider has them.",
    )

    username_claim = Unicode(
        "preferred_username",
        config=True,
        help="Claim with the name that people go by. It is no key: that is the claim `sub`.",
    )

    groups_claim = Union(
        [Unicode(), List(Unicode())],
        default_value="groups",
        config=True,
        help="Claim with the groups; a list of names leads into nested claims.",
    )

    groups_required = Bool(
        False,
        config=True,
        help="""
        Whether a provider that says nothing of groups is an error (an admin must act) and not "in
        no group". On, a scope that got lost takes nothing from anybody.
        """,
    )

    groups_url = Unicode(
        config=True,
        help="""
        Where to ask for the groups of somebody with too many for a token (Entra, from 200), by
        their own access token. For Entra:
        `https://graph.microsoft.com/v1.0/me/transitiveMemberOf/microsoft.graph.group?$select=id`
        """,
    )

    groups_url_field = Unicode(
        "id", config=True, help="Field of the answer at `groups_url` that is a group's name."
    )

    use_userinfo = Bool(
        True, config=True, help="Whether to ask for userinfo, where the provider has it."
    )

    max_auth_age = Float(
        0.0,
        min=0.0,
        config=True,
        help="Seconds since the person last showed who they are there. 0: however long ago.",
    )

    refresh_interval = Float(
        300.0,
        min=1.0,
        config=True,
        help="Seconds after which the provider is asked again about somebody, at the door or not.",
    )

    log_out_at_provider = Bool(
        True,
        config=True,
        help="""
        Whether logging out here ends the session at the provider too. Otherwise the next click on
        the login button lets the same person in again without a word.
        """,
    )

    post_logout_redirect_url = Unicode(
        config=True,
        help="""
        Where the provider sends people after that; the provider must know it. Default: this hub's
        `/hub/logout`.
        """,
    )

    url_scope = Unicode(
        config=True,
        help="""
        Word in this source's addresses, `/hub/oidc/WORD/callback`. Alone on a hub: none, and the
        callback is `/hub/oauth_callback`. One of several: by default the issuer's host.
        """,
    )

    @default("scope")
    def _scope_default(self) -> list[str]:
        return ["openid", "profile", "email"]

    @validate("scope")
    def _validate_scope(self, proposal: Any) -> Any:
        if "openid" not in proposal["value"]:
            raise TraitError("scope: openid must be in it, or the provider gives no ID token")
        return proposal["value"]

    @validate("url_scope")
    def _validate_url_scope(self, proposal: Any) -> Any:
        if not re.fullmatch(r"[a-z0-9-]*", proposal["value"]):
            raise TraitError("url_scope: only small letters, digits and hyphens")
        return proposal["value"]

    @default("login_service")
    def _login_service_default(self) -> str:
        return "single sign-on"

    @default("enable_auth_state")
    def _enable_auth_state_default(self) -> bool:
        return True

    @validate("enable_auth_state")
    def _validate_enable_auth_state(self, proposal: Any) -> bool:
        if not proposal["value"]:
            raise TraitError("enable_auth_state must be on: the provider is asked by what is kept")
        return True

    def refuse_settings(self) -> None:
        for name, instead in _NOT_HERE.items():
            is_set = self.trait_has_value(name)
            if is_set and getattr(self, name) != self.trait_defaults(name):
                raise TraitError(f"{type(self).__name__}.{name} cannot be set: {instead}")

    def read_secret(self) -> str:
        """The client's secret as it is now; empty for a public client.

        Raises
        ------
        SourceMisconfiguredError
            The file cannot be read, or is empty.
        """
        if not self.client_secret_file:
            return str(self.client_secret)
        try:
            found = Path(self.client_secret_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as e:
            why = getattr(e, "strerror", None) or type(e).__name__
            raise SourceMisconfiguredError(
                f"client_secret_file: {self.client_secret_file} cannot be read: {why}"
            ) from e
        if not found:
            raise SourceMisconfiguredError(
                f"client_secret_file: {self.client_secret_file} is empty"
            )
        return found
