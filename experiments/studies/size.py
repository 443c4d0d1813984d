"""Are larger models better?

Vaswani et al. 2017, arXiv:1706.03762, table 3, rows C: fewer layers and narrower ones
are worse; at half the width perplexity is 5.75 instead of 4.92. Scale text: a causal
language model, not one that translates.
"""

import math

from experiments.scales import LANGUAGE, MULTI30K, NUMERALS
from experiments.study import Study, reported, worse

SCALES = ("cpu", "text", "gpu")
ONE_LAYER = {"model.encoder_depth": 1, "model.decoder_depth": 1}


def get_study(scale="cpu"):
    return Study(
        arms={
            "base": {},
            "one_layer": {"model.depth": 1} if scale == "text" else ONE_LAYER,
            "narrow": {"model.width": 32, "model.ffn_width": 128},
            "narrow_ffn": {"model.ffn_width": 64},
        },
        baseline="base",
        metric="valid/nll",
        expect=(
            worse("one_layer", "base", "fewer layers are worse"),
            reported(
                worse("narrow", "base", "a narrower model is worse"),
                math.log(4.92 / 5.75),
            ),
            worse("narrow_ffn", "base", "narrower feed-forward layers are worse"),
        ),
        **{"cpu": NUMERALS, "text": LANGUAGE, "gpu": MULTI30K}[scale],
    )
