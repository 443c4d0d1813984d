"""Are smaller patches better?

The same layers on patches of 4, 2 and 1 pixels of digits, or of 8, 4 and 2 of CIFAR-10:
4, 16 and 64 tokens, or 16, 64 and 256. All see as many images, in unlike time.

Dosovitskiy et al. 2021, arXiv:2010.11929, table 5, pre-trained on ImageNet alone: 73.4
(B/32) and 77.9 (B/16), 71.2 (L/32) and 76.5 (L/16). Nguyen et al. 2024,
arXiv:2406.09415: patches may be as small as a pixel.
"""

from experiments.scales import CIFAR10, DIGITS, LONG_DIGITS, TUNED_DIGITS
from experiments.study import Study, monotone

SCALES = ("cpu", "tuned", "longer", "gpu")


def get_study(scale="cpu"):
    names = ("8", "4", "2") if scale == "gpu" else ("4", "2", "1")
    cfg = {
        "cpu": DIGITS,
        "tuned": TUNED_DIGITS,
        "longer": LONG_DIGITS,
        "gpu": CIFAR10,
    }[scale]
    return Study(
        **cfg,
        arms={name: {"model.patch_size": (int(name),)} for name in names},
        baseline=names[1],
        expect=(monotone(names, "the smaller, the better"),),
        caveat="" if scale == "gpu" else "digits of 8 x 8 pixels have few details",
    )
