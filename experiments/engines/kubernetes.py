"""Runs on a Kubernetes cluster: the text of one Indexed Job, for ``kubectl create``.

The Job needs Kubernetes 1.33 (1.29 with the feature gates that are on by default) for
retries counted by index, https://kubernetes.io/docs/concepts/workloads/controllers/job.
Nothing here talks to a cluster. What happens to a run that ends with

- 0: its index has succeeded.
- 65, 78, 79: its index has failed and is not tried again. 79 is a result, the training
  diverged, and the run's directory says so (``DONE.json``); but Kubernetes takes no
  exit code but 0 for success. So ``kubectl`` shows a Job with a diverged run as failed,
  while ``experiments.run STUDY status`` shows that run as finished. What is missing is
  read from the directories alone.
- 75, and a pod that is evicted, preempted or drained: a new pod goes on from the state
  that was saved; it does not count.
- anything else: at most two more pods.

A failed run stops no other. A pod is replaced only when it is gone altogether, so that
two never work on one run.
"""

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

NAME_LENGTH = 50  # of 63 for a pod's host name, which adds the index


def manifest(
    study: str,
    directory: Path,
    indices: Iterable[int],
    *,
    image: str,
    claim: str,
    jobs: int = 0,
    resources: Mapping[str, object] | None = None,
    selector: Mapping[str, str] | None = None,
    mount: str = "/studies",
    user: int = 1000,
    command: Sequence[str] = (),
) -> str:
    """The Job as YAML; equal arguments give equal text and an equal name.

    Args:
        study: ``NAME:SCALE``. directory: of the study; its last part is its folder on
            the volume.
        indices: of runs in the study's ``plan.json``, which lies on the volume too.
        image: container image with the package, as the Dockerfile makes it, and with
            the files that the study names.
        claim: PersistentVolumeClaim that holds the studies; mounted at ``mount``. The
            caches of compiled programs and prepared data live on it as well.
        jobs: pods at a time; 0: all.
        resources: of a pod: ``{"cpu": 8, "memory": "32Gi", "nvidia.com/gpu": 1}``.
        selector: labels of the nodes to use, as of a kind of accelerator.
        user: numeric, not 0; owns what is written.
        command: argv that runs a cell, given ``--index=N``; default
            ``python -m experiments.run STUDY one``.
    Raises: ConfigError for no run, a negative index, ``user=0`` and a study's name that
        no file can have.
    """
    indices = sorted(set(indices))
    if not indices or indices[0] < 0:
        raise ConfigError(f"indices {indices}: must be some, from 0")
    batch.legal("study", study, batch.STUDY)
    if user < 1 or jobs < 0:
        raise ConfigError(
            f"user={user} and jobs={jobs}: must be above 0; jobs may be 0"
        )
    default = ["python", "-m", "experiments.run", study, "one", f"--out={mount}"]
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": batch.GRACE,
        "automountServiceAccountToken": False,
        "nodeSelector": dict(selector or {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "run",
                "image": image,
                **_invoke(command or default, indices),
                "env": [{"name": "XDG_CACHE_HOME", "value": f"{mount}/.cache"}],
                "resources": {
                    "requests": dict(resources or {}),
                    "limits": dict(resources or {}),
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "studies", "mountPath": mount}],
            }
        ],
        "volumes": [{"name": "studies", "persistentVolumeClaim": {"claimName": claim}}],
    }
    labels = {"app.kubernetes.io/name": "tfm-jax", "study": _label(study)}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(study, directory, indices), "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": len(indices),
            "parallelism": min(jobs or len(indices), len(indices)),
            "backoffLimitPerIndex": batch.RETRIES,
            "maxFailedIndexes": len(indices),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    return yaml.safe_dump(job, sort_keys=False)


def submit(
    study: str, directory: Path, indices: Iterable[int], **settings: Any
) -> Path:
    """Writes the Job of those runs that have not ended: ``kubernetes/job.yaml``.

    Create it with ``kubectl create --filename``.

    Args: as ``manifest``.
    Raises: ConfigError as ``manifest``, and if nothing is left to run.
    """
    directory = Path(directory)
    left = batch.missing(directory, indices)
    text = manifest(study, directory, left, **settings)
    path = directory / "kubernetes" / "job.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def job_name(study: str, directory: Path, indices: Iterable[int]) -> str:
    """A DNS label (RFC 1123), another one for other runs: Jobs cannot be changed."""
    content = json.dumps([study, PurePosixPath(directory).name, *indices])
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{_label(study)[: NAME_LENGTH - 9].rstrip('-')}-{digest}"


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


def _failure_rules():
    """In this order; the first that fits a failed pod decides."""
    ended = {"operator": "In", "values": sorted(batch.FINAL)}
    saved = {"operator": "In", "values": [exits.PREEMPTED]}
    return [
        {"action": "FailIndex", "onExitCodes": ended},
        {"action": "Ignore", "onExitCodes": saved},
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
    ]
