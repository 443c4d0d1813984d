"""How large must queries and keys be?

The value size, and with it the width of what is read, stays the same.

Vaswani et al. 2017, arXiv:1706.03762, table 3, rows B: smaller keys are worse; those
of 16 entries have a perplexity of 5.16, those of 64 have 4.92.
"""

import math

from experiments.scales import MULTI30K, NEAREST, NUMERALS
from experiments.study import Study, axis, reported, worse

SCALES = ("cpu", "nearest", "gpu")


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.key_size", (2, 4, 8, 16)),
        baseline="16",
        metric="valid/nll",
        expect=(
            worse("2", "16", "keys of 2 entries are worse"),
            reported(
                worse("4", "16", "keys of 4 entries are worse"), math.log(4.92 / 5.16)
            ),
        ),
        **{"cpu": NUMERALS, "nearest": NEAREST, "gpu": MULTI30K}[scale],
    )
