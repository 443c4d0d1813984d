"""Settings that no run could carry out are refused before anything is prepared."""

import pytest

from tests.reliability.tiny import get_config
from tfm_jax.config import ConfigError
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check, check_settings, ranking
from tfm_jax.workloads import WORKLOADS


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            dict(eval__average_last=20),
            "eval.average_last=20 checkpoints are more than checkpoint.keep=3 leaves",
        ),
        (dict(checkpoint__metric="chrf"), "checkpoint.metric='chrf' is no score"),
        (  # numbers have no BLEU
            dict(checkpoint__metric="bleu", eval__sentences=1),
            r"choose from \(loss, nll, accuracy, chrf, exact_match\)",
        ),
        (dict(checkpoint__metric="pearson"), r"choose from \(loss, nll, accuracy\)"),
        (
            dict(train__stop_metric="chrf", train__stop_patience=1),
            "train.stop_metric='chrf' is no score",
        ),
        (
            dict(optim__schedule="plateau", train__stop_patience=1),
            "train.stop_patience=1 ends a run before optim.schedule='plateau' cuts",
        ),
        (  # as many tokens on both sides, by chance
            dict(model__tie="three_way", tokenizer__shared=False),
            "model.tie='three_way' needs one vocabulary, not the two of",
        ),
    ],
)
def test_what_a_run_cannot_do_at_its_end_is_refused_at_its_start(changes, words):
    with pytest.raises(ConfigError, match=words):
        check_settings(resolve(get_config(**changes)))


LACKING = {  # of cuDNN's kernel -> how its message calls it
    "model__dtype='float32'": dict(model__dtype="float32"),
    "heads of 4 numbers": dict(model__heads=4),
    "values of another size": dict(model__value_size=16),
    "score='dot'": dict(model__score="dot"),
    "mask_style='after'": dict(model__mask_style="after"),
    "biases on the logits": dict(model__positions="alibi"),
    "windows without causality": dict(model__windows=(4,)),
    "packed rows": dict(data__batching="pack"),
    "model__attention_dropout=0.1": dict(model__attention_dropout=0.1),
}


@pytest.mark.parametrize("words", LACKING)
def test_what_a_kernel_lacks_is_refused_before_anything_is_prepared(words, tmp_path):
    able = dict(
        model__attention="cudnn", model__dtype="bfloat16", data__batching="fixed",
        model__attention_dropout=0.0, model__width=16, model__heads=2,
    )  # fmt: skip
    check(resolve(get_config(**able)), tmp_path)
    wanted = f"needs an NVIDIA GPU, and cannot do {words.replace('__', '.')}"
    with pytest.raises(ConfigError, match=wanted):
        check(resolve(get_config(**able | LACKING[words])), tmp_path)


def test_what_a_run_is_scored_by_may_choose_its_checkpoints():
    for changes in (
        dict(checkpoint__metric="loss"),
        dict(checkpoint__metric="chrf", eval__sentences=1),
        dict(checkpoint__metric="bleu", eval__sentences=1, data__source="parallel"),
        dict(checkpoint__metric="bleu", checkpoint__keep_best=0),
        dict(eval__average_last=3),
        dict(optim__schedule="plateau", train__stop_patience=2),
        dict(
            optim__schedule="plateau",
            train__stop_patience=1,
            train__stop_metric="accuracy",
        ),
    ):
        check_settings(resolve(get_config(**changes)))
    every = {score for workload in WORKLOADS.values() for score in workload.scores}
    assert every == set(ranking(resolve(get_config())))
