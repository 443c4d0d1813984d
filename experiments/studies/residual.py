"""Are residual connections needed?

He et al. 2016, arXiv:1512.03385; Dong et al. 2021, arXiv:2103.03404: attention without
skip connections loses rank with depth.
"""

from experiments.scales import MULTI30K, NUMERALS, TUNED_NUMERALS
from experiments.study import Study, worse

SCALES = ("cpu", "tuned", "gpu")


def get_study(scale="cpu"):
    return Study(
        arms={"residual": {}, "none": {"model.residual": False}},
        baseline="residual",
        metric="valid/nll",
        expect=(worse("none", "residual", "without residuals training fails"),),
        **{"cpu": NUMERALS, "tuned": TUNED_NUMERALS, "gpu": MULTI30K}[scale],
    )
