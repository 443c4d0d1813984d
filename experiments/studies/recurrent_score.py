"""Which score of two states serves a recurrent model, and is any better than none?

As ``score`` asks of a Transformer; the encoder has one direction, since plain products
need states of one size.

Britz et al. 2017, arXiv:1703.03906, table 5: additive scores of 128 to 1,024 units have
22.1 to 22.5 BLEU, plain products up to 512 units 21.8 to 22.3, of 1,024 units 18.2; no
attention 10.0 to 11.6.
"""

from experiments.scales import LARGE_RECURRENT, RECURRENT, TUNED_RECURRENT
from experiments.study import Study, axis, better, equivalent, worse

ONE_WAY = {"model.bidirectional": False}
SCALES = ("cpu", "tuned", "gpu")
WIDE = {"model.width": 1_024}


def get_study(scale="cpu"):
    scale, settings, sized = {
        "cpu": (RECURRENT, {}, ALIKE),
        "tuned": (TUNED_RECURRENT, {}, ALIKE),
        "gpu": (LARGE_RECURRENT, WIDE, APART),
    }[scale]
    return Study(
        **scale | {"settings": scale.get("settings", {}) | ONE_WAY | settings},
        arms=axis("model.score", ("additive", "dot", "general", "concat", "none")),
        baseline="additive",
        metric="valid/nll",
        expect=(*sized, worse("none", "additive", "no attention is worse")),
    )


ALIKE = (equivalent("dot", "additive", "small states: dot equals additive"),)
APART = (better("additive", "dot", "large states: additive beats dot products"),)
