"""Do positions that were learnt of small images serve larger ones?

Images of 6 x 6 pixels first (24 x 24 of CIFAR-10), then for some steps those of 8 x 8
(32 x 32), in patches of one size. The table of positions is interpolated, or starts at
zero; or nothing was learnt before.

Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.2: more pixels help, and positions
are interpolated, as those that were learnt mean nothing on another grid. Touvron et al.
2021, arXiv:2012.12877, DeiT-B on ImageNet: 81.8 at 224 pixels, 83.1 fine-tuned at 384.
"""

from experiments.scales import CIFAR10, DIGITS
from experiments.study import Study, axis, better, check, on, reported, within

GAIN = "valid/accuracy - first_valid/accuracy"
SCALES = ("cpu", "longer", "gpu")


def get_study(scale="cpu"):
    cfg, small, steps = {
        "cpu": (DIGITS, 6, 50),
        "longer": (DIGITS, 6, 400),
        "gpu": (CIFAR10, 24, 1_000),
    }[scale]
    first = {f"first.{knob}": value for knob, value in cfg["settings"].items()}
    first |= {f"first.{section}.image_size": (small,) for section in ("data", "model")}
    second = cfg["settings"] | {
        "train.total_steps": steps,
        "optim.warmup_steps": steps // 5,
    }
    return Study(
        **cfg | dict(settings=first | second),
        first=cfg["config"],
        arms=axis("model.position_resize", ("bicubic", "bilinear", "zeros"))
        | {"untrained": {"first.train.total_steps": 1}},
        baseline="bicubic",
        expect=(
            better("bicubic", "zeros", "interpolated positions serve"),
            reported(
                on(GAIN, within("bicubic", 0, 1, "more pixels help")), 0.831 - 0.818
            ),
            check(better("bicubic", "untrained", "what was learnt serves")),
        ),
    )
