"""Must cross-attention leave a frozen language model unchanged at first?

What the layers between its own add is multiplied by tanh of a gate that starts at 0,
of one that starts at 1, or by nothing.

Alayrac et al. 2022, arXiv:2204.14198, table 3 (iii): over five tasks a Flamingo-3B has
70.7 with tanh gates that start at 0, 66.5 without gates, whose training is less stable.
"""

from experiments.scales import LARGE_SCENES, SCENES, TUNED_SCENES
from experiments.study import Study, axis, worse

SCALES = ("cpu", "tuned", "gpu")


def get_study(scale="cpu"):
    return Study(
        **{"cpu": SCENES, "tuned": TUNED_SCENES, "gpu": LARGE_SCENES}[scale],
        metric="valid/nll",
        arms=axis("model.gate", ("tanh", "tanh_one", "none")),
        baseline="tanh",
        expect=(worse("none", "tanh", "without gates: worse"),),
    )
