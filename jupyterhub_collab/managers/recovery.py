"""After the hub's database was lost: give running servers back to their members.

The hub says which pods it does not know; each one's API token is in the Secret that its pod owns,
which the hub may not read and an administrator of the cluster may. The hub then takes the server
over by its own rules. Nothing is ever deleted, and one refusal does not keep the others.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..constants import SECRET_KEY_API_TOKEN
from ..errors import CollabError, PermanentError
from ..hubapi.client import HubClient
from ..kube.client import KubeClient
from ..kube.kinds import SECRET


@dataclass(frozen=True)
class Recovered:
    """One server. `problem`: why it was left as it is; None: it was, or would be, given back."""

    namespace: str
    pod: str
    username: str
    server_name: str
    team: str
    problem: str | None = None


class RecoveryManager:
    """The use case."""

    def __init__(self, hub: HubClient, kube: KubeClient) -> None:
        self._hub, self._kube = hub, kube

    async def run(
        self,
        *,
        dry_run: bool,
        report: Callable[[Recovered], None] = lambda _: None,
    ) -> list[Recovered]:
        """Give back what the hub does not know; with `dry_run` only say what that would be.

        Raises
        ------
        RetryableError, PermanentError
            The hub did not say what it does not know.
        """
        done = []
        secrets: dict[str, dict[str, dict[str, Any]]] = {}
        for stray in await self._hub.list_strays():
            problem: str | None = None
            try:
                token = await self._token_of(stray, secrets)
                if not dry_run:
                    await self._hub.adopt(
                        stray["namespace"], stray["pod"], stray["uid"], api_token=token
                    )
            except CollabError as error:
                problem = str(error)
            found = Recovered(
                namespace=stray["namespace"],
                pod=stray["pod"],
                username=stray["username"],
                server_name=stray["server_name"],
                team=stray["team"],
                problem=problem,
            )
            report(found)
            done.append(found)
        return done

    async def _token_of(
        self, stray: dict[str, str], secrets: dict[str, dict[str, dict[str, Any]]]
    ) -> str:
        """The hub's API token that the server holds, from the Secret its pod owns.

        `secrets` remembers those of each namespace by their owner's uid.
        """
        namespace = stray["namespace"]
        if namespace not in secrets:
            secrets[namespace] = {
                owner.get("uid", ""): secret
                for secret in await self._kube.list(SECRET, namespace=namespace)
                for owner in secret["metadata"].get("ownerReferences") or []
            }
        if stray["uid"] in secrets[namespace]:
            return _decode(secrets[namespace][stray["uid"]])
        raise PermanentError(
            f"The pod {stray['pod']} in {namespace} has no Secret with its token; its server"
            " cannot talk to any hub. Delete the pod; its volumes stay."
        )


def _decode(secret: dict[str, Any]) -> str:
    try:
        raw = base64.b64decode((secret.get("data") or {})[SECRET_KEY_API_TOKEN], validate=True)
        return raw.decode("ascii")
    except (KeyError, binascii.Error, UnicodeDecodeError) as error:
        name = secret["metadata"]["name"]
        raise PermanentError(f"The Secret {name} holds no token of a server.") from error
