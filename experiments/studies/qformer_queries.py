"""How many queries does a Q-Former need?

Four to 64 learned queries, of which the closest one to a text counts.

Open: Li et al. 2023, arXiv:2301.12597, section 3.1, use 32 and report no other number.
"""

from experiments.scales import LARGE_RETRIEVED_SCENES, RETRIEVED_SCENES
from experiments.study import Study, axis


def get_study(scale="cpu"):
    return Study(
        **{"cpu": RETRIEVED_SCENES, "gpu": LARGE_RETRIEVED_SCENES}[scale],
        arms=axis("model.queries", (4, 32, 64)),
        baseline="32",
        expect=(),
    )
