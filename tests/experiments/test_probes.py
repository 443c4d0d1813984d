import json

import jax
import numpy as np
import pytest

from experiments import probes, run
from experiments.plan import Plan
from experiments.runs import cells
from tests.experiments.test_study import study

SMALL = "configs/transformer_numerals_small.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_the_gradient_of_the_softmax_is_that_of_its_jacobian():
    logits = 3.0 * jax.random.normal(jax.random.key(0), (6,))
    jacobian = jax.jacobian(jax.nn.softmax)(logits)
    found = probes._softness(jax.nn.softmax(logits)[None, None, None])
    assert found == pytest.approx(np.linalg.norm(jacobian), rel=1e-5)


def test_only_scaled_products_keep_their_entropy_as_keys_grow():
    lost = {
        score: probes.scores(cells.configure(SMALL, {"model.score": score}))
        for score in ("scaled_dot", "dot")
    }
    assert abs(lost["scaled_dot"]["entropy_lost"]) < 0.05
    assert lost["dot"]["entropy_lost"] > 0.3
    sizes = [lost["dot"][f"entropy_{size}"] for size in probes.KEY_SIZES]
    assert sizes == sorted(sizes, reverse=True)


def test_an_unknown_probe_is_named(capsys):
    assert probes.main(["--probe=nothing", f"--config={SMALL}"]) == 78
    assert "--probe=nothing; choose from" in capsys.readouterr().err


def test_a_probe_leaves_what_a_study_reads(tmp_path):
    argv = ["--probe=scores", f"--config={SMALL}", f"--workdir={tmp_path}"]
    assert probes.main(argv) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["probe"]) == set(probes.PROBES["scores"].scores)
    assert set(results["probe"]) >= {"entropy_lost", "entropy_8", "gradient_512"}
    assert (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "probe, jobs, slots", [("lengths", 0, 1), ("lengths", 2, 2), ("masks", 0, 0)]
)
def test_runs_that_look_at_a_clock_take_turns_unless_told(
    probe, jobs, slots, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(run.local, "slots", asked.append)
    plan = Plan("name", "cpu", "", "", study(probe=probe), tmp_path)
    run._slots(run.parse(["name", f"--jobs={jobs}"]), plan)
    assert asked == [slots]
