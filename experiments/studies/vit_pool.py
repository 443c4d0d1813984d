"""Should a Vision Transformer read the class from a token of its own, or from patches?

A class token that is learnt, the mean of the patches, or a query that attends to them,
each at the best of several rates.

Dosovitskiy et al. 2021, arXiv:2010.11929, appendix D.3 and figure 9: the mean is as
good as the token, but at another rate; at the token's it did very poorly. Zhai et al.
2022, arXiv:2106.04560: a query does as well. Beyer et al. 2022, arXiv:2205.01580, at
one rate: 76.5 with the mean, 75.0 with the token after 90 epochs of ImageNet.
"""

from experiments.scales import CIFAR10, DIGITS
from experiments.study import Study, axis, equivalent

RATE = "optim.peak_lr"
RATES = {
    "cpu": (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    "gpu": (2.5e-4, 5e-4, 1e-3, 2e-3),
}


def get_study(scale="cpu"):
    cfg = {"cpu": DIGITS, "gpu": CIFAR10}[scale]
    shared = {k: x for k, x in cfg["settings"].items() if k != RATE}
    return Study(
        **cfg | dict(settings=shared, fixed_rate=""),
        tune={RATE: RATES[scale]},
        tune_seeds=(1_000, 1_001),
        arms=axis("model.pool", ("cls", "mean", "map")),
        baseline="cls",
        expect=(
            equivalent("mean", "cls", "the mean equals the token"),
            equivalent("map", "cls", "and so does a query"),
        ),
    )
