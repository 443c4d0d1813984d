"""Must a Vision Transformer be told where a patch lies, and does it matter how?

By a table that is learnt, by sines and cosines of column and row, by rotations by
both, by sines of the number of the patch, or not at all.

Dosovitskiy et al. 2021, arXiv:2010.11929, appendix D.4 and table 8, five-shot accuracy
on ImageNet: 0.614 without positions, 0.642 learnt by number, 0.640 by row and column.
Beyer et al. 2022, arXiv:2205.01580: after 90 epochs of ImageNet 76.5 with sines and
cosines, 75.0 learnt. Heo et al. 2024, arXiv:2403.13298: rotations.
"""

from experiments.scales import CIFAR10, DIGITS, TUNED_DIGITS
from experiments.study import Study, axis, better, reported, worse

SCALES = ("cpu", "tuned", "gpu")
SCHEMES = ("learned", "sincos2d", "rotary2d", "sinusoidal", "none")


def get_study(scale="cpu"):
    return Study(
        **{"cpu": DIGITS, "tuned": TUNED_DIGITS, "gpu": CIFAR10}[scale],
        arms=axis("model.positions", SCHEMES),
        baseline="learned",
        identical=(0,),
        expect=(
            reported(
                worse("none", "learned", "without positions it is worse"),
                0.642 - 0.614,
            ),
            reported(
                better("sincos2d", "learned", "sines and cosines beat a table"),
                0.765 - 0.750,
            ),
        ),
    )
