"""Model FLOPs utilisation: what the model needs, over what its devices can do."""

import dataclasses

import pytest

from tests.reliability import tiny
from tfm_jax import api
from tfm_jax.mesh import make_mesh
from tfm_jax.runs.log import read_history
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop
from tfm_jax.train.costs import utilisation


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("cpu", 0),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", 0),  # not that of an L4
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
    ],
)
def test_a_peak_is_that_of_the_data_sheet_or_not_known(kind, peak):
    assert utilisation.peak(kind) == peak


def test_the_record_says_what_part_of_the_peak_a_run_reaches(tmp_path, monkeypatch):
    """And a layer that is computed twice is counted once."""
    monkeypatch.setattr(utilisation, "peak", lambda kind: 1e15)
    changes = dict(train__total_steps=5, train__log_every_steps=1)
    config = tiny.get_config(**changes)
    with tiny.quick():
        loop.train(config, tmp_path)
    records = [r for r in read_history(tmp_path) if r["kind"] == "train"]
    assert "mfu" not in records[0], "its step was compiled"
    begun = api.start(resolve(config))
    counted = []
    for remat in ("none", "full"):
        model = dataclasses.replace(begun.experiment.model, remat=remat)
        experiment = begun.experiment._replace(model=model)
        meter = utilisation.Meter(experiment, make_mesh(experiment.mesh))
        batch = begun.batch._replace(
            **{k: x[None] for k, x in begun.batch._asdict().items() if x is not None}
        )
        counted.append(meter.flops(batch))
    assert counted[0] == counted[1] > 0
    for record in records[1:]:
        seconds = record["tokens"] / record["tokens_per_second"]
        assert record["mfu"] == pytest.approx(counted[0] / seconds / 1e15, rel=0.02)


def test_where_no_peak_is_known_nothing_is_counted():
    experiment = resolve(tiny.get_config())
    assert utilisation.Meter(experiment, make_mesh(experiment.mesh)).flops(None) == 0
