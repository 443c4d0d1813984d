"""Trackers show what ``metrics.jsonl`` keeps, and no secret."""

import importlib.machinery
import logging
import sys
import types

import numpy as np
import pytest

from tests.reliability.tiny import get_config
from tests.runs.events import summaries
from tfm_jax.config import ConfigError
from tfm_jax.runs import pictures
from tfm_jax.runs.log import MetricsLog, read_history
from tfm_jax.runs.trackers.redact import HIDDEN, redact, redacted
from tfm_jax.train import loop

PICTURE = "samples/000002.png"
SECRET = "hunter2hunter2"
KNOBS = {
    "model.width": 16,
    "data.train_files": ("a.tsv", f"https://me:{SECRET}@host/b.tsv"),
    "init_from": f"s3://bucket/x?X-Amz-Signature={SECRET}",
    "freeze": "",
}
SHOWN = {
    "model.width": 16,
    "data.train_files": f"a.tsv,https://{HIDDEN}@host/b.tsv",
    "init_from": f"s3://bucket/x?X-Amz-Signature={HIDDEN}",
    "freeze": "",
}


@pytest.mark.parametrize(
    "text, shown",
    [
        (f"https://user:{SECRET}@host/x", f"https://{HIDDEN}@host/x"),
        (f"https://{SECRET}@host/x", f"https://{HIDDEN}@host/x"),
        (f"https://me:p@{SECRET}@host/x", f"https://{HIDDEN}@host/x"),
        (f'"token": "{SECRET}', f'"token": "{HIDDEN}'),
        (f"x?a=1&access_token={SECRET}&b=2", f"x?a=1&access_token={HIDDEN}&b=2"),
        (f"password: {SECRET}", f"password: {HIDDEN}"),
        ("hf_" + 20 * "x", HIDDEN),
        ("AKIA" + 16 * "X", HIDDEN),
        ("AIza" + 35 * "x", HIDDEN),
        (f"Authorization: Bearer {SECRET}", f"Authorization: Bearer {HIDDEN}"),
        (f"curl --password {SECRET} x", f"curl --password {HIDDEN} x"),
        ("eyJhbGciOiJI.eyJzdWIi.c2ln-bmF0", HIDDEN),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
            HIDDEN,
        ),
        ("/scratch/of-the-environment/x", f"/scratch/{HIDDEN}/x"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, shown, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "of-the-environment")
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "token_embedding=0.5",
        "/data/me@home/x",
        "a key: b",
        "a bearer of x",
        "runs/base",
        "",
    ],
)
def test_what_is_none_stays(text):
    assert redacted({"knob": text, "other": 1.5}) == {"knob": text, "other": 1.5}


def run(workdir, *trackers):
    """A run in two processes, the first of which is stopped."""
    options = dict(trackers=trackers, knobs=KNOBS)
    with pytest.raises(KeyboardInterrupt), MetricsLog(workdir, **options) as log:
        log.write(1, "train", {"loss": 2.0, "bad": float("nan")})
        raise KeyboardInterrupt
    with MetricsLog(workdir, step=1, **options) as log:
        log.write(2, "train", {"loss": 1.0})
        log.write(2, "samples", {"0": f"https://me:{SECRET}@host"})
        pictures.images(np.zeros((3, 4, 4, 1), np.uint8), workdir / PICTURE)
        log.write(2, "pictures", {"samples": PICTURE})
        log.write(2, "final_test", {"nll": 0.5, "signature": "x"})


@pytest.fixture
def module(monkeypatch):
    """Puts a module in the place of one that may not be installed."""

    def make(name, **members):
        made = types.ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)

    return make


class FakeRun:
    """What `wandb.init` gives."""

    offline, dir = True, "folder"

    def __init__(self, **options):
        self.options, self.logged, self.code = options, [], None

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, values):
        self.logged.append(values)

    def finish(self, exit_code):
        self.code = exit_code


def test_wandb_has_one_run_of_several_processes(tmp_path, module, monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    runs = []
    module(
        "wandb",
        Settings=lambda **options: options,
        Image=lambda path: path,
        init=lambda **options: runs.append(FakeRun(**options)) or runs[-1],
    )
    run(tmp_path, "wandb")
    first, second = runs
    assert [run.code for run in runs] == [1, 0]
    assert first.options == second.options
    assert first.options["config"] == SHOWN
    assert (first.options["resume"], first.options["project"]) == ("allow", "tfm_jax")
    assert first.options["settings"]["x_disable_meta"], "no command line is sent"
    assert first.logged == [{"step": 1, "train/loss": 2.0}]
    assert second.logged == [
        {"step": 2, "train/loss": 1.0},
        {"step": 2, "samples/0": f"https://{HIDDEN}@host"},
        {"step": 2, "samples": str(tmp_path / PICTURE)},
        {"step": 2, "final_test/nll": 0.5},
    ]


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_hidden(folder):
    """In no file but the record, which is the run's own."""
    written = [path for path in files_below(folder) if path.name != "metrics.jsonl"]
    assert written
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """Secrets where they usually are; the folder that everything is written in."""
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    monkeypatch.setattr(sys, "argv", [*sys.argv, f"--x=https://me:{SECRET}@host"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # of theirs
def test_wandb_works_without_a_network_and_gets_no_secret(planted, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    run(planted / "run", "wandb")
    wandb.teardown()  # waits for what writes the files
    stored = sorted((planted / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({path.name for path in stored}) == 1, "one run"
    assert b"train/loss" in stored[-1].read_bytes()
    assert b"data.train_files" in stored[0].read_bytes()
    assert_hidden(planted)


@pytest.mark.filterwarnings("ignore")  # of theirs
def test_mlflow_shows_a_run_in_a_folder_and_gets_no_secret(planted, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{planted / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run(planted / "run", "mlflow")
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("tfm_jax").experiment_id
    [shown] = client.search_runs([place])
    assert shown.info.status == "FINISHED" and shown.info.run_name == "run"
    assert shown.data.params == {name: str(x) for name, x in SHOWN.items()}
    curve = client.get_metric_history(shown.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in curve] == [(1, 2.0), (2, 1.0)]
    assert shown.data.metrics == {"train/loss": 1.0, "final_test/nll": 0.5}
    [stored] = client.list_artifacts(shown.info.run_id, "pictures")
    assert stored.path.endswith("000002.png")
    assert_hidden(planted)


def test_tensorboard_has_the_hyper_parameters_and_no_secret(planted):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    run(planted / "run", "tensorboard")
    values = list(summaries(planted / "run" / "tensorboard"))
    table = [v for v in values if v.metadata.plugin_data.plugin_name == "hparams"]
    told = [HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in table]
    *starts, end = told
    assert starts
    for start in starts:  # of each process
        knobs = start.session_start_info.hparams
        assert knobs["model.width"].number_value == 16
        assert knobs["data.train_files"].string_value == SHOWN["data.train_files"]
    assert end.HasField("session_end_info")
    assert "final_test/nll" in {v.tag for v in values}
    [drawn] = [v.image for v in values if v.tag == "samples"]
    assert drawn.encoded_image_string.startswith(b"\x89PNG") and drawn.colorspace == 3
    assert_hidden(planted)


def test_a_tracker_that_fails_is_said_once_and_stops_nothing(tmp_path, module, caplog):
    def refuse(**options):
        raise OSError(f"no network to https://me:{SECRET}@host")

    module("wandb", Settings=dict, init=refuse)
    with caplog.at_level(logging.WARNING):
        run(tmp_path, "wandb")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, "one a process"
    assert said[0].startswith("wandb gets no more records (no network")
    assert SECRET not in said[0]
    assert [r["step"] for r in read_history(tmp_path)] == [1, 2, 2, 2, 2]


def test_a_tracker_that_is_not_there_is_refused_before_a_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = get_config(train__trackers=("tensorboard", "wandb"))
    with pytest.raises(ConfigError, match=r"train.trackers=.*'tfm_jax\[wandb\]'"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="did you mean 'wandb'"):
        loop.train(get_config(train__trackers=("wandbb",)), tmp_path / "run")
