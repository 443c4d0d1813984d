"""How many layers of a language model must attend to the image?

Gated layers stand before every layer of a language model of four, before every second
one, or before the first one alone.

Alayrac et al. 2022, arXiv:2204.14198, table 3 (v): over five tasks a Flamingo-3B has
70.7 with gated layers before every layer, 68.2 before every second, 68.8 before every
fourth, 59.8 with a single one in the middle.
"""

from experiments.scales import LARGE_SCENES, SCENES
from experiments.study import Study, axis, worse


def get_study(scale="cpu"):
    return Study(
        **{"cpu": SCENES, "gpu": LARGE_SCENES}[scale],
        metric="valid/nll",
        arms=axis("model.gated_every", (1, 2, 4), "every"),
        baseline="every1",
        expect=(
            worse("every2", "every1", "before every second layer: worse"),
            worse("every4", "every1", "before the first of four: worse"),
        ),
    )
