"""Which noise schedule leaves fewest bits a dimension, and draws best?

Schedules differ in how many of their steps have little noise, so that errors of the
noise, as means over steps, are not comparable between them; the bound is.

Nichol and Dhariwal 2021, arXiv:2102.09672, tables 1 and 2: a cosine schedule instead of
a linear one of 4,000 steps lowers the bound from 3.77 to 3.68 bits a dimension on
ImageNet of 64 pixels, from 3.37 to 3.26 on CIFAR-10, where the FID rises from 2.90 to
3.05.
"""

from experiments.scales import DIFFUSION, LARGE_DIFFUSION
from experiments.study import Study, axis, better, reported


def get_study(scale="cpu"):
    cfg = {"cpu": DIFFUSION, "gpu": LARGE_DIFFUSION}[scale]
    return Study(
        **cfg | dict(sesoi=0.02),
        arms=axis("data.noise.schedule", ("linear", "cosine", "scaled_linear")),
        baseline="linear",
        metric="valid/bits_per_dim",
        expect=(
            reported(  # CIFAR-10
                better("cosine", "linear", "cosine: fewer bits a dimension"),
                3.26 - 3.37,
            ),
        ),
    )
