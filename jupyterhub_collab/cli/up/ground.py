"""The ground a run stands on: which cluster, and by which addresses hub and pods reach each other.

What: decides, before anything starts, between the embedded cluster and a kubeconfig's; makes the
platform that spawner and provisioner share.
It must not: talk to a cluster as anybody but whom the kubeconfig names.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ...embedded import WARNING, Paths, prepare
from ...embedded.ingress import CLASS, REDIRECT, NamesSettings, write_names
from ...errors import CollabError, KubeError, UserError
from ...kube.client import KubeClient, check_one_kubeconfig
from ...kube.errors import NotFoundError, PermanentKubeError
from ...kube.kinds import NAMESPACE
from ...models.platform import CidrPeer, Endpoint, Platform, TeamNames
from .samples import CSI_DRIVER

HUB_HOST = "hub.collab.internal"
PROXY_HOST = "proxy.collab.internal"
NAMES_SUFFIX = "contests.localhost"  # browsers resolve *.localhost to this machine (RFC 6761)


@dataclass(frozen=True)
class Ground:
    """A cluster to run on.

    Attributes
    ----------
    kubeconfig, provisioner_kubeconfig
        As whom the hub and the provisioner talk to it.
    hub_address
        Address of this machine by which pods reach the hub.
    warning
        What people must know of it.
    """

    kubeconfig: Path
    provisioner_kubeconfig: Path
    hub_address: str
    embedded: bool
    warning: str | None = None


def make_embedded_ground(cluster: Path, *, port: int) -> Ground:
    """The laptop's cluster in a data folder; its certificates are made when missing."""
    paths = prepare(cluster, port)
    return Ground(
        kubeconfig=paths.kubeconfig,
        provisioner_kubeconfig=paths.kubeconfig,
        hub_address="127.0.0.1",
        embedded=True,
        warning=WARNING,
    )


def make_real_ground(
    kubeconfig: Path, *, provisioner_kubeconfig: Path | None, hub_address: str | None
) -> Ground:
    """A cluster that a kubeconfig names.

    Raises
    ------
    UserError
        A file is missing or no kubeconfig, the cluster does not answer, or this machine has no
        such address.
    PermanentError
        It is a list of files.
    """
    files = (kubeconfig, provisioner_kubeconfig or kubeconfig)
    for file in files:
        read_server(file)
        asyncio.run(check_reachable(file))
    address = hub_address or _address_toward(read_server(kubeconfig))
    _check_own_address(address)
    return Ground(
        kubeconfig=files[0].absolute(),
        provisioner_kubeconfig=files[1].absolute(),
        hub_address=address,
        embedded=False,
    )


def make_platform(
    ground: Ground,
    *,
    hub_port: int,
    port: int,
    public_url: str,
    extra: Path | None,
    image: str = "",
    contests_port: int = 0,
) -> Platform:
    """Platform of a run.

    Parameters
    ----------
    image, contests_port
        Of servers; where the contests service listens. Used on the embedded cluster.
    public_url
        Of the hub, for browsers.
    extra
        JSON or YAML file of further settings of the platform (storage class, CSI drivers).
    """
    peer = CidrPeer(cidr=str(ipaddress.ip_network(ground.hub_address)))
    values: dict[str, Any] = {
        "hub_api": Endpoint(host=HUB_HOST, address=ground.hub_address, port=hub_port, peer=peer),
        "proxy": Endpoint(host=PROXY_HOST, address=ground.hub_address, port=port, peer=peer),
    }
    if ground.embedded:
        values["dataset_csi_drivers"] = (CSI_DRIVER,)
        values["archive_image"] = image  # whatever it is: the embedded node runs what is here
        values["contests"] = Endpoint(
            host=ground.hub_address, address=ground.hub_address, port=contests_port, peer=peer
        )
        values["names"] = TeamNames(
            suffixes=(NAMES_SUFFIX,),
            hub_url=public_url,
            ingress_class=CLASS,
            annotations={REDIRECT: "{url}"},
        )
    try:
        more = yaml.safe_load(extra.read_text()) if extra else {}
        return Platform.model_validate({**values, **more})
    except (OSError, ValueError, TypeError, yaml.YAMLError) as e:
        said = " ".join(str(e).split())
        raise UserError(f"The platform settings in {extra} cannot be used: {said}") from e


def find_archives_url(ground: Ground, platform: Platform) -> str:
    """Where the contests service is to answer archive Jobs besides; empty: nowhere.

    The embedded cluster's pods find it where everybody does. On a real one they come from
    elsewhere, and the settings say which port their network policy lets them reach.
    """
    if ground.embedded or platform.contests is None:
        return ""
    host = f"[{ground.hub_address}]" if ":" in ground.hub_address else ground.hub_address
    return f"http://{host}:{platform.contests.target_port or platform.contests.port}"


def put_names(cluster: Path, *, port: int, proxy_api_port: int) -> None:
    """Have the embedded cluster answer to the names of teams."""
    settings = NamesSettings(port, f"http://127.0.0.1:{proxy_api_port}")
    write_names(Paths(cluster), settings)


def read_server(kubeconfig: Path) -> str:
    """URL of the API server that a kubeconfig's current context names."""
    check_one_kubeconfig(kubeconfig)
    try:
        config = yaml.safe_load(kubeconfig.read_text())
        contexts = {c["name"]: c["context"] for c in config["contexts"]}
        clusters = {c["name"]: c["cluster"] for c in config["clusters"]}
        current = config.get("current-context") or next(iter(contexts))
        return str(clusters[contexts[current]["cluster"]]["server"])
    except OSError as e:
        raise UserError(f"The kubeconfig {kubeconfig} cannot be read: {e.strerror}.") from e
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, StopIteration, ValueError) as e:
        raise UserError(
            f"{kubeconfig} is not a kubeconfig with a current context; try "
            f"`kubectl --kubeconfig {kubeconfig} config view`."
        ) from e


async def check_reachable(kubeconfig: Path) -> None:
    """Ask the cluster something; "you may not" is an answer too, "who are you" is none.

    Raises
    ------
    UserError
        No answer, or one that says that the credentials are not known there.
    """
    try:
        client = await KubeClient.from_kubeconfig(kubeconfig, timeout_s=10)
        async with client:
            await client.get(NAMESPACE, "default")
    except CollabError as e:
        if isinstance(e, KubeError) and e.status in (403, 404):
            return
        raise UserError(
            f"The cluster of {kubeconfig} at {read_server(kubeconfig)} does not answer or does "
            f"not let us in: {e}"
        ) from e


async def ensure_hub_namespace(ground: Ground, platform: Platform) -> None:
    """The namespace that holds the provisioner's lease: made on the embedded cluster, demanded of
    another, where its roles come with it.

    Raises
    ------
    UserError
        The cluster has no such namespace.
    """
    name = platform.hub_namespace
    client = await KubeClient.from_kubeconfig(ground.provisioner_kubeconfig)
    async with client:
        try:
            await client.get(NAMESPACE, name)
        except NotFoundError as e:
            if not ground.embedded:
                raise UserError(
                    f"The cluster has no namespace {name}; let its admin apply what "
                    "`jupyterhub-collab rbac` prints."
                ) from e
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await client.create(namespace)
        except PermanentKubeError as e:
            if e.status != 403:  # may not look: it will be seen soon enough
                raise


def _address_toward(server: str) -> str:
    """This machine's address on the way to the API server; pods are assumed to be there too."""
    parts = urlsplit(server)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect((parts.hostname, parts.port or 443))  # no packet: a route look-up
        except OSError as e:
            raise UserError(
                f"No route to the API server {server} ({e.strerror}); say with --hub-address by "
                "which address of this machine pods reach it."
            ) from e
        return str(probe.getsockname()[0])


def _check_own_address(address: str) -> None:
    try:
        ipaddress.ip_address(address)
        with closing(socket.socket()) as probe:
            probe.bind((address, 0))
    except (ValueError, OSError) as e:
        raise UserError(
            f"This machine has no address {address}; --hub-address takes one of its own."
        ) from e
