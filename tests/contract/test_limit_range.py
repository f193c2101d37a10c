"""LimitRange: defaults, bounds, and the words of a refusal."""

from __future__ import annotations

from typing import Any

from .client import Api, Json, path_of


async def _limits(api: Api, namespace: str, **item: Any) -> None:
    spec = {"limits": [{"type": "Container", **item}]}
    body = {"metadata": {"name": "team"}, "spec": spec}
    (await api.post(path_of("limitranges", namespace), body)).expect()


async def _resources_of(api: Api, namespace: str, **resources: Any) -> Json:
    container = {"name": "main", "image": "none", "resources": resources}
    body = {"metadata": {"generateName": "p-"}, "spec": {"containers": [container]}}
    made = (await api.post(path_of("pods", namespace), body)).expect(201)
    found: Json = made["spec"]["containers"][0]["resources"]
    return found


async def _refusal(api: Api, namespace: str, **resources: Any) -> str:
    container = {"name": "main", "image": "none", "resources": resources}
    body = {"metadata": {"name": "p"}, "spec": {"containers": [container]}}
    return str((await api.post(path_of("pods", namespace), body)).expect(403)["message"])


async def test_defaults(api: Api, namespace: str) -> None:
    """Containers get the default limits and requests where they name none."""
    limits, requests = {"cpu": "2", "memory": "2Gi"}, {"cpu": "100m"}
    await _limits(api, namespace, default=limits, defaultRequest=requests)
    found = await _resources_of(api, namespace)
    assert found == {"limits": limits, "requests": {"cpu": "100m", "memory": "2Gi"}}


async def test_what_is_named_stays(api: Api, namespace: str) -> None:
    """A limit that a container names stays, and is its request unless it names that too."""
    await _limits(api, namespace, default={"cpu": "2"}, defaultRequest={"cpu": "100m"})
    found = await _resources_of(api, namespace, limits={"cpu": "1"})
    assert found == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}
    found = await _resources_of(api, namespace, limits={"cpu": "1"}, requests={"cpu": "50m"})
    assert found == {"limits": {"cpu": "1"}, "requests": {"cpu": "50m"}}


async def test_a_maximum_is_a_default(api: Api, namespace: str) -> None:
    """A LimitRange with only a maximum shows it as default limit and default request too."""
    await _limits(api, namespace, max={"memory": "1Gi"})
    body = (await api.get(path_of("limitranges", namespace, "team"))).expect()
    (item,) = body["spec"]["limits"]
    assert item["default"] == item["defaultRequest"] == {"memory": "1Gi"}
    found = await _resources_of(api, namespace)
    assert found == {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}


async def test_maximum(api: Api, namespace: str) -> None:
    """A limit above the maximum answers 403 and says what, the bound and what was asked."""
    await _limits(api, namespace, max={"cpu": "1"})
    message = await _refusal(api, namespace, limits={"cpu": "1500m"})
    words = "maximum cpu usage per Container is 1, but limit is 1500m"
    assert message == f'pods "p" is forbidden: {words}'


async def test_minimum(api: Api, namespace: str) -> None:
    """A request below the minimum answers 403 and says what, the bound and what was asked."""
    await _limits(api, namespace, min={"memory": "64Mi"})
    message = await _refusal(api, namespace, requests={"memory": "32Mi"})
    words = "minimum memory usage per Container is 64Mi, but request is 32Mi"
    assert message == f'pods "p" is forbidden: {words}'


async def test_several_bounds(api: Api, namespace: str) -> None:
    """Several broken bounds are told together, in brackets."""
    await _limits(api, namespace, max={"cpu": "1"}, min={"memory": "64Mi"})
    asked = {"limits": {"cpu": "2", "memory": "32Mi"}}
    message = await _refusal(api, namespace, **asked)
    assert "maximum cpu usage per Container is 1, but limit is 2" in message
    assert "minimum memory usage per Container is 64Mi, but request is 32Mi" in message
    assert message.startswith('pods "p" is forbidden: [')


async def test_claims(api: Api, namespace: str) -> None:
    """A claim above the maximum for claims answers 403; one below it is taken."""
    spec = {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}}]}
    body = {"metadata": {"name": "team"}, "spec": spec}
    (await api.post(path_of("limitranges", namespace), body)).expect()
    for size, code in (("20Gi", 403), ("10Gi", 201)):
        resources = {"requests": {"storage": size}}
        spec_of = {"accessModes": ["ReadWriteOnce"], "resources": resources}
        claim = {"metadata": {"name": "c"}, "spec": {**spec_of, "storageClassName": "none"}}
        answer = await api.post(path_of("persistentvolumeclaims", namespace), claim)
        text = answer.expect(code).get("message", "")
    words = "maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi"
    assert text == "" or words in text


async def test_defaults_satisfy_the_quota(api: Api, namespace: str) -> None:
    """Defaults come before the quota: a pod that names nothing is taken under a cpu quota."""
    await _limits(api, namespace, default={"cpu": "1"}, defaultRequest={"cpu": "1"})
    hard = {"limits.cpu": "1"}
    quota = {"metadata": {"name": "team"}, "spec": {"hard": hard}}
    (await api.post(path_of("resourcequotas", namespace), quota)).expect()
    path = path_of("resourcequotas", namespace, "team")
    await api.until(path, lambda a: a.body["status"].get("hard") == hard)
    await _resources_of(api, namespace)
    assert "requested: limits.cpu=1, used: limits.cpu=1" in await _refusal(api, namespace)
