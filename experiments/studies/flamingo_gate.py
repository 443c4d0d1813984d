"""Must gates keep a language model as it is when it begins to see?

Gated layers between those of a frozen language model add nothing at first, everything
from the start through an open gate, or everything without one.

Alayrac et al. 2022, arXiv:2204.14198, table 3 (iii): over five tasks a Flamingo-3B has
70.7 with tanh gates that start at 0, 66.5 without gates, whose training is less stable.
"""

from experiments.scales import LARGE_SCENES, SCENES
from experiments.study import Study, axis, worse


def get_study(scale="cpu"):
    return Study(
        **{"cpu": SCENES, "gpu": LARGE_SCENES}[scale],
        metric="valid/nll",
        arms=axis("model.gate", ("tanh", "tanh_one", "none")),
        baseline="tanh",
        expect=(worse("none", "tanh", "without gates: worse"),),
    )
