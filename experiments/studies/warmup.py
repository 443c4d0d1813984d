"""Does Post-LN need a warm-up of the learning rate where Pre-LN does not?

Each arm has the best of several rates. Scale depth: models of two, four and six layers.

Xiong et al. 2020, arXiv:2002.04745, sections 3.2 and 4: without warm-up a Post-LN
Transformer of six layers ends at 8.45 BLEU, with it at 34; Pre-LN does without.
"""

from experiments.scales import MULTI30K, NUMERALS, tuned
from experiments.study import Study, axis, check, equivalent, grid, worse

NORMS = axis("model.norm", ("post", "pre"))
WARMUPS = {"none": {"optim.warmup_steps": 0}, "warmup": {"optim.warmup_steps": 200}}
LONG_WARMUPS = WARMUPS | {"warmup": {"optim.warmup_steps": 4_000}}
LAYERS = {
    str(n): {"model.encoder_depth": n, "model.decoder_depth": n} for n in (2, 4, 6)
}
SIX = LAYERS["6"]

SCALES = ("cpu", "depth", "gpu")


def get_study(scale="cpu"):
    return Study(
        **{"cpu": _cpu(), "depth": _depth(), "gpu": _gpu()}[scale],
        metric="valid/nll",
    )


def _findings(layers=""):
    return (
        worse(f"post-none{layers}", f"post-warmup{layers}", "Post-LN needs warm-up"),
        equivalent(f"pre-none{layers}", f"pre-warmup{layers}", "Pre-LN does not"),
    )


def _cpu():
    rates = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
    return tuned(NUMERALS, *rates) | dict(
        settings=SIX,
        arms=grid(NORMS, WARMUPS),
        baseline="post-warmup",
        expect=_findings(),
        caveat="six narrow layers; scale depth has shallower models",
    )


def _depth():
    return _cpu() | dict(
        settings={},
        arms=grid(NORMS, WARMUPS, LAYERS),
        baseline="post-warmup-6",
        expect=(
            *_findings("-6"),
            check(equivalent("post-none-2", "post-warmup-2", "two layers do not")),
        ),
        caveat="narrow layers; numbers are spelled by rule",
    )


def _gpu():
    return MULTI30K | dict(
        settings=SIX,
        arms=grid(NORMS, LONG_WARMUPS),
        baseline="post-warmup",
        expect=_findings(),
        tune={"optim.peak_lr": (5e-4, 1e-3, 2e-3, 5e-3)},
    )
