"""Does it help to read the source backwards?

Encoders of one direction, without attention and with it; the first words of source and
target are neighbours if the source is read from its end.

Sutskever et al. 2014, arXiv:1409.3215, section 3.3: without attention, reading the
source backwards lowers perplexity from 5.8 to 4.7 and raises BLEU from 25.9 to 30.6.
"""

import math

from experiments.scales import LARGE_RECURRENT, RECURRENT
from experiments.study import Study, axis, better, check, grid, reported

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
            reported(
                better("none-reversed", "none-forward", "without attention it helps"),
                math.log(4.7 / 5.8),
            ),
            check(better("additive-forward", "none-forward", "attention is learnt")),
        ),
    )
