"""Where a directory (LDAP, Active Directory) is, how to ask it, and how long to wait for it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from ldap3.operation.search import parse_filter
from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from ..models.document import Document
from .directory_entries import substitute

USERNAME: Final = "{username}"
_PORTS: Final = {"ldap": 389, "ldaps": 636}


class GroupStrategy(str, Enum):
    """How the groups of a person are found, nested ones too.

    ``memberof``: what the person's entry says; nested ones only where the server resolves them.
    ``ad-chain``: Active Directory's rule 1.2.840.113556.1.4.1941; one search, all levels. Other
    servers answer it with success and nothing.
    ``token-groups``: Active Directory's tokenGroups: security groups only, the primary one too.
    ``breadth-first``: level by level, on any server.
    """

    MEMBEROF = "memberof"
    AD_CHAIN = "ad-chain"
    TOKEN_GROUPS = "token-groups"  # noqa: S105 - no password
    BREADTH_FIRST = "breadth-first"


def _check_filter(text: str) -> str:
    if text:
        try:
            parse_filter(substitute(text, username="x"), None, False, False, None, False)
        except Exception as e:  # ldap3 raises what it happens to, IndexError among it
            raise ValueError(f"{text!r} is no LDAP filter (RFC 4515): {e}") from None
    return text


Filter = Annotated[str, AfterValidator(_check_filter)]
Seconds = Annotated[float, Field(gt=0, le=300)]
Bases = tuple[Annotated[str, Field(min_length=1)], ...]


class Server(Document):
    """One server of a directory."""

    host: str
    port: int = Field(ge=1, le=65535)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class DirectorySettings(Document):
    """Settings of one directory; several servers of one directory answer alike."""

    model_config = ConfigDict(hide_input_in_errors=True)  # it holds a password

    name: str = Field(min_length=1, description="Issuer of its identities. Never change it.")
    servers: tuple[str, ...] = Field(
        min_length=1,
        description="host, host:port or a URL (ldaps://host); the first is asked first.",
    )
    tls: Literal["ldaps", "starttls", "insecure"] = Field(
        "ldaps", description="insecure sends passwords in the clear: for tests alone."
    )
    ca_file: Path | None = Field(
        None, description="Of a private CA (PEM); the system's unless said."
    )

    bind_templates: tuple[str, ...] = Field(
        (),
        description="Direct bind: uid={username},ou=people,dc=example,dc=org or"
        " {username}@ad.example.org or EXAMPLE\\{username}; tried in turn.",
    )
    bind_dn: str = Field("", description="Service account, for search bind and to look people up.")
    bind_password: SecretStr = SecretStr("")
    anonymous_search: bool = Field(False, description="Search without a service account.")

    user_bases: Bases = Field(min_length=1)
    user_filter: Filter = "(uid={username})"
    active_filter: Filter = Field(
        "",
        description="What a person must fit to be looked up or counted as a member, beyond"
        " user_filter; Active Directory:"
        " (!(userAccountControl:1.2.840.113556.1.4.803:=2)). A login is judged by the bind.",
    )
    username_attribute: str = Field("uid", description="Active Directory: sAMAccountName.")
    identity_attribute: Literal["entryUUID", "objectGUID"] = "entryUUID"
    attributes: tuple[str, ...] = Field(("cn", "mail"), description="Read as claims.")

    group_strategy: GroupStrategy = GroupStrategy.BREADTH_FIRST
    group_bases: Bases = ()
    group_filter: Filter = Field("(objectClass=*)", description="What a group must fit.")
    member_attributes: tuple[str, ...] = Field(
        ("member", "uniqueMember"), description="Of groups; they hold distinguished names."
    )
    member_name_attributes: tuple[str, ...] = Field(
        (), description="Of groups; they hold user names: memberUid."
    )
    primary_group: bool = Field(
        False, description="Active Directory: count it. Always on with ad-chain and token-groups."
    )
    max_groups: int = Field(2000, ge=1, description="Of a person, and of groups within a group.")
    max_depth: int = Field(16, ge=1, description="Levels of groups in groups.")

    connect_timeout_s: Seconds = Field(3.0, description="To connect; for TLS as long again.")
    receive_timeout_s: Seconds = Field(4.0, description="For one answer; then the next server.")
    timeout_s: Seconds = Field(
        10.0, description="For a whole login, waiting for its turn included."
    )
    bulk_timeout_s: Seconds = Field(60.0, description="For all members of a group.")
    threads: int = Field(8, ge=1, le=64, description="Calls at once, so connections of each kind.")
    max_waiting: int = Field(
        1000, ge=1, description="Calls at once and in line; others are refused."
    )
    idle_s: Seconds = Field(60.0, description="An unused connection is unbound after this.")
    failures_to_break: int = Field(3, ge=1, description="In a row, then a server is left alone ...")
    break_s: Seconds = Field(15.0, description="... for so long; then one call tries it.")
    tell_locked: bool = Field(
        False, description="Tell whoever types its name that an account is locked."
    )

    @field_validator("user_filter", "bind_templates")
    @classmethod
    def _name_the_person(cls, said: Any) -> Any:
        for text in (said,) if isinstance(said, str) else said:
            if USERNAME not in text:
                raise ValueError(f"{text!r} has no {USERNAME}: it would fit everybody")
        return said

    @model_validator(mode="after")
    def _check(self) -> DirectorySettings:
        for text in self.servers:
            self._to_server(text)
        if not (self.bind_templates or self.bind_dn or self.anonymous_search):
            raise ValueError("give bind_dn (service account) or bind_templates (direct bind)")
        if bool(self.bind_dn) != bool(self.bind_password.get_secret_value()):
            raise ValueError("bind_dn and bind_password come together: a bind without is anonymous")
        if self.group_strategy is not GroupStrategy.MEMBEROF and not self.group_bases:
            raise ValueError(f"group_bases is needed for {self.group_strategy.value}")
        if self.counts_primary_group and self.identity_attribute != "objectGUID":
            raise ValueError(
                "primary groups and ad strategies go with identity_attribute objectGUID"
            )
        return self

    @property
    def addresses(self) -> tuple[Server, ...]:
        """The servers, in the order in which they are asked."""
        return tuple(self._to_server(text) for text in self.servers)

    @property
    def counts_primary_group(self) -> bool:
        return self.primary_group or self.group_strategy in (
            GroupStrategy.AD_CHAIN,
            GroupStrategy.TOKEN_GROUPS,
        )

    @property
    def can_look_up(self) -> bool:
        """Whether people can be asked about who are not here with their password."""
        return bool(self.bind_dn) or self.anonymous_search

    def _to_server(self, text: str) -> Server:
        scheme = "ldaps" if self.tls == "ldaps" else "ldap"
        url = urlsplit(text if "://" in text else f"{scheme}://{text}")
        try:
            port = url.port
        except ValueError:
            raise ValueError(f"{text!r} has no valid port") from None
        if url.scheme != scheme:
            raise ValueError(f"{text!r}: with tls: {self.tls} its address is {scheme}://...")
        if not url.hostname or url.username or url.path.strip("/") or url.query:
            raise ValueError(f"{text!r} is no address of a server; write {scheme}://host:port")
        return Server(host=url.hostname, port=port or _PORTS[scheme])
