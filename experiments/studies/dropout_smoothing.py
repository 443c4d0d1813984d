"""Do dropout and label smoothing help?

Vaswani et al. 2017, arXiv:1706.03762, table 3, rows D: without dropout a model
overfits; label smoothing hurts perplexity and helps BLEU.
"""

from experiments.scales import MULTI30K, NUMERALS
from experiments.study import Study, better, worse


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
            worse("no_dropout", "both", "without dropout the model overfits"),
            better("no_smoothing", "both", "smoothing hurts perplexity"),
        ),
        **{
            "cpu": NUMERALS
            | dict(caveat="a few passes over regular data do not overfit"),
            "gpu": MULTI30K,
        }[scale],
    )
