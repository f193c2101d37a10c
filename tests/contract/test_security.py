"""Who gets in, and what they may do there."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from .client import Api, Json, path_of

RBAC = "rbac.authorization.k8s.io"


def _pod(**security: object) -> Json:
    container = {"name": "main", "image": "none", "securityContext": security}
    return {"metadata": {"name": "p"}, "spec": {"containers": [container]}}


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_a_token_is_needed(api: Api, token: str) -> None:
    """A wrong token answers 401 `Unauthorized`; without one nobody is an administrator."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        anonymous = Api(session, api.server, False)  # and no client certificate
        body = (await anonymous.get(path_of("secrets"))).expect(401, *([] if token else [403]))
    assert body["kind"] == "Status"
    assert body["reason"] in ("Unauthorized", "Forbidden")


async def test_the_certificate_is_checked(api: Api) -> None:
    """A client that does not know the cluster's authority does not get to speak."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(api.server + "/version")


async def test_health_needs_no_token(api: Api) -> None:
    """`/readyz` answers `ok` to anybody."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(api.server + "/readyz", ssl=False) as answer,
    ):
        assert (answer.status, await answer.text()) == (200, "ok")


async def test_roles_are_stored(api: Api, namespace: str) -> None:
    """Roles and bindings are stored as they were sent."""
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    role = {"metadata": {"name": "r"}, "rules": [rule]}
    assert (await api.post(path_of("roles", namespace), role)).expect()["rules"] == [rule]
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    reference = {"apiGroup": RBAC, "kind": "Role", "name": "r"}
    binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]}
    made = (await api.post(path_of("rolebindings", namespace), binding)).expect()
    assert (made["roleRef"], made["subjects"]) == (reference, [subject])


@pytest.mark.embedded_excused("It knows one token, whose holder may do everything: no RBAC.")
async def test_rbac(api: Api, namespace: str) -> None:
    """A service account may do what its roles say and nothing else."""
    body = {"spec": {"expirationSeconds": 600}}
    path = path_of("serviceaccounts", namespace, "default", "token")
    token = (await api.post(path, body)).expect()["status"]["token"]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        member = Api(session, api.server, False)
        (await member.get(path_of("configmaps", namespace))).expect(403)
        rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
        role = {"metadata": {"name": "r"}, "rules": [rule]}
        (await api.post(path_of("roles", namespace), role)).expect()
        subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
        reference = {"apiGroup": RBAC, "kind": "Role", "name": "r"}
        binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]}
        (await api.post(path_of("rolebindings", namespace), binding)).expect()
        (await member.get(path_of("secrets", namespace))).expect(403)
        for _ in range(200):
            if (await member.get(path_of("configmaps", namespace))).code == 200:
                return
    pytest.fail("the role never took effect")


@pytest.mark.embedded_excused("It enforces no Pod Security: pods are processes of the same user.")
@pytest.mark.parametrize(
    "security",
    [{"privileged": True}, {"runAsUser": 0}, {"allowPrivilegeEscalation": True}],
    ids=["privileged", "root", "escalation"],
)
async def test_pod_security(api: Api, namespace: str, security: dict[str, object]) -> None:
    """In a namespace labelled `restricted` a pod that is not is refused (403)."""
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    (await api.patch(path_of("namespaces", name=namespace), label)).expect()
    body = (await api.post(path_of("pods", namespace), _pod(**security))).expect(403)
    assert 'violates PodSecurity "restricted' in body["message"]


async def test_a_hardened_pod_passes(api: Api, namespace: str) -> None:
    """A pod with dropped capabilities, seccomp and an ordinary user passes `restricted`."""
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    (await api.patch(path_of("namespaces", name=namespace), label)).expect()
    pod = _pod(
        runAsNonRoot=True,
        runAsUser=1000,
        allowPrivilegeEscalation=False,
        capabilities={"drop": ["ALL"]},
        seccompProfile={"type": "RuntimeDefault"},
    )
    (await api.post(path_of("pods", namespace), pod)).expect()


async def test_policies_are_stored(api: Api, namespace: str) -> None:
    """NetworkPolicies with selectors, ranges, exceptions and ports are stored as they were sent."""
    rule = {
        "to": [
            {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}},
            {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}},
        ],
        "ports": [{"protocol": "TCP", "port": 8000, "endPort": 8010}],
    }
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [rule]}
    body = {"metadata": {"name": "x"}, "spec": spec}
    made = (await api.post(path_of("networkpolicies", namespace), body)).expect()
    assert made["spec"] == spec


@pytest.mark.embedded_excused("It knows no admission policies.")
async def test_admission_policies(api: Api, namespace: str) -> None:
    """What a ValidatingAdmissionPolicy does not allow is refused with its own sentence."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
        "validations": [{"expression": "has(object.data)", "message": "an empty one is no use"}],
    }
    binding = {"policyName": namespace, "validationActions": ["Deny"]}
    policies, bindings = "validatingadmissionpolicies", "validatingadmissionpolicybindings"
    for plural, what in ((policies, spec), (bindings, binding)):
        body = {"metadata": {"name": namespace}, "spec": what}
        (await api.post(path_of(plural), body)).expect()
    path = path_of("configmaps", namespace)
    try:
        for i in range(300):
            answer = await api.post(path, {"metadata": {"name": f"empty-{i}"}})
            if answer.code == 422:
                assert "an empty one is no use" in answer.body["message"]
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the policy never took effect")
        (await api.post(path, {"metadata": {"name": "full"}, "data": {"a": "b"}})).expect()
    finally:
        for plural in (bindings, policies):
            await api.delete(path_of(plural, name=namespace))
