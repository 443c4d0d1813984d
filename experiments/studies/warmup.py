"""Does Post-LN need a warm-up of the learning rate where Pre-LN does not?

Each arm has the better of two rates.

Xiong et al. 2020, arXiv:2002.04745, section 4: without warm-up a Post-LN Transformer of
six layers ends at 8.45 BLEU, with it at 34; Pre-LN does without.
"""

from experiments.scales import MULTI30K, NUMERALS
from experiments.study import Study, axis, equivalent, grid, worse

NORMS = axis("model.norm", ("post", "pre"))
WARMUPS = {"none": {"optim.warmup_steps": 0}, "warmup": {"optim.warmup_steps": 200}}
LONG_WARMUPS = WARMUPS | {"warmup": {"optim.warmup_steps": 4_000}}
SIX = {"model.encoder_depth": 6, "model.decoder_depth": 6}


def get_study(scale="cpu"):
    return Study(
        **{"cpu": _cpu(), "gpu": _gpu()}[scale],
        settings=SIX,
        baseline="post-warmup",
        metric="valid/nll",
        expect=(
            worse("post-none", "post-warmup", "Post-LN needs warm-up"),
            equivalent("pre-none", "pre-warmup", "Pre-LN does not"),
        ),
    )


def _cpu():
    return NUMERALS | dict(
        arms=grid(NORMS, WARMUPS),
        tune={"optim.peak_lr": (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)},
        tune_seeds=(1_000,),
        fixed_rate="",
        caveat="six narrow layers; shallower models show no difference at all",
    )


def _gpu():
    return MULTI30K | dict(
        arms=grid(NORMS, LONG_WARMUPS),
        tune={"optim.peak_lr": (5e-4, 1e-3, 2e-3, 5e-3)},
    )
