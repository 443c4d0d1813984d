"""Do dropout and label smoothing help?

Vaswani et al. 2017, arXiv:1706.03762, table 3, rows D: without dropout a model
overfits, to a perplexity of 5.77 instead of 4.92; label smoothing hurts perplexity,
which is 4.67 without, and helps BLEU.
"""

import math

from experiments.scales import MULTI30K, NUMERALS, TUNED_NUMERALS
from experiments.study import Study, better, reported, worse

SCALES = ("cpu", "tuned", "gpu")
FEW = dict(caveat="a few passes over regular data do not overfit")


def get_study(scale="cpu"):
    return Study(
        arms={
            "both": {},
            "no_dropout": {"model.dropout": 0.0},
            "no_smoothing": {"train.label_smoothing": 0.0},
        },
        baseline="both",
        metric="valid/nll",
        expect=(
            reported(
                worse("no_dropout", "both", "without dropout the model overfits"),
                math.log(4.92 / 5.77),
            ),
            reported(
                better("no_smoothing", "both", "smoothing hurts perplexity"),
                math.log(4.67 / 4.92),
            ),
        ),
        **{
            "cpu": NUMERALS | FEW,
            "tuned": TUNED_NUMERALS | FEW,
            "gpu": MULTI30K,
        }[scale],
    )
