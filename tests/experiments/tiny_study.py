"""Does a study of two arms and two seeds run from plan to report?

More words.

Nobody 2026, section 1.
"""

from experiments.costs import sizes
from experiments.study import Study, better, diverges

SIZE = dict(count=sizes.COUNT, parameters=1, flops_per_step=1.0, tokens_per_step=1)
SMALL = {
    "data.numerals_max": 400,
    "data.numerals_train": 100,
    "data.numerals_heldout": 20,
    "tokenizer.vocab": 280,
    "model.width": 16,
    "model.heads": 2,
    "model.ffn_width": 16,
    "model.encoder_depth": 1,
    "model.decoder_depth": 1,
    "train.total_steps": 6,
    "train.batch_tokens": 256,
    "eval.every_steps": 3,
    "eval.beam": 1,
    "eval.max_length_offset": 4,
    "eval.pictures": False,
}


def get_study(scale="cpu"):
    scales = {"cpu": _study, "tuned": _tuned, "vmapped": _vmapped}
    return scales[scale]()


def _study(**changes):
    fixed = dict(
        config="configs/transformer_numerals_small.py",
        settings=SMALL,
        arms={"fast": {}, "slow": {"optim.peak_lr": 1e-5}},
        baseline="slow",
        seeds=(0, 1),
        identical=(0,),
        metric="valid/nll",
        sesoi=0.01,
        fixed_rate="the rate is the question",
        expect=(better("fast", "slow", "fast learns faster"),),
    )
    return Study(**fixed | changes)


def _vmapped():
    """One arm diverges: its rate is all that ails it."""
    ill = {"optim.peak_lr": 1e9, "train.skip_limit": 2, "train.log_every_steps": 1}
    return _study(
        vmapped=True,
        arms={"fast": {}, "ill": ill},
        baseline="fast",
        expect=(diverges("ill", "no rate is too high to diverge"),),
    )


def _tuned():
    return _study(
        arms={"pre": {"model.norm": "pre"}, "post": {}},
        baseline="post",
        tune={"optim.peak_lr": (1e-3, 2e-3, 4e-3)},
        tune_seeds=(7,),
        fixed_rate="",
        expect=(better("pre", "post", "norms matter"),),
    )
