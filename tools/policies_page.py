# ruff: noqa: E501 - lines of a Markdown table cannot be broken
"""docs/security/policies.md, from the policies themselves: ``python -m tools.policies_page``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.models import Platform

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security" / "policies.md"
ENDPOINT = {"host": "hub", "address": "192.0.2.1", "port": 8081, "peer": {"cidr": "192.0.2.1/32"}}
# Every setting that brings a rule of its own.
PLATFORM = {
    "hub_api": ENDPOINT,
    "proxy": ENDPOINT,
    "archive_image": "registry.example.org/basic:1",
    "contests": {**ENDPOINT, "host": "contests", "port": 8087},
    "dataset_nfs": True,
    "host_users": False,
    "image_prefixes": ["registry.example.org/"],
    "priority_classes": ["contest"],
    "runtime_class": "sandboxed",
    "toleration_keys": ["gpu"],
}
WHAT = {
    "provisioner": "What the provisioner writes, anywhere in the cluster",
    "retention": "What the provisioner deletes for good",
    "labels": "Whose an object is, whoever writes it (but the provisioner)",
    "pods": "New pods in team namespaces, whoever makes them",
    "archive-pods": "New pods of archive Jobs, whoever makes them",
    "archive-jobs": "New Jobs in team namespaces, whoever makes them",
    "archive-secrets": "Secrets that the provisioner makes",
    "debug-containers": "Containers that somebody adds to a running pod",
    "pod-changes": "Changes of a running pod",
    "claims": "New volume claims in team namespaces, whoever makes them",
    "secrets": "Secrets that the hub makes",
}
HEAD = """\
# What the cluster refuses whoever asks

*This page is generated from the policies: `python tools/generate_docs.py`.*

Roles say which kinds of objects an account may touch ([permissions](permissions.md)). What such an
object may be, ValidatingAdmissionPolicies say: rules that the API server itself evaluates, with
nothing to run and nothing to be down. They hold a hub or a provisioner that somebody took over, and
they fail closed. `jupyterhub-collab rbac` and `jupyterhub-collab install` print them with the roles;
`jupyterhub-collab doctor --kubeconfig FILE`, asked as an administrator, says loudly when they are
missing or of another version. They need Kubernetes 1.31 or newer.

## Who holds whom

| taken over | what holds it |
|---|---|
| the hub | what the provisioner wrote on the team's namespace: images, priority classes, tolerations, storage class, host aliases, the gate (annotations `jupyterhub-collab.org/...`, a line an entry) |
| the provisioner | the platform's settings, which are part of the policies: `image_prefixes`, `priority_classes`, `toleration_keys`, `runtime_class`, `host_users`, `dataset_csi_drivers`, `dataset_nfs`; of networks the platform's services and public ones. Of Jobs it starts those alone that copy a team's volume to the contests service or back (`archive_image`, `contests`), and an administrator's word (the annotation `jupyterhub-collab.org/destroy-with-contest`) stands before what it destroys |
| both | the platform's settings |

The first three of these settings are open unless you say them. On a cluster that others use too, say
them.

Nobody but administrators is exempt: whoever may do everything in the cluster could remove the policies
as well. Whether somebody may is asked only where a rule does not hold.

What they do not hold: a hub that was taken over can still stop servers, start what a team may have,
mount any volume of that team in it, and hand a server another person's token, for it made them all. A
provisioner that was taken over can still give a team any quota, any public network, and any data set
of the allowed drivers. See [decision 0013](../decisions/0013-policy-in-the-cluster.md).

## Settings of the platform that they need

| setting | when |
|---|---|
| `default_priority_class` | the cluster has a PriorityClass with `globalDefault`: it gives it to every pod |
| `added_tolerations` | something in the cluster adds tolerations, a RuntimeClass with `scheduling` for instance |
| `extra_images` | you add sidecars or init containers to servers (besides `TeamSpawner.allowed_extra_images`) |
| `pod_secrets` | such a sidecar reads a Secret that you put into the team namespaces |

What changes pods on their way in (a service mesh's sidecars, a cloud's own defaults) is held like all
else: keep it out of the team namespaces, or name what it adds by these settings.

Say a `storage_class`, or let each contest name one. Where neither does, a claim bears the cluster's
default by the time it is looked at, which cannot be told from a class that somebody asked for: a hub
that was taken over may choose any, and bind volumes that lie ready in it. The empty class, which binds
volumes of no class, is refused in any case.

After a change of the platform's settings apply them again. When upgrading, upgrade the provisioner
first and wait until all teams are ready: the namespaces get their lines from it, and a namespace
without them lets no pod start.
"""


def render() -> str:
    """The page."""
    manifests = make_guard(Platform.model_validate(PLATFORM))
    policies = [m for m in manifests if m["kind"] == "ValidatingAdmissionPolicy"]
    return HEAD + "".join(_section(policy) for policy in policies)


def _section(policy: dict[str, Any]) -> str:
    short = policy["metadata"]["name"].partition(".")[0].removeprefix("jupyterhub-collab-")
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    operations = ", ".join(rules[0]["operations"])
    resources = ", ".join(f"`{name}`" for rule in rules for name in rule["resources"])
    lines = "".join(f"- {rule['message']}\n" for rule in policy["spec"]["validations"])
    return f"\n## {short}\n\n{WHAT[short]}. {operations} of {resources}.\n\n{lines}"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render())
