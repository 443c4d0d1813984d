"""Runs on a Kubernetes cluster: the text of Jobs and JobSets, for ``kubectl create``.

Runs of one process are one Indexed Job. It needs Kubernetes 1.33 (1.29 with the feature
gates that are on by default) for retries counted by index,
https://kubernetes.io/docs/concepts/workloads/controllers/job. A run with
``mesh.processes=N`` is a JobSet of its own with N pods, which needs JobSet 0.6 or later
for rules of failure, https://jobset.sigs.k8s.io. Nothing here talks to a cluster. What
happens to a run that ends with

- 0: its index, or its JobSet, has succeeded.
- 65, 78, 79: it has failed and is not tried again. 79 is a result, the training
  diverged, and the run's directory says so (``DONE.json``); but Kubernetes takes no
  exit code but 0 for success. So ``kubectl`` shows a Job with a diverged run as failed,
  while ``experiments.run STUDY status`` shows that run as finished. What is missing is
  read from the directories alone.
- 75, and a pod that is evicted, preempted or drained: a new pod goes on from the state
  that was saved; it does not count. The pods of a run stop together.
- anything else: at most two more pods, or two restarts of all pods of the run.

A failed run stops no other. A pod is replaced only when it is gone altogether, so that
two never work on one run. Pods of a run wait for each other; a queue such as Kueue
admits them together.

The pods of a run find each other by the name that the JobSet's headless service gives
to pod 0, which listens at its own address alone; see ``tfm_jax.runs.process.peers``.
They need no right to ask Kubernetes.
"""

import functools
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from experiments.engines import batch
from tfm_jax.api import ConfigError, exits

NAME_LENGTH = 45  # of 63 for a pod's name, which adds job, index and five letters
JOB = "run"  # of a JobSet, its only one
PORT = 1234  # where pod 0 listens for the others
_PLACE = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def manifest(
    study: str,
    directory: Path,
    indices: Iterable[int],
    *,
    processes: int = 1,
    image: str,
    claim: str,
    jobs: int = 0,
    resources: Mapping[str, object] | None = None,
    selector: Mapping[str, str] | None = None,
    mount: str = "/studies",
    user: int = 1000,
    command: Sequence[str] = (),
) -> str:
    """The Job or the JobSets as YAML; equal arguments give equal text and equal names.

    Args:
        study: ``NAME:SCALE``. directory: of the study; its last part is its folder on
            the volume.
        indices: of runs in the study's ``plan.json``, which lies on the volume too.
        processes: of each run, see ``mesh.processes``; more than one: a JobSet a run.
        image: container image with the package, as the Dockerfile makes it, and with
            the files that the study names.
        claim: PersistentVolumeClaim that holds the studies; mounted at ``mount``. The
            caches of compiled programs and prepared data live on it as well.
        jobs: pods at a time; 0: all.
        resources: of a pod: ``{"cpu": 8, "memory": "32Gi", "nvidia.com/gpu": 1}``; of
            TPUs ``{"google.com/tpu": 4}``, the chips of a host.
        selector: labels of the nodes to use, as of a kind of accelerator, or
            ``{"cloud.google.com/gke-tpu-topology": "4x4"}``.
        user: numeric, not 0; owns what is written.
        command: argv that runs a cell, given ``--index=N``; default
            ``python -m experiments.run STUDY one``.
    Raises: ConfigError for no run, a negative index, ``user=0``, a study's name that no
        file can have, and ``jobs`` of JobSets, which do not wait for each other.
    """
    indices = sorted(set(indices))
    if not indices or indices[0] < 0:
        raise ConfigError(f"indices {indices}: must be some, from 0")
    batch.legal("study", study, batch.STUDY)
    if user < 1 or jobs < 0:
        raise ConfigError(
            f"user={user} and jobs={jobs}: must be above 0; jobs may be 0"
        )
    if jobs and processes > 1:
        raise ConfigError(
            f"jobs={jobs}: runs with mesh.processes={processes} are JobSets, which all "
            "start unless a queue such as Kueue makes them wait; choose 0"
        )
    default = ["python", "-m", "experiments.run", study, "one", f"--out={mount}"]
    labels = {"app.kubernetes.io/name": "tfm-jax", "study": _label(study)}
    template = functools.partial(
        _template,
        labels=labels,
        image=image,
        claim=claim,
        resources=resources or {},
        selector=selector or {},
        mount=mount,
        user=user,
    )
    made = []
    for group in [indices] if processes == 1 else [[index] for index in indices]:
        name = job_name(study, directory, group, processes)
        metadata = {"name": name, "labels": labels}
        if processes == 1:
            pods = template(_invoke(command or default, group))
            made.append(_job(metadata, pods, len(group), jobs))
        else:
            argv = [*(command or default), f"--index={group[0]}"]
            argv = [str(word).replace("$", "$$") for word in argv]
            pods = template({"command": argv}, _meeting(name))
            made.append(_job_set(metadata, pods, processes))
    return yaml.safe_dump_all(made, sort_keys=False)


def _template(
    invocation, variables=(), *, labels, image, claim, resources, selector, mount, user
):
    """Of pods: one container, which runs ``invocation`` with the studies mounted."""
    cache = {"name": "XDG_CACHE_HOME", "value": f"{mount}/.cache"}
    volume = {"name": "studies", "persistentVolumeClaim": {"claimName": claim}}
    container = {
        "name": "run",
        "image": image,
        **invocation,
        "env": [cache, *variables],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": volume["name"], "mountPath": mount}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": batch.GRACE,
        "automountServiceAccountToken": False,
        "nodeSelector": dict(selector),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [volume],
    }
    return {"metadata": {"labels": labels}, "spec": pod}


def _job(metadata, pods, completions, jobs):
    """The runs of one process each."""
    spec = {
        "completionMode": "Indexed",
        "completions": completions,
        "parallelism": min(jobs or completions, completions),
        "backoffLimitPerIndex": batch.RETRIES,
        "maxFailedIndexes": completions,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules("FailIndex")},
        "template": pods,
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _job_set(metadata, pods, processes):
    """One run of several processes: any failure that counts restarts all of them."""
    job = {
        "completionMode": "Indexed",
        "completions": processes,
        "parallelism": processes,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules("FailJob")},
        "template": pods,
    }
    ended = {
        "name": "ended",
        "action": "FailJobSet",
        "onJobFailureReasons": ["PodFailurePolicy"],  # of the Job: by its FailJob
    }
    spec = {
        "network": {
            "enableDNSHostnames": True,
            "publishNotReadyAddresses": True,
            "subdomain": metadata["name"],
        },
        "failurePolicy": {"maxRestarts": batch.RETRIES, "rules": [ended]},
        "replicatedJobs": [{"name": JOB, "replicas": 1, "template": {"spec": job}}],
    }
    version = "jobset.x-k8s.io/v1alpha2"
    return {"apiVersion": version, "kind": "JobSet", "metadata": metadata, "spec": spec}


def _meeting(name):
    """Variables by which the pods of JobSet ``name`` find each other."""
    first = f"{name}-{JOB}-0-0"  # its name; /etc/hosts of the pod itself has it, too
    place = {"fieldRef": {"fieldPath": _PLACE}}
    return [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{first}.{name}:{PORT}"},
        {"name": "JAX_COORDINATOR_BIND_ADDRESS", "value": f"{first}:{PORT}"},
        {"name": "JAX_PROCESS_ID", "valueFrom": place},
    ]


def submit(
    study: str, directory: Path, indices: Iterable[int], **settings: Any
) -> Path:
    """Writes those of the runs that have not ended: ``kubernetes/job.yaml``.

    Create them with ``kubectl create --filename``.

    Args: as ``manifest``, which ``plan.json`` tells ``processes``.
    Raises: ConfigError as ``manifest``, and if nothing is left to run.
    """
    directory = Path(directory)
    left = batch.missing(directory, indices)
    texts = [
        manifest(study, directory, group, processes=n, **settings)
        for n, group in left.items()
    ]
    path = directory / "kubernetes" / "job.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("---\n".join(texts), encoding="utf-8")
    return path


def job_name(
    study: str, directory: Path, indices: Iterable[int], processes: int = 1
) -> str:
    """A DNS label (RFC 1035), another one for other runs: Jobs cannot be changed."""
    content: list = [study, PurePosixPath(directory).name, *indices]
    if processes > 1:
        content.append({"processes": processes})
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]
    label = _label(study)
    label = label if label[0].isalpha() else f"study-{label}"
    return f"{label[: NAME_LENGTH - 9].rstrip('-')}-{digest}"


def _label(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:63].strip("-")


def _invoke(command, indices):
    """The shell turns the pod's place in the Job into the index of a run.

    ``exec`` makes Python process 1 of the container, which is the one that gets
    SIGTERM. ``$$`` is how Kubernetes writes ``$``; it would replace ``$(NAME)``.
    """
    run = shlex.join(map(str, command)).replace("$", "$$")
    text = f'shift "$JOB_COMPLETION_INDEX"; exec {run} --index="$1"'
    return {"command": ["sh", "-c", text, "sh"], "args": [str(n) for n in indices]}


def _failure_rules(final):
    """In this order; the first that fits a failed pod decides."""
    ended = {"operator": "In", "values": sorted(exits.FINAL)}
    saved = {"operator": "In", "values": [exits.PREEMPTED]}
    return [
        {"action": final, "onExitCodes": ended},
        {"action": "Ignore", "onExitCodes": saved},
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
    ]
