"""Which activation in the feed-forward layers?

Shazeer 2020, arXiv:2002.05202, table 1: GELU and ReLU are on a par, gated units are
better. Deviates: the gated arms have half as many parameters more per layer, as
``ffn_width`` is the same for all.
"""

from experiments.scales import LANGUAGE, MULTI30K, NUMERALS
from experiments.study import Study, axis, better, equivalent, reported

SCALES = ("cpu", "text", "gpu")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu")


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.activation", ACTIVATIONS),
        baseline="relu",
        metric="valid/nll",
        expect=(
            # Narang et al. 2021, arXiv:2102.11972, table 1, final loss: 1.838 with ReLU
            # and with GELU, 1.789 with SwiGLU
            reported(equivalent("gelu", "relu", "GELU equals ReLU"), 0.0),
            reported(better("swiglu", "relu", "SwiGLU is better than ReLU"), -0.049),
        ),
        **{"cpu": NUMERALS, "text": LANGUAGE, "gpu": MULTI30K}[scale],
    )
