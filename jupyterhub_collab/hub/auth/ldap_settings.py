"""A directory's settings as traits: where it is and how to ask it, in a hub's configuration.

Each is one field of `identity.directory_settings.DirectorySettings`, which checks them together:
this gives them names and help, and turns what is wrong into an error that names the trait. It must
not: decide anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from traitlets import Bool, Enum, Float, HasTraits, Integer, List, TraitError, Unicode

from ...identity.directory_settings import DirectorySettings, GroupStrategy


class DirectoryTraits(HasTraits):
    """Where a directory is, how people are found in it, and how long to wait."""

    name = Unicode(
        "ldap",
        config=True,
        help="""
        What this directory is called in rules (`issuer`) and in the list of who is who. Never
        change it once somebody has logged in: all would be strangers under taken names.
        """,
    )

    servers = List(
        Unicode(),
        config=True,
        help="""
        Its servers: `dc1.example.org`, `dc1.example.org:3269` or `ldaps://dc1.example.org`. The
        first is asked first; the others when it does not answer. All must hold the same people.
        """,
    )

    tls = Enum(
        ("ldaps", "starttls", "insecure"),
        "ldaps",
        config=True,
        help="""
        `ldaps` (port 636) or `starttls` (port 389): the certificate is checked, always. `insecure`
        sends passwords in the clear over the network, for tests on one machine.
        """,
    )

    ca_file = Unicode(
        config=True,
        help="""
        Certificates (PEM) of the CA that signed the servers' certificates, where it is your own.
        Default: those that the system trusts.
        """,
    )

    bind_dn = Unicode(
        config=True,
        help="""
        The service account with which people are found before their password is tried, and with
        which they are asked about while nobody is at the door. It may only read. Without one
        (`bind_templates` alone) who leaves a group keeps it here until the next login.
        """,
    )

    bind_password = Unicode(
        config=True, help="The service account's password. Better: bind_password_file."
    )

    bind_password_file = Unicode(
        config=True,
        help="""
        File with the service account's password, read at the hub's start; the end of its line does
        not count. So the password is in no configuration.
        """,
    )

    anonymous_search = Bool(
        False, config=True, help="Find people as nobody, where the directory lets nobody search."
    )

    bind_templates = List(
        Unicode(),
        config=True,
        help="""
        Direct bind, without a service account: `uid={username},ou=people,dc=example,dc=org`, or on
        Active Directory `{username}@ad.example.org` or `EXAMPLE\\{username}`. Tried in turn, so
        each counts as a try at the directory when the first is wrong: give as few as you can.
        """,
    )

    user_bases = List(
        Unicode(), config=True, help="Where people are: `ou=people,dc=example,dc=org`."
    )

    user_filter = Unicode(
        "(uid={username})",
        config=True,
        help="""
        Who a typed name is: `{username}` stands for it, made harmless. It decides too who may log
        in at all. Active Directory: `(&(objectClass=user)(sAMAccountName={username}))`. If it takes
        several names for one person, each name has tries of its own (`tries_per_account`).
        """,
    )

    active_filter = Unicode(
        config=True,
        help="""
        What people must fit to keep what they have while nobody is at the door. Without it an
        account that was disabled, not deleted, loses nothing before its next login. Active
        Directory: `(!(userAccountControl:1.2.840.113556.1.4.803:=2))`. OpenLDAP with ppolicy:
        `(!(pwdAccountLockedTime=000001010000Z))`.
        """,
    )

    username_attribute = Unicode(
        "uid",
        config=True,
        help="""
        Gives people their name on the hub, whatever they typed. Active Directory: `sAMAccountName`.
        """,
    )

    identity_attribute = Enum(
        ("entryUUID", "objectGUID"),
        "entryUUID",
        config=True,
        help="""
        What tells people apart for good, when names change and are given to others. Active
        Directory: `objectGUID`.
        """,
    )

    attributes = List(
        Unicode(),
        ["cn", "mail"],
        config=True,
        help="Attributes of people that rules may ask for, as claims.",
    )

    group_strategy = Enum(
        tuple(strategy.value for strategy in GroupStrategy),
        GroupStrategy.BREADTH_FIRST.value,
        config=True,
        help="""
        How groups of a person are found. `breadth-first`: groups in groups, on any server.
        `memberof`: what the person's entry says, no nested ones on most servers. Active Directory:
        `ad-chain` (all levels in one search) or `token-groups` (security groups).
        """,
    )

    group_bases = List(
        Unicode(), config=True, help="Where groups are: `ou=groups,dc=example,dc=org`."
    )

    group_filter = Unicode("(objectClass=*)", config=True, help="What a group must fit.")

    member_attributes = List(
        Unicode(),
        ["member", "uniqueMember"],
        config=True,
        help="Attributes of groups that hold members' distinguished names.",
    )

    member_name_attributes = List(
        Unicode(),
        config=True,
        help="Attributes of groups that hold members' user names: `memberUid`.",
    )

    primary_group = Bool(
        False,
        config=True,
        help="""
        Active Directory keeps a person's primary group apart: count it. Always on with `ad-chain`
        and `token-groups`.
        """,
    )

    max_groups = Integer(
        2000,
        config=True,
        help="""
        Groups of one person, and groups within a group. Beyond it nobody gets half a list: the
        login fails and the log says why.
        """,
    )

    max_depth = Integer(16, config=True, help="Levels of groups in groups.")

    connect_timeout_s = Float(
        3.0, config=True, help="Seconds to connect to one server; for TLS as long again."
    )

    receive_timeout_s = Float(
        4.0, config=True, help="Seconds for one answer; then the next server is asked."
    )

    timeout_s = Float(
        10.0,
        config=True,
        help="Seconds for a whole login or look-up, waiting for its turn included.",
    )

    bulk_timeout_s = Float(60.0, config=True, help="Seconds for all members of one group.")

    threads = Integer(8, config=True, help="Calls at once, and so connections of each kind.")

    max_waiting = Integer(
        1000, config=True, help="Calls at once and in line; further ones are refused at once."
    )

    idle_s = Float(60.0, config=True, help="Seconds until an unused connection is unbound.")

    failures_to_break = Integer(
        3, config=True, help="Failures in a row after which a server is left alone for a while."
    )

    break_s = Float(15.0, config=True, help="Seconds for which it is left alone.")

    tell_locked = Bool(
        False,
        config=True,
        help="""
        Tell whoever types its name that an account is locked. It helps people, and tells strangers
        which names exist.
        """,
    )

    def to_settings(self) -> DirectorySettings:
        """All of them, checked.

        Raises
        ------
        TraitError
            Something is wrong; the text names the trait.
        """
        said: dict[str, Any] = {n: getattr(self, n) for n in DirectorySettings.model_fields}
        said["ca_file"] = self.ca_file or None
        said["bind_password"] = self._password()
        try:
            return DirectorySettings.model_validate(said)
        except ValidationError as e:
            lines = []
            for error in e.errors(include_url=False, include_context=False, include_input=False):
                trait = f".{error['loc'][0]}" if error["loc"] else ""
                text = error["msg"].removeprefix("Value error, ")
                lines.append(f"c.{type(self).__name__}{trait}: {text}")
            raise TraitError("\n".join(lines)) from None  # its cause may hold the password

    def _password(self) -> str:
        if not self.bind_password_file:
            return str(self.bind_password)
        where = f"c.{type(self).__name__}.bind_password_file"
        if self.bind_password:
            raise TraitError(f"{where}: bind_password is set too; set one of them")
        try:
            password = Path(self.bind_password_file).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as e:
            why = e.strerror if isinstance(e, OSError) else "it is no text"
            raise TraitError(f"{where}: {self.bind_password_file} cannot be read: {why}") from e
        if not password:
            raise TraitError(f"{where}: {self.bind_password_file} is empty")
        return password
