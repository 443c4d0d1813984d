"""Which positions work for texts longer than those of training?

Lists of three numbers are learned, lists of twelve are scored; scale text: a language
model learns rows of 64 tokens, and is scored on rows of 256.

Press et al. 2022, arXiv:2108.12409, figure 1: ALiBi goes on beyond the trained length,
rotary and sinusoidal positions do not; T5's biases are in between.
"""

from experiments.scales import LANGUAGE, MULTI30K, NUMERALS, SINUSOIDS
from experiments.study import Study, axis, check, monotone, on, within, worse

SCALES = ("cpu", "text", "gpu")
SCHEMES = ("sinusoidal", "learned", "rotary", "alibi", "t5")
LISTS = {
    "data.numerals_joined": 3,
    "data.numerals_joined_heldout": 12,
    "data.numerals_max": 999,
    "data.numerals_train": 0,
    "data.numerals_heldout": 240,
    "data.source_length": 160,
    "data.target_length": 160,
}


def get_study(scale="cpu"):
    return Study(
        **{"cpu": NUMERALS | LISTED, "text": ON_TEXT, "gpu": GPU}[scale],
        baseline="sinusoidal",
        metric="valid/nll",
    )


LADDER = monotone(("sinusoidal", "t5", "alibi"), "ALiBi > T5 > sinusoidal")
UNTRAINED = worse("learned", "alibi", "positions never trained are useless")
LISTED = dict(
    arms=axis("model.positions", SCHEMES),
    settings=LISTS,
    expect=(LADDER, check(UNTRAINED)),
)
GPU = (
    MULTI30K
    | LISTED
    | dict(
        config="configs/transformer_numerals.py",
        tune={"optim.peak_lr": (1e-3, 2e-3, 4e-3)},
    )
)
LONGER = "long/nll - valid/nll"
ON_TEXT = LANGUAGE | dict(
    arms=axis("model.positions", SCHEMES)
    | SINUSOIDS
    | {"learned": {"model.positions": "learned", "model.max_length": 256}},
    settings=LANGUAGE["settings"] | {"eval.variants": ("long:length=256",)},
    expect=(
        on("long/nll", LADDER),
        within("alibi", -9.0, 0.05, "ALiBi: longer rows are no harder", LONGER),
        within("sinusoidal", 0.5, 9.0, "sinusoidal: they are", LONGER),
        check(on("long/nll", UNTRAINED)),
    ),
)
