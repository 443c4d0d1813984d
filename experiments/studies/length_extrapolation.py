"""Which positions work for sentences longer than those of training?

Lists of three numbers are learned, lists of twelve are scored.

Press et al. 2022, arXiv:2108.12409, figure 1: ALiBi goes on beyond the trained length,
rotary and sinusoidal positions do not; T5's biases are in between.
"""

from experiments.scales import MULTI30K, NUMERALS
from experiments.study import Study, axis, check, monotone, worse

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
        **{"cpu": NUMERALS, "gpu": MULTI30K | GPU}[scale],
        arms=axis("model.positions", SCHEMES),
        settings=LISTS,
        baseline="sinusoidal",
        metric="valid/nll",
        expect=(
            monotone(("sinusoidal", "t5", "alibi"), "ALiBi > T5 > sinusoidal"),
            check(worse("learned", "alibi", "positions never trained are useless")),
        ),
    )


GPU = dict(
    config="configs/transformer_numerals.py",
    tune={"optim.peak_lr": (1e-3, 2e-3, 4e-3)},
)
