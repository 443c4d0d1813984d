"""How many attention heads, at the same total size?

Vaswani et al. 2017, arXiv:1706.03762, table 3, rows A: one head is 0.9 BLEU worse than
eight, with a perplexity of 5.29 instead of 4.92, and too many are worse again.
"""

import math

from experiments.scales import MULTI30K, NUMERALS, RELATIONS
from experiments.study import Study, axis, reported, worse

SCALES = ("cpu", "relations", "gpu")


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.heads", (1, 2, 4, 8, 16)),
        baseline="4",
        metric="valid/nll",
        expect=EXPECT if scale == "relations" else EXPECT[:1],
        **{
            "cpu": NUMERALS
            | dict(caveat="numerals may not need to look at several places at once"),
            "relations": RELATIONS,
            "gpu": MULTI30K,
        }[scale],
    )


EXPECT = (
    reported(worse("1", "4", "one head is worse than several"), math.log(4.92 / 5.29)),
    worse("16", "4", "too many are worse again"),
)
