"""The Job controller, as far as our Jobs need one: one pod at a time until one succeeds.

It counts pods by their phases, so a restart goes on where the last run was killed. What a Job owns
goes with it by the garbage collector. It does not know: completions and parallelism above one,
deadlines, time to live, pod failure policies, and a pause between two tries.

Notes
-----
https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

import copy
from typing import Any, Final

from ..kube import kinds as k
from .failures import ApiError
from .objects import Objects, Write, to_time
from .resources import Json

_BY_US: Final = Write("embedded")
_BY_NOBODY: Final = Write()
_UID: Final = "batch.kubernetes.io/controller-uid"
_NAME: Final = "batch.kubernetes.io/job-name"


def _is_finished(job: Json) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


class Jobs:
    """All Jobs; `sync` brings those of a namespace one step further."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def sync(self, namespace: str) -> None:
        """Start pods that are due, and note how those ended that are there."""
        for job in self._objects.store.select(k.JOB, namespace):
            if "deletionTimestamp" not in job["metadata"] and not _is_finished(job):
                self._sync(job, namespace)

    def _sync(self, job: Json, namespace: str) -> None:
        uid = job["metadata"]["uid"]
        pods = [
            pod
            for pod in self._objects.store.select(k.POD, namespace)
            if any(o["uid"] == uid for o in pod["metadata"].get("ownerReferences") or ())
        ]
        phases = [pod["status"]["phase"] for pod in pods]
        succeeded, failed = phases.count("Succeeded"), phases.count("Failed")
        active = len(phases) - succeeded - failed
        if not active and not succeeded and failed <= job["spec"]["backoffLimit"]:
            active = self._start(job, namespace)
        self._note(job, active=active, succeeded=succeeded, failed=failed)

    def _start(self, job: Json, namespace: str) -> int:
        meta, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        marks = {_UID: meta["uid"], _NAME: meta["name"]}
        more = {"controller-uid": meta["uid"], "job-name": meta["name"]}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
        told = template.get("metadata") or {}
        pod = {
            "metadata": {
                "generateName": f"{meta['name']}-",
                "labels": {**(told.get("labels") or {}), **marks, **more},
                "annotations": dict(told.get("annotations") or {}),
                "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
            },
            "spec": template["spec"],
        }
        try:
            self._objects.create(k.POD, namespace, pod, _BY_US)
        except ApiError as error:
            # No room in the quota, say: tried again when something in the namespace changes.
            events = self._objects.store.select(k.EVENT, namespace)
            if not any(e["involvedObject"]["uid"] == meta["uid"] for e in events):
                said = f"Error creating: {error}"
                self._objects.record_event(job, "FailedCreate", said, "job-controller", "Warning")
            return 0
        return 1

    def _note(self, job: Json, *, active: int, succeeded: int, failed: int) -> None:
        now = to_time(self._objects.clock())
        before = job.get("status", {})
        status: dict[str, Any] = {"startTime": before.get("startTime", now)}
        counts = {"active": active, "succeeded": succeeded, "failed": failed}
        status |= {key: number for key, number in counts.items() if number}
        since = {"status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        if succeeded:
            status["completionTime"] = now
            status["conditions"] = [
                {"type": "SuccessCriteriaMet", "reason": "CompletionsReached", **since},
                {"type": "Complete", "reason": "CompletionsReached", **since},
            ]
        elif not active and failed > job["spec"]["backoffLimit"]:
            why = {"reason": "BackoffLimitExceeded", **since}
            why["message"] = "Job has reached the specified backoff limit"
            status["conditions"] = [{"type": t, **why} for t in ("FailureTarget", "Failed")]
        if status != before:
            self._objects.update(k.JOB, job, {**job, "status": status}, _BY_NOBODY, status=True)
