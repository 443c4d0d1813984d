"""Which changes of the images help a Vision Transformer that has few of them?

None, one alone (shifts, mirror images, RandAugment, erased patches, mixup, CutMix), or
RandAugment with mixup.

Beyer et al. 2022, arXiv:2205.01580, table 1, ImageNet: without RandAugment and mixup
73.6 for 76.5 after 90 epochs, 73.7 for 80.0 after 300. Zhang et al. 2018,
arXiv:1710.09412, errors on CIFAR-10: 4.2 with mixup, 5.6 without. Yun et al. 2019,
arXiv:1905.04899, on CIFAR-100: 14.5 with CutMix, 16.5 without.
"""

from experiments.scales import CIFAR10, DIGITS, LONG_DIGITS
from experiments.study import Study, better, check, reported, worse

MIXUP = {"data.augment.mixup": 0.2}
RANDAUGMENT = {
    "data.augment.randaugment_layers": 2,
    "data.augment.randaugment_magnitude": 5.0,
}
CHANGES = {
    "none": {},
    "flip": {"data.augment.flip": 0.5},
    "randaugment": RANDAUGMENT,
    "erasing": {"data.augment.erasing": 0.25},
    "mixup": MIXUP,
    "cutmix": {"data.augment.cutmix": 1.0},
    "randaugment_mixup": RANDAUGMENT | MIXUP,
}
SCALES = ("cpu", "longer", "gpu")
DIGIT = worse("flip", "none", "a digit's mirror image is no digit")
THING = better("flip", "none", "mirror images help")


def get_study(scale="cpu"):
    cfg = {"cpu": DIGITS, "longer": LONG_DIGITS, "gpu": CIFAR10}[scale]
    padding, flips = (4, THING) if scale == "gpu" else (1, DIGIT)
    shared = {k: x for k, x in cfg["settings"].items() if ".augment." not in k}
    changes = CHANGES | {"shift": {"data.augment.crop_padding": padding}}
    return Study(
        **cfg | dict(settings=shared),
        arms={k: {"data.augment.mixup": 0.0} | x for k, x in changes.items()},
        baseline="none",
        expect=(
            reported(better("mixup", "none", "mixup helps"), 0.056 - 0.042),
            reported(better("cutmix", "none", "CutMix helps"), 0.165 - 0.145),
            reported(
                better("randaugment_mixup", "none", "RandAugment with mixup helps"),
                0.765 - 0.736,
            ),
            check(flips),
        ),
    )
