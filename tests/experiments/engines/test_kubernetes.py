import json
import os
import re
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments.engines import kubernetes

SINCE, LATEST = "1.33", kubernetes_validate.latest_version()
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")  # RFC 1123
RESOURCES = {"cpu": 8, "memory": "32Gi", "nvidia.com/gpu": 1}


def manifest(
    study="norms:cpu", directory="/s/norms-cpu", indices=(3, 0, 7), **settings
):
    settings = {"image": "registry.example/tfm:1", "claim": "runs"} | settings
    text = kubernetes.manifest(study, directory, indices, **settings)
    return yaml.safe_load(text)


def pod(job):
    return job["spec"]["template"]["spec"]


def container(job):
    [one] = pod(job)["containers"]
    return one


@pytest.mark.parametrize("version", [SINCE, LATEST])
@pytest.mark.parametrize(
    "settings", [{}, {"resources": RESOURCES, "selector": {"kind": "a"}, "jobs": 2}]
)
def test_the_published_schema_accepts_it(version, settings):
    kubernetes_validate.validate(manifest(**settings), version, strict=True)


@pytest.mark.parametrize(
    "knob", ["completions", "podFailurePolicy", "backoffLimitPerIndex"]
)
def test_the_schema_would_notice_a_misspelt_field(knob):
    job = manifest()
    job["spec"][knob + "s"] = job["spec"].pop(knob)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, SINCE, strict=True)


def decide(job, exit_code, condition=None):
    """What the Job controller does with a failed pod: the first rule that fits."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {"values": []})["values"]
        conditions = [wanted["type"] for wanted in rule.get("onPodConditions", [])]
        if exit_code in codes or condition in conditions:
            return rule["action"]
    return "Count"


@pytest.mark.parametrize(
    "exit_code, action",
    [
        (65, "FailIndex"),
        (78, "FailIndex"),
        (79, "FailIndex"),
        (75, "Ignore"),
        (69, "Count"),
        (1, "Count"),
        (137, "Count"),
    ],
)
def test_what_is_tried_again_follows_from_the_exit_code(exit_code, action):
    assert decide(manifest(), exit_code) == action


def test_an_evicted_pod_does_not_count():
    assert decide(manifest(), 143, "DisruptionTarget") == "Ignore"


def test_a_pod_that_counts_is_replaced_at_most_twice_and_stops_no_other():
    spec = manifest(jobs=2)["spec"]
    assert (spec["backoffLimitPerIndex"], spec["parallelism"]) == (2, 2)
    assert spec["maxFailedIndexes"] == spec["completions"] == 3
    assert spec["completionMode"] == "Indexed"


def test_what_the_server_asks_beyond_the_schema():
    # pkg/apis/batch/validation: sorted codes without 0, Never with a failure policy
    job = manifest()
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        values = rule.get("onExitCodes", {"values": []})["values"]
        assert values == sorted(set(values)) and 0 not in values
    assert pod(job)["restartPolicy"] == "Never"
    assert job["spec"]["podReplacementPolicy"] == "Failed"


def test_a_pod_has_the_restricted_security_standard_and_time_to_save():
    # https://kubernetes.io/docs/concepts/security/pod-security-standards
    job = manifest()
    assert pod(job)["securityContext"]["runAsNonRoot"] is True
    assert pod(job)["securityContext"]["runAsUser"] > 0
    assert pod(job)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(job)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(job)["automountServiceAccountToken"] is False
    assert pod(job)["terminationGracePeriodSeconds"] == 120


def test_the_studies_are_on_the_claim():
    job = manifest(claim="disk", mount="/mnt/studies")
    [volume], [mounted] = pod(job)["volumes"], container(job)["volumeMounts"]
    assert volume["persistentVolumeClaim"] == {"claimName": "disk"}
    assert (mounted["name"], mounted["mountPath"]) == (volume["name"], "/mnt/studies")


def argv(job, place):
    """The container's command line, its variables replaced as Kubernetes does it."""
    variables = {"JOB_COMPLETION_INDEX": str(place)}

    def value(match):
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    words = container(job)["command"] + container(job)["args"]
    return [re.sub(r"\$\$|\$\((\w+)\)", value, word) for word in words], variables


@pytest.mark.parametrize("place, index", [(0, 0), (1, 3), (2, 7)])
def test_a_pod_runs_the_cell_at_its_place(tmp_path, place, index):
    hostile = [
        "a b",
        "$(touch pwned)",
        "$(JOB_COMPLETION_INDEX)",
        "$$",
        "'\"",
        "`id`\n",
    ]
    show = "import json, os, sys; print(json.dumps([os.getppid(), *sys.argv[1:]]))"
    words, variables = argv(
        manifest(command=[sys.executable, "-S", "-c", show, *hostile]), place
    )
    done = subprocess.run(
        words, env=os.environ | variables, cwd=tmp_path, capture_output=True, text=True
    )
    parent, *got = json.loads(done.stdout)
    assert got == [*hostile, f"--index={index}"]
    assert parent == os.getpid()  # the shell is gone: SIGTERM reaches Python itself
    assert not list(tmp_path.iterdir())


def test_without_a_command_it_is_the_runner_of_the_study():
    words, _ = argv(manifest(mount="/mnt"), 0)
    assert "python -m experiments.run norms:cpu one --out=/mnt --index=" in words[2]


@given(st.text())
def test_no_value_can_become_structure(text):
    job = manifest()
    container(job)["image"] = text
    pod(job)["nodeSelector"] = {"kind": text}
    pod(job)["volumes"][0]["persistentVolumeClaim"]["claimName"] = text
    assert manifest(image=text, claim=text, selector={"kind": text}) == job


@pytest.mark.parametrize("study", ["", "a\nkind: Pod", "$(x)", "-a", "a b", "a/b", "é"])
def test_a_study_name_that_no_file_can_have_is_refused(study):
    with pytest.raises(ValueError, match="must match"):
        manifest(study=study)


@pytest.mark.parametrize(
    "settings", [{"indices": []}, {"indices": [-1]}, {"user": 0}, {"jobs": -1}]
)
def test_impossible_requests_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        manifest(**settings)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", fullmatch=True))
def test_names_are_dns_labels_with_room_for_the_index(study):
    job = manifest(study=study)
    assert LABEL.fullmatch(job["metadata"]["name"] + "-99999-abcde")
    assert len(job["metadata"]["name"] + "-99999-abcde") <= 63
    assert LABEL.fullmatch(job["metadata"]["labels"]["study"])


def test_equal_jobs_have_equal_names_and_others_have_others():
    names = [
        manifest(**settings)["metadata"]["name"]
        for settings in ({}, {}, {"indices": [0, 3]}, {"study": "norms.cpu"})
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_only_runs_that_have_not_ended_are_in_the_job(tmp_path):
    cells = [{"id": str(n), "directory": f"runs/study/a-s{n}"} for n in range(3)]
    (tmp_path / "plan.json").write_text(json.dumps({"cells": cells}))
    (tmp_path / "a-s1").mkdir()
    (tmp_path / "a-s1" / "DONE.json").write_text('{"status": "diverged"}')
    path = kubernetes.submit("norms:cpu", tmp_path, range(3), image="i", claim="c")
    assert container(yaml.safe_load(path.read_text()))["args"] == ["0", "2"]
