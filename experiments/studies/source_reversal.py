"""Does it help to read the source backwards, and only without attention?

Encoders of one direction; the first words of source and target are neighbours if the
source is read from its end.

Sutskever et al. 2014, arXiv:1409.3215, section 3.3: without attention, reading the
source backwards lowers perplexity from 5.8 to 4.7 and raises BLEU from 25.9 to 30.6.
"""

from experiments.scales import LARGE_RECURRENT, RECURRENT
from experiments.study import Study, axis, better, check, equivalent, grid

ONE_WAY = {"model.bidirectional": False}


def get_study(scale="cpu"):
    scale = {"cpu": RECURRENT, "gpu": LARGE_RECURRENT}[scale]
    return Study(
        **scale | {"settings": scale.get("settings", {}) | ONE_WAY},
        arms=grid(
            axis("model.score", ("none", "additive")),
            axis("model.source_order", ("forward", "reversed")),
        ),
        baseline="none-forward",
        metric="valid/nll",
        expect=(
            better("none-reversed", "none-forward", "without attention it helps"),
            check(
                equivalent(
                    "additive-reversed",
                    "additive-forward",
                    "with attention it does not",
                )
            ),
        ),
    )
