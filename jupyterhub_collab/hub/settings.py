"""Settings of TeamSpawner, apart from it: the hub's handlers need them where no spawner is."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from traitlets import Float, Integer, List, TraitError, Unicode, default, validate
from traitlets.config import Configurable

from ..errors import PermanentError
from ..identity.server_credential import CredentialIssuer, load_or_create_key
from ..models import Platform
from ..platform_file import make_platform


class TeamSettings(Configurable):
    """What an administrator says about teams' servers: ``c.TeamSpawner.<name>``."""

    platform_file = Unicode(
        config=True,
        help="""
        JSON file with the settings of the platform: the namespaces' prefix, where hub and proxy
        are, what is allowed. The provisioner must be given the same.

        Default: the environment variable COLLAB_PLATFORM_FILE.
        """,
    )

    provisioner_url = Unicode(
        config=True,
        help="""
        URL of the provisioner's service, such as
        ``http://127.0.0.1:8081/services/provisioner/``. It is asked to prepare a team's space when
        a server is to start and the space is not ready. Without it a start waits for the
        provisioner's own next look at the hub's groups.

        Default: the environment variable COLLAB_PROVISIONER_URL.
        """,
    )

    provisioner_token = Unicode(
        config=True,
        help="""
        Token of a hub service that may ask the provisioner: scopes
        ``access:services!service=provisioner`` and ``custom:collab:provision``.

        Default: the environment variable COLLAB_PROVISIONER_TOKEN.
        """,
    )

    credential_key_file = Unicode(
        "server-credential.key",
        config=True,
        help="""
        Private key (Ed25519, PEM) with which server credentials are signed. It is made, readable
        by its owner alone, when it does not exist; one that others than owner and group can read,
        or others than the owner change, is refused. Whoever has it can pass for any server's: keep
        it as you keep the hub's cookie secret.
        """,
    )

    readiness_timeout = Float(
        120.0,
        min=1.0,
        config=True,
        help="Seconds that a start waits for its team's space to be ready.",
    )

    stuck_timeout = Float(
        60.0,
        min=1.0,
        config=True,
        help="""
        Seconds that a start goes on while a container cannot be made: its image cannot be fetched,
        or a volume or Secret is missing. Then the start ends, and the member reads why. More where
        the registry is unsteady.
        """,
    )

    concurrent_starts = Integer(
        128,
        min=1,
        config=True,
        help="""
        How many servers start at once, on the whole hub. More wait for their turn: contests take
        turns, and the teams of each. A contest that starts alone has half of these places, so that
        another finds one at once.

        It takes the place of ``JupyterHub.concurrent_spawn_limit``, which must be 0: starts that
        wait would count there.
        """,
    )

    waiting_starts = Integer(
        1000,
        min=1,
        config=True,
        help="""
        How many starts of one contest wait for their turn. Further ones are refused (429) and told
        when to come again (Retry-After).
        """,
    )

    turn_timeout = Float(
        600.0,
        min=1.0,
        config=True,
        help="""
        Seconds that a start waits for its turn; then it is refused (429). ``start_timeout`` begins
        when it has its turn.
        """,
    )

    allowed_extra_images = List(
        Unicode(),
        config=True,
        help="""
        Images that sidecars and init containers of yours may have besides the team's own: whole
        references, compared letter by letter.
        """,
    )

    @default("platform_file")
    def _platform_file_default(self) -> str:
        return os.environ.get("COLLAB_PLATFORM_FILE", "")

    @default("provisioner_url")
    def _provisioner_url_default(self) -> str:
        return os.environ.get("COLLAB_PROVISIONER_URL", "")

    @default("provisioner_token")
    def _provisioner_token_default(self) -> str:
        return os.environ.get("COLLAB_PROVISIONER_TOKEN", "")

    @validate("provisioner_url")
    def _validate_provisioner_url(self, proposal: Any) -> str:
        url: str = proposal["value"]
        if url and not url.startswith(("http://", "https://")):
            raise TraitError(f"provisioner_url must begin with http:// or https://, not {url!r}")
        return url

    @property
    def platform(self) -> Platform:
        """The platform's settings. Raises PermanentError when the file is missing or wrong."""
        return _read_platform(self.platform_file)

    @property
    def issuer(self) -> CredentialIssuer:
        """Who signs credentials. Raises CredentialKeyError when the key file cannot be used."""
        return _read_issuer(self.credential_key_file)


def settings_of(config: Any) -> TeamSettings:
    """The settings, from a JupyterHub configuration, without a spawner."""
    # traitlets finds a class's section of the configuration by the class's name.
    named = type("TeamSpawner", (TeamSettings,), {})
    found: TeamSettings = named(config=config)
    return found


@functools.lru_cache(maxsize=8)
def _read_platform(path: str) -> Platform:
    if not path:
        raise PermanentError("Set c.TeamSpawner.platform_file: it says what the platform is.")
    return make_platform(path)


@functools.lru_cache(maxsize=8)
def _read_issuer(path: str) -> CredentialIssuer:
    return CredentialIssuer(load_or_create_key(Path(path)))
