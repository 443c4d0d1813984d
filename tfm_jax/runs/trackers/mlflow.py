"""MLflow: a server, a data base or a folder, whatever ``MLFLOW_TRACKING_URI`` says."""

import os
from collections.abc import Iterator

from tfm_jax.runs.trackers.follower import Record, RunInfo
from tfm_jax.terminal import say

TAG = "tfm_jax.id"
MOST = 100  # parameters that one request takes, and more metrics


def write(records: Iterator[list[Record]], info: RunInfo) -> None:
    """Metrics and knobs, as a run that later processes go on with.

    ``MLFLOW_EXPERIMENT_NAME`` is obeyed; else the experiment is called tfm_jax. The
    client, other than ``mlflow.start_run``, sends neither code nor command line.
    """
    # its newer releases want to be told that a folder is meant
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunStatus

    client = MlflowClient()
    run = _run(client, info)
    name = run.info.run_id
    say(f"mlflow: run {name} in {client.tracking_uri}")
    there = run.data.params
    new = [Param(k, str(v)) for k, v in info.knobs.items() if k not in there]
    for first in range(0, len(new), MOST):
        client.log_batch(name, params=new[first : first + MOST])
    for knob, value in info.knobs.items():  # what was said once, nobody may change
        if there.get(knob, str(value)) != str(value):
            client.set_tag(name, f"now.{knob}", str(value))
    finished = False
    for ready in records:
        if ready[-1].kind == "end":
            finished = ready.pop().values["finished"]
        metrics = [
            Metric(tag, value, int(1000 * record.time), record.step)
            for record in ready
            for tag, value in record.numbers().items()
        ]
        for first in range(0, len(metrics), MOST):
            client.log_batch(name, metrics=metrics[first : first + MOST])
        for record in ready:
            for path in record.values.values() if record.kind == "pictures" else ():
                client.log_artifact(name, info.workdir / path, "pictures")
    status = RunStatus.FINISHED if finished else RunStatus.KILLED
    client.set_terminated(name, RunStatus.to_string(status))


def _run(client, info):
    """The run of an earlier process, or a new one."""
    wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME", "tfm_jax")
    experiment = client.get_experiment_by_name(wanted)
    place = experiment.experiment_id if experiment else client.create_experiment(wanted)
    earlier = client.search_runs([place], f"tags.`{TAG}` = '{info.id}'", max_results=1)
    if not earlier:
        return client.create_run(place, tags={TAG: info.id}, run_name=info.name)
    client.update_run(earlier[0].info.run_id, "RUNNING")
    return earlier[0]
