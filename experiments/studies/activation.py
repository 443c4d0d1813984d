"""Which activation in the feed-forward layers?

Shazeer 2020, arXiv:2002.05202, table 1: GELU and ReLU are on a par, gated units are
better. Deviates: the gated arms have half as many parameters more per layer, as
``ffn_width`` is the same for all.
"""

from experiments.scales import MULTI30K, NUMERALS
from experiments.study import Study, axis, better, equivalent

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu")


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.activation", ACTIVATIONS),
        baseline="relu",
        metric="valid/nll",
        expect=(
            equivalent("gelu", "relu", "GELU equals ReLU"),
            better("swiglu", "relu", "SwiGLU is better than ReLU"),
        ),
        **{"cpu": NUMERALS, "gpu": MULTI30K}[scale],
    )
