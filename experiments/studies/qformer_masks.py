"""What does a wrong mask do where a Q-Former learns to write captions?

Text attends to the queries and its past, or to all of itself, with it the next word.

Li et al. 2023, arXiv:2301.12597, section 3.1 and figure 2: queries see each other, text
sees queries and the words before.
"""

from experiments.scales import LARGE_RETRIEVED_SCENES, RETRIEVED_SCENES, tuned
from experiments.study import Study, axis, better, check, within

SCALES = ("cpu", "tuned", "gpu")
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)  # full improves up to 1.6e-2


def get_study(scale="cpu"):
    cfg = {
        "cpu": RETRIEVED_SCENES,
        "tuned": tuned(RETRIEVED_SCENES, *RATES),
        "gpu": LARGE_RETRIEVED_SCENES,
    }[scale]
    # with smoothing a loss of 0 would not be the least that can be learnt
    alone = {"data.objectives": ("generation",), "train.label_smoothing": 0.0}
    return Study(
        **cfg | dict(settings=cfg["settings"] | alone, metric="valid/nll", goal="min"),
        arms=axis("model.generation_mask", ("causal", "full")),
        baseline="causal",
        expect=(
            better("full", "causal", "a loss too good to be true"),
            check(within("full", 0.0, 0.05, "next to none: it reads off the answer")),
        ),
    )
