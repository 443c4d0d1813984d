"""Does it matter whether embeddings are shared, and whether they are scaled?

Press and Wolf 2017, arXiv:1608.05859: tied embeddings translate as well with far fewer
parameters. Vaswani et al. 2017, section 3.4: tied three ways and scaled by sqrt(width).
"""

from experiments.scales import MULTI30K, NUMERALS
from experiments.study import Study, check, equivalent, worse


def get_study(scale="cpu"):
    return Study(
        arms={
            "three_way": {},
            "two_way": {"model.tie": "two_way"},
            "untied": {"model.tie": "none"},
            "unscaled": {"model.embedding_scale": False},
        },
        baseline="three_way",
        metric="valid/nll",
        expect=(
            equivalent("untied", "three_way", "tying costs nothing"),
            check(
                worse("unscaled", "three_way", "without scale it is slower to learn")
            ),
        ),
        **{"cpu": NUMERALS, "gpu": MULTI30K}[scale],
    )
