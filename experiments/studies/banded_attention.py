"""What do bands cost a language model, in every layer and in every second one?

A band lets a token see itself and the few before it. Where dense layers stand between,
what is far away is still within reach.

Scales: cpu, gpu, and rotary, which is cpu with rotary positions. A tiny model does not
learn from a table of positions which tokens are near; a band tells it.

Brown et al. 2020, arXiv:2005.14165, section 2.1, alternate dense and banded layers;
Child et al. 2019, arXiv:1904.10509, table 2: sparse patterns lose nothing against dense
ones.
"""

from experiments.scales import LARGE_TEXT, TEXT
from experiments.study import Study, check, equivalent, worse

SCALES = ("cpu", "rotary", "gpu")


def arms(wide, narrow):
    return {
        "dense": {"model.windows": (0,)},
        "alternating": {"model.windows": (0, wide)},
        "banded": {"model.windows": (wide,)},
        "narrow": {"model.windows": (narrow,)},
    }


def get_study(scale="cpu"):
    return Study(
        baseline="dense",
        metric="valid/nll",
        expect=(
            equivalent("alternating", "dense", "every second layer may be banded"),
            check(worse("narrow", "dense", "a band that is too narrow loses")),
        ),
        **{"cpu": CPU, "rotary": ROTARY, "gpu": GPU}[scale],
    )


CPU = TEXT | dict(
    config="configs/gpt3_small.py:tiny",
    arms=arms(16, 2),
    settings={"train.total_steps": 1_000, "eval.samples": 0},
)
ROTARY = CPU | dict(settings=CPU["settings"] | {"model.positions": "rotary"})
GPU = LARGE_TEXT | dict(
    config="configs/gpt3_small.py",
    arms=arms(256, 16),
    settings={"train.total_steps": 10_000},
)
