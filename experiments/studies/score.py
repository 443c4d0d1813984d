"""Which compatibility function learns best, and what does it cost?

The same model trained with scaled dot products, plain ones, cosines and an additive
network: quality, time and memory of each.

Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1: for small keys dot products and
additive attention perform alike, for large ones additive attention outperforms dot
products without scaling, and dot products are faster and need less memory.
"""

from experiments.scales import MULTI30K, NEAREST, NUMERALS, TUNED_NUMERALS
from experiments.study import Study, axis, better, equivalent

SCALES = ("cpu", "tuned", "nearest", "gpu")


def get_study(scale="cpu"):
    return Study(
        **{
            "cpu": NUMERALS,
            "tuned": TUNED_NUMERALS,
            "nearest": LARGE_NEAREST,
            "gpu": LARGE_MULTI30K,
        }[scale],
        arms=axis("model.score", ("scaled_dot", "dot", "cosine", "additive")),
        baseline="dot",
        metric="valid/nll",
        expect=ALIKE if scale in ("cpu", "tuned") else APART,
    )


LARGE = {"model.key_size": 256}  # as is, a head has 16 or 32
LARGE_NEAREST = NEAREST | dict(  # plain dot products want low rates
    settings=NEAREST["settings"] | LARGE,
    tune={"optim.peak_lr": (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)},
)
LARGE_MULTI30K = MULTI30K | dict(settings=LARGE)
ALIKE = (equivalent("additive", "dot", "small keys: additive equals plain dot"),)
APART = (
    better("additive", "dot", "large keys: additive beats plain dot products"),
    better("scaled_dot", "dot", "and so do scaled ones"),
)
