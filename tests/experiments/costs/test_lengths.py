"""Costs of length and reach, of models that are small enough to measure in a test."""

import numpy as np
import pytest

from experiments.costs import lengths, reach
from experiments.runs import cells
from tests.experiments.tiny_study import SMALL
from tfm_jax import api

CONFIG = "configs/transformer_numerals_small.py"
SHORT = {"data.source_length": 32, "data.target_length": 32, "model.attention": "xla"}


@pytest.fixture(scope="module", autouse=True)
def at_root(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        yield


@pytest.fixture(scope="module")
def measured():
    return lengths.measure(cells.configure(CONFIG, SMALL | SHORT))


def test_every_curve_has_every_length_and_every_score_is_there(measured):
    assert set(measured["probe"]) == set(lengths.SCORES)
    assert set(measured["curves"]) == set(lengths.CURVES)
    for name in lengths.COSTS:
        points = sorted(measured["curves"][name])
        assert [n for n, _ in points] == [8, 16, 32]
        assert all(cost > 0 for _, cost in points)


def test_self_attention_takes_n_squared_and_no_longer_chain(measured):
    flops = [cost for _, cost in measured["curves"]["encode_flops"]]
    # a n + b n²: the second difference of lengths that double
    linear, square = np.linalg.lstsq(
        np.array([[n, n**2] for n in (8, 16, 32)]), flops, rcond=None
    )[0]
    np.testing.assert_allclose([linear * n + square * n**2 for n in (8, 16, 32)], flops)
    assert linear > 0 and square > 4 * 16  # logits and their products with values
    assert measured["probe"]["encode_sequential_slope"] == pytest.approx(0, abs=1e-9)
    assert measured["curves"]["encode_sequential"][0][1] == 6  # products of a layer


def test_keys_and_values_of_decoding_grow_with_the_length(measured):
    short, middle, long = (cost for _, cost in measured["curves"]["token_bytes"])
    assert (long - middle) / (middle - short) == pytest.approx(2, rel=0.1)


def test_attention_reaches_everything(measured):
    scores = measured["probe"]
    assert scores["source_reach"] == scores["target_reach"] == 32
    assert 0.2 < scores["source_far"] < 5


def reaches(config, settings):
    experiment, batch, _ = api.start(cells.configure(config, settings))
    model = experiment.build_model()
    params = api.initial_params(experiment, model)
    return reach.measure(experiment, model, params, batch)


@pytest.mark.parametrize("window, layers", [(2, 1), (3, 2)])
def test_reach_is_exact_where_layers_see_a_window(window, layers):
    depth = {"model.encoder_depth": layers, "model.decoder_depth": layers}
    windows = {"model.windows": (window,)}
    scores, curves = reaches(CONFIG, SMALL | SHORT | depth | windows)
    behind = layers * (window - 1)
    assert scores["target_reach"] == 1 + behind
    assert scores["source_reach"] == 1 + 2 * behind
    for points in curves.values():
        assert all((y > 0) == (d <= behind) for d, y in points)


def test_convolutions_reach_one_plus_layers_times_kernel_less_one():
    kernel, layers, widths = 5, 2, ("encoder_widths", "decoder_widths")
    both = (SMALL | SHORT).items()
    settings = {k: v for k, v in both if not k.startswith("model.")}
    settings |= {f"model.{name}": (8,) * layers for name in widths}
    settings |= {f"model.{side}coder_kernels": (kernel,) for side in ("en", "de")}
    settings |= {"model.embedding_width": 8, "model.output_width": 8}
    scores, curves = reaches("configs/conv_numerals.py", settings)
    whole = 1 + layers * (kernel - 1)
    assert scores["source_reach"] == scores["target_reach"] == whole
    sides = {"source": whole // 2, "target": whole - 1}  # both ways, and back
    for side, farthest in sides.items():
        points = curves[f"{side}_gradient"]
        assert all((y > 0) == (d <= farthest) for d, y in points)
