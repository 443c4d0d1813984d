import json
import re
from types import SimpleNamespace

import jsonschema
import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments.engines import batch, kubernetes
from tests.experiments.engines.test_kubernetes import (
    LATEST,
    SINCE,
    container,
    decide,
    manifest,
    pod,
)

LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")  # RFC 1035
SLICE = {"cloud.google.com/gke-tpu-topology": "2x4"}
WORDS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}


def closed(required=(), **fields):
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


# What JobSet 0.6 publishes of its own, without the Job inside: kubernetes-sigs/jobset,
# config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml. Names of rules and reasons
# are checked by its admission webhook, pkg/webhooks/jobset_webhook.go.
RULE = closed(
    ("name", "action"),
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action={
        "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
    },
    onJobFailureReasons={
        **WORDS,
        "items": {
            "enum": [
                "BackoffLimitExceeded",
                "DeadlineExceeded",
                "FailedIndexes",
                "MaxFailedIndexesExceeded",
                "PodFailurePolicy",
            ]
        },
    },
    targetReplicatedJobs=WORDS,
)
REPLICATED_JOB = closed(
    ("name", "template"),
    name={"type": "string"},
    replicas={"type": "integer", "minimum": 0},
    template={"type": "object"},
)
SPEC = closed(
    (),
    replicatedJobs={"type": "array", "items": REPLICATED_JOB},
    network=closed(
        (),
        enableDNSHostnames={"type": "boolean"},
        publishNotReadyAddresses={"type": "boolean"},
        subdomain={"type": "string"},
    ),
    successPolicy=closed(
        ("operator",),
        operator={"enum": ["All", "Any"]},
        targetReplicatedJobs=WORDS,
    ),
    failurePolicy=closed(
        (),
        maxRestarts={"type": "integer", "minimum": 0},
        rules={"type": "array", "items": RULE},
    ),
    startupPolicy=closed(
        ("startupPolicyOrder",), startupPolicyOrder={"enum": ["AnyOrder", "InOrder"]}
    ),
    suspend={"type": "boolean"},
    coordinator=closed(
        ("replicatedJob",),
        replicatedJob={"type": "string"},
        jobIndex={"type": "integer"},
        podIndex={"type": "integer"},
    ),
    managedBy={"type": "string"},
    ttlSecondsAfterFinished={"type": "integer", "minimum": 0},
)
SCHEMA = closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata={"type": "object"},
    spec=SPEC,
)


def job_set(**settings):
    return manifest(**{"indices": [3], "processes": 2} | settings)


def inner(found):
    """The Job that the JobSet makes, as Kubernetes would get it."""
    [replicated] = found["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    metadata = {"name": f"{found['metadata']['name']}-{replicated['name']}-0"}
    kind = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
    return kind | replicated["template"]


@pytest.mark.parametrize(
    "settings", [{}, {"resources": {"google.com/tpu": 4}, "selector": SLICE}]
)
def test_the_published_schemas_accept_it(settings):
    found = job_set(**settings)
    jsonschema.validate(found, SCHEMA)
    for version in (SINCE, LATEST):
        kubernetes_validate.validate(inner(found), version, strict=True)


@pytest.mark.parametrize(
    "path", ["network", "network subdomain", "failurePolicy maxRestarts"]
)
def test_the_schema_would_notice_a_misspelt_field(path):
    found = job_set()
    *outer, last = path.split()
    section = found["spec"]
    for name in outer:
        section = section[name]
    section[last + "s"] = section.pop(last)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def restart(found, exit_code, condition=None):
    """What JobSet does once a pod has failed so."""
    job = inner(found)
    action = decide(job, exit_code, condition)
    if action == "Ignore":
        return "new pod"
    assert action == "FailJob" or job["spec"]["backoffLimit"] == 0
    reason = "PodFailurePolicy" if action == "FailJob" else "BackoffLimitExceeded"
    for rule in found["spec"]["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"]:
            return rule["action"]
    return "RestartJobSet"


@pytest.mark.parametrize(
    "exit_code, action",
    [
        (65, "FailJobSet"),
        (78, "FailJobSet"),
        (79, "FailJobSet"),
        (75, "new pod"),
        (69, "RestartJobSet"),
        (1, "RestartJobSet"),
        (137, "RestartJobSet"),
    ],
)
def test_what_is_tried_again_follows_from_the_exit_code(exit_code, action):
    assert restart(job_set(), exit_code) == action


def test_an_evicted_pod_does_not_count_and_failures_count_twice():
    found = job_set()
    assert restart(found, 143, "DisruptionTarget") == "new pod"
    assert found["spec"]["failurePolicy"]["maxRestarts"] == 2
    assert inner(found)["spec"]["podReplacementPolicy"] == "Failed"


def test_all_pods_of_a_run_start_at_once_and_have_the_same_cell():
    spec = inner(job_set(processes=4))["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", 4)
    assert spec["parallelism"] == 4
    command = container({"spec": spec})["command"]
    assert command[-1] == "--index=3" and "norms:cpu" in command


def test_a_pod_is_that_of_a_run_of_one_process():
    """But for how it is told what to run: security, volumes, resources."""
    settings = {"selector": SLICE, "resources": {"google.com/tpu": 4}}
    one, several = manifest(**settings), inner(job_set(**settings))
    for job in (one, several):
        for name in ("command", "args", "env"):
            container(job).pop(name, None)
    assert pod(one) == pod(several)


@pytest.mark.parametrize("study", ["norms:cpu", "9" * 60, "x" * 100])
def test_pods_meet_where_the_service_names_the_first(study):
    found = job_set(study=study, processes=1000)
    job, network = inner(found), found["spec"]["network"]
    given = {each["name"]: each for each in container(job)["env"]}
    host, _, port = given["JAX_COORDINATOR_ADDRESS"]["value"].partition(":")
    first = f"{job['metadata']['name']}-0"  # host name of an Indexed Job's first pod
    assert host == f"{first}.{network['subdomain']}"
    assert job["metadata"]["name"] == f"{network['subdomain']}-{kubernetes.JOB}-0"
    assert network["enableDNSHostnames"] and network["publishNotReadyAddresses"]
    assert given["JAX_COORDINATOR_BIND_ADDRESS"]["value"] == f"{first}:{port}"
    place = given["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert place == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", fullmatch=True))
def test_names_are_dns_labels_with_room_for_job_and_index(study):
    name = kubernetes.job_name(study, "/s/norms-cpu", [3], processes=2)
    for label in (name, f"{name}-{kubernetes.JOB}-0-99999-abcde"):
        assert LABEL.fullmatch(label) and len(label) <= 63


def test_no_word_of_the_command_is_replaced():
    command = container(inner(job_set(command=["a b", "$(HOME)", "$$"])))["command"]
    assert command == ["a b", "$$(HOME)", "$$$$", "--index=3"]


def test_a_run_is_a_job_set_of_its_own_and_those_of_one_pod_are_one_job(tmp_path):
    cells = [
        {"id": str(n), "directory": f"runs/study/a-s{n}", "processes": count}
        for n, count in enumerate([2, 1, 3, 1, 2])
    ]
    (tmp_path / "plan.json").write_text(json.dumps({"cells": cells}))
    path = kubernetes.submit("norms:cpu", tmp_path, range(5), image="i", claim="c")
    job, *sets = yaml.safe_load_all(path.read_text())
    assert job["kind"] == "Job" and container(job)["args"] == ["1", "3"]
    assert {found["kind"] for found in sets} == {"JobSet"}
    runs = [
        (container(inner(found))["command"][-1], inner(found)["spec"]["completions"])
        for found in sets
    ]
    assert runs == [("--index=0", 2), ("--index=4", 2), ("--index=2", 3)]
    names = [found["metadata"]["name"] for found in (job, *sets)]
    assert len(set(names)) == 4


def test_job_sets_take_no_turns():
    with pytest.raises(ValueError, match="jobs=1: .*mesh.processes=2 .* choose 0"):
        job_set(jobs=1)


def test_a_run_and_the_one_before_it_have_the_same_processes():
    def of(count):
        return SimpleNamespace(mesh=SimpleNamespace(processes=count))

    cell = SimpleNamespace(arm="a", experiment=of(2), first=None)
    assert batch.processes(cell) == 2
    cell.first = of(1)
    with pytest.raises(ValueError, match="arm 'a': first.mesh.processes=1, but mesh"):
        batch.processes(cell)
