"""The test cluster's NetworkPolicies: computed right, and enforced as computed."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.cluster import conntrack, netpol, policy_cases, probing
from tests.cluster.address_plan import AddressPlan
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.policy_cases import (
    CASES,
    FRIEND,
    HERE,
    HOST,
    NAMESPACES,
    PODS,
    THERE,
    WEB,
    Case,
    Flow,
    into_server,
    to_server,
)

#: A policy is in force within tens of milliseconds; a busy machine gets this many seconds.
PATIENCE_S = 10.0
PLAN = AddressPlan(0)
ADDRESSES = {
    **{name: f"10.128.0.{number}" for number, name in enumerate(PODS, start=2)},
    HOST: PLAN.host_address,
}


def make_world() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the pods (with addresses) and namespaces of the cases, as the API would."""
    pods = []
    for name, (namespace, labels) in PODS.items():
        pod = probing.make_pod(
            namespace,
            name,
            labels=labels,
            port_names={WEB: policy_cases.WEB_NAME},
        )
        pods.append(pod | {"status": {"phase": "Running", "podIP": ADDRESSES[name]}})
    namespaces = [
        probing.make_namespace(name, {**labels, "kubernetes.io/metadata.name": name})
        for name, labels in NAMESPACES.items()
    ]
    return pods, namespaces


def compute_case(case: Case) -> netpol.Rules:
    pods, namespaces = make_world()
    return netpol.compute(case.make_policies(ADDRESSES), pods, namespaces)


def is_flow_allowed(rules: netpol.Rules, flow: Flow) -> bool:
    return netpol.is_allowed(
        rules,
        pod_range=PLAN.pod_range,
        source=ADDRESSES[flow.source],
        destination=ADDRESSES[flow.destination],
        protocol=flow.protocol,
        port=flow.port,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_is_computed(case: Case) -> None:
    rules = compute_case(case)
    assert case.passes, "a case without a flow that passes would hold for a broken probe"
    assert case.stopped
    assert [flow for flow in case.passes if not is_flow_allowed(rules, flow)] == []
    assert [flow for flow in case.stopped if is_flow_allowed(rules, flow)] == []


def test_unknown_pod_is_closed_both_ways() -> None:
    pods, namespaces = make_world()
    rules = netpol.compute([], pods, namespaces)

    def ask(known: netpol.Rules, source: str, destination: str) -> bool:
        return netpol.is_allowed(
            known,
            pod_range=PLAN.pod_range,
            source=source,
            destination=destination,
            protocol="TCP",
            port=80,
        )

    stranger, server = "10.128.9.9", ADDRESSES["server"]
    assert ask(rules, ADDRESSES["friend"], server)
    assert not ask(rules, stranger, server)
    assert not ask(rules, server, stranger)
    assert not ask(netpol.CLOSED, ADDRESSES[HOST], server)


def test_pods_without_an_address_of_their_own_make_no_rules() -> None:
    pods, namespaces = make_world()
    pods[0]["status"]["phase"] = "Succeeded"
    pods[1]["spec"]["hostNetwork"] = True
    del pods[2]["status"]["podIP"]
    rules = netpol.compute([], pods, namespaces)
    assert set(rules.pods) == {IPv4Address(ADDRESSES[name]) for name in list(PODS)[3:]}


def test_sctp_is_a_protocol_of_its_own() -> None:
    ports = [{"protocol": "SCTP", "port": 7777}]
    case = Case("sctp", (into_server({"ports": ports}),), (), ())
    rules = compute_case(case)
    assert is_flow_allowed(rules, Flow("friend", "server", 7777, "SCTP"))
    assert not is_flow_allowed(rules, Flow("friend", "server", 7777, "TCP"))


def test_unknown_operator_is_an_error() -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}
    with pytest.raises(ClusterError, match="Gt"):
        netpol.is_selected(selector, {"app": "2"})


def test_exceptions_leave_exactly_the_rest() -> None:
    holes = ["10.0.1.0/24", "10.0.1.128/25", "10.0.9.9/32", "192.168.0.0/16", "fd00::/8"]
    parts = netpol.read_block({"cidr": "10.0.0.0/20", "except": holes})
    total = sum(part.num_addresses for part in parts)
    assert total == 2**12 - 2**8 - 1
    assert not any(IPv4Address("10.0.1.200") in part for part in parts)
    assert any(IPv4Address("10.0.2.1") in part for part in parts)
    assert netpol.read_block({"cidr": "10.0.0.0/20", "except": ["10.0.0.0/8"]}) == []
    assert netpol.read_block({"cidr": "fd00::/8"}) == []


def test_connection_table_line_is_read_after_translation() -> None:
    line = (
        "tcp      6 86392 ESTABLISHED src=10.128.0.3 dst=10.129.7.7 sport=41000 dport=80 "
        "src=10.128.0.2 dst=10.128.0.3 sport=8080 dport=41000 [ASSURED] mark=0 use=1"
    )
    flow = conntrack.parse_flow(line)
    assert flow is not None
    assert (flow.source, flow.receiver, flow.receiver_port) == ("10.128.0.3", "10.128.0.2", 8080)
    assert conntrack.parse_flow("icmp 1 29 src=1.1.1.1 dst=2.2.2.2 type=8 code=0 id=1") is None


# On the real node -----------------------------------------------------------------------------


class World:
    """The pods of the cases on a real node, and a prober in each."""

    def __init__(self, cluster: Cluster, host_port: int) -> None:
        self.cluster = cluster
        self._host_port = host_port
        self.addresses = {HOST: cluster.host_address}
        for name, (namespace, _) in PODS.items():
            pod = cluster.get("pod", name, "-n", namespace)
            self.addresses[name] = pod["status"]["podIP"]
        self._probers: dict[str, Any] = {HOST: probing.HostProber()}
        for name, (namespace, _) in PODS.items():
            self._probers[name] = probing.Prober(cluster, namespace, name)

    def attempt(self, flow: Flow) -> str:
        port = self._host_port if flow.destination == HOST else flow.port
        address = self.addresses[flow.destination]
        return str(self._probers[flow.source].attempt(flow.protocol, address, port))

    def find_wrong(self, passes: tuple[Flow, ...], stopped: tuple[Flow, ...]) -> list[str]:
        """Try all flows once; returns those that are not as they should be."""
        wrong = [
            f"{flow} was stopped: {said}"
            for flow in passes
            if (said := self.attempt(flow)) != "yes"
        ]
        return wrong + [f"{flow} passed" for flow in stopped if self.attempt(flow) == "yes"]

    def expect(self, passes: tuple[Flow, ...], stopped: tuple[Flow, ...]) -> None:
        """Wait until one whole look at all flows is right."""
        wait_for(lambda: not (wrong := self.find_wrong(passes, stopped)) or wrong)

    def close(self) -> None:
        for prober in self._probers.values():
            prober.close()


def wait_for(look: Callable[[], Any]) -> None:
    """Look again and again until `look` says True; fail with what it said last."""
    deadline = time.monotonic() + PATIENCE_S
    while (said := look()) is not True:
        assert time.monotonic() < deadline, said


def has_default_account(cluster: Cluster, namespace: str) -> bool:
    return bool(cluster.get("sa", "-n", namespace)["items"])


@contextlib.contextmanager
def applied(cluster: Cluster, manifests: list[dict[str, Any]]) -> Iterator[None]:
    cluster.apply(*manifests)
    try:
        yield
    finally:
        cluster.kubectl("delete", "networkpolicy", "--all", "-n", HERE, "--wait=false")


@pytest.fixture(scope="module")
def world(node_cluster: Cluster) -> Iterator[World]:
    cluster = node_cluster
    cluster.apply(*(probing.make_namespace(name, labels) for name, labels in NAMESPACES.items()))
    for namespace in NAMESPACES:
        wait_for(functools.partial(has_default_account, cluster, namespace))
    cluster.apply(
        *(
            probing.make_pod(
                namespace,
                name,
                labels=labels,
                tcp_ports=policy_cases.TCP_PORTS,
                udp_ports=policy_cases.UDP_PORTS,
                port_names={WEB: policy_cases.WEB_NAME},
            )
            for name, (namespace, labels) in PODS.items()
        )
    )
    for namespace in NAMESPACES:
        options = ["pod", "--all", "-n", namespace, "--for=condition=Ready", "--timeout=60s"]
        cluster.kubectl("wait", *options, timeout_s=70)
    with probing.echo_on_host(cluster.host_address, 0) as port:
        world = World(cluster, port)
        try:
            yield world
        finally:
            world.close()
            cluster.kubectl("delete", "namespace", *NAMESPACES, "--wait=false")


@pytest.mark.node
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_is_enforced(world: World, case: Case) -> None:
    """Everything is open, then only what the case says, by real connections."""
    world.expect((*case.passes, *case.stopped), ())
    with applied(world.cluster, case.make_policies(world.addresses)):
        world.expect(case.passes, case.stopped)


@pytest.mark.node
def test_policy_holds_behind_a_service(world: World) -> None:
    """A Service's address is translated first; the policy sees the pod behind it."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": HERE},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": WEB}]},
    }
    world.cluster.apply(service)
    world.addresses["service"] = world.cluster.get("service", "server", "-n", HERE)["spec"][
        "clusterIP"
    ]
    friend, other = Flow("friend", "service", 80), Flow("other", "service", 80)
    world.expect((friend, other, Flow(HOST, "service", 80)), ())
    case = Case("", (into_server({"from": [{"podSelector": FRIEND}]}),), (), ())
    with applied(world.cluster, case.make_policies(world.addresses)):
        world.expect((friend,), (other, Flow(HOST, "service", 80)))


def does_echo(connection: socket.socket) -> bool:
    connection.settimeout(probing.PROBE_TIMEOUT_S)
    try:
        connection.sendall(b"still there?")
        return connection.recv(16) == b"still there?"
    except OSError:  # refused, reset or silent
        return False


@pytest.mark.node
def test_open_connection_is_cut_when_it_is_denied(world: World) -> None:
    """The connection from the host echoes until a policy denies it; one from before that is
    still allowed goes on."""
    world.expect(to_server(HOST), ())
    address, allowed = ((world.addresses[name], WEB) for name in ("server", "far-friend"))
    with (
        socket.create_connection(address, timeout=5) as cut,
        socket.create_connection(allowed, timeout=5) as kept,
    ):
        assert does_echo(cut)
        assert does_echo(kept)
        case = Case("", (into_server({"from": [{"podSelector": FRIEND}]}),), (), ())
        with applied(world.cluster, case.make_policies(world.addresses)):
            world.expect(to_server("friend"), to_server(HOST))
            assert not does_echo(cut)
            assert does_echo(kept)


@pytest.mark.node
def test_open_connection_outlives_the_agent(world: World) -> None:
    """An agent that starts anew takes no pod that runs for one that it has not seen."""
    cluster = world.cluster
    if cluster.directory is None:
        pytest.skip("a foreign cluster's agent is not ours to kill")
    case = Case("", (into_server({"from": [{"podSelector": FRIEND}]}),), (), ())
    with socket.create_connection((world.addresses["far-friend"], WEB), timeout=5) as kept:
        for _ in range(3):
            cluster.kill("agent")
            with applied(cluster, case.make_policies(world.addresses)):  # it is back at work
                world.expect(to_server("friend"), to_server(HOST))
            assert does_echo(kept)


@pytest.mark.node
def test_pod_is_closed_until_its_policies_are_known(world: World) -> None:
    """With the agent held, a new pod runs and reaches nothing, and nothing reaches it."""
    cluster = world.cluster
    if cluster.directory is None:
        pytest.skip("a foreign cluster's agent is not ours to hold")
    agent = (cluster.directory / "pid" / "agent").read_text().strip()
    pod = probing.make_pod(THERE, "newcomer", tcp_ports=[WEB])
    del pod["spec"]["containers"][0]["readinessProbe"]
    cluster.in_node("kill", "-STOP", agent)
    try:
        cluster.apply(pod)
        options = ["pod/newcomer", "-n", THERE, "--for=jsonpath={.status.phase}=Running"]
        cluster.kubectl("wait", *options, "--timeout=30s")
        prober = probing.Prober(cluster, THERE, "newcomer")
        newcomer = cluster.get("pod", "newcomer", "-n", THERE)["status"]["podIP"]
        server = world.addresses["server"]
        try:
            assert prober.attempt("TCP", server, WEB) == "no (silence)"
            assert probing.HostProber().attempt("TCP", newcomer, WEB) == "no (silence)"
            cluster.in_node("kill", "-CONT", agent)
            wait_for(lambda: prober.attempt("TCP", server, WEB) == "yes")
            wait_for(lambda: probing.HostProber().attempt("TCP", newcomer, WEB) == "yes")
        finally:
            prober.close()
    finally:
        cluster.in_node("kill", "-CONT", agent)
        cluster.kubectl("delete", "pod", "newcomer", "-n", THERE, "--wait=false")


@pytest.mark.node
def test_node_reaches_its_own_pods_for_probes(world: World) -> None:
    """A pod becomes ready (kubelet connects to it) where everything is denied; and the denial is
    in force, since the host, which is not the node, does not reach it."""
    cluster = world.cluster
    deny = Case("", ({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},), (), ())
    with applied(cluster, deny.make_policies(world.addresses)):
        cluster.apply(probing.make_pod(HERE, "probed", tcp_ports=[WEB]))
        try:
            options = ["pod/probed", "-n", HERE, "--for=condition=Ready", "--timeout=30s"]
            cluster.kubectl("wait", *options)
            address = cluster.get("pod", "probed", "-n", HERE)["status"]["podIP"]
            refused = "no (No route to host)"
            wait_for(lambda: probing.HostProber().attempt("TCP", address, WEB) == refused)
        finally:
            cluster.kubectl("delete", "pod", "probed", "-n", HERE, "--wait=false")


@pytest.mark.node
def test_node_has_no_ipv6_and_no_way_out(world: World) -> None:
    """Nothing of a pod leaves by IPv6 or by a default route."""
    cluster = world.cluster
    if not cluster.is_ours:
        pytest.skip("a foreign cluster's network is not ours to judge")
    assert cluster.in_node("ip", "-4", "route", "show", "default").stdout == ""
    assert cluster.in_node("ip", "-6", "route", "show").stdout == ""
    assert cluster.in_node("ip", "-6", "addr", "show", "scope", "link").stdout == ""
    # The twin: the same pod reaches the host's end of the link, and nothing beyond it.
    world.expect((Flow("friend", HOST),), ())
    world.addresses["outside"] = "192.0.2.1"  # documentation: nobody's
    unreachable = "no (Network is unreachable)"
    wait_for(lambda: (said := world.attempt(Flow("friend", "outside", 80))) == unreachable or said)
