"""Noise, image or velocity: what should a denoiser predict?

Each is trained as was published: the squared error of the image weighs as the
signal-to-noise ratio (noise), as that but at least 1 (image), or 1 more (velocity).
Images are drawn twice, with noise in every step, and by DDIM, which adds none.

Salimans and Ho 2022, arXiv:2202.00512, table 1: on CIFAR-10 all draw equally well with
noise (FID 2.45 to 2.65); by DDIM predicting the noise is worse (2.91 and more, against
2.51 of the image).
"""

from experiments.scales import DIFFUSION, LARGE_DIFFUSION, LONG_DIFFUSION
from experiments.study import Study, equivalent, on, worse

TARGETS = {
    "eps": {"data.noise.prediction": "eps"},
    "x0": {"data.noise.prediction": "x0", "data.noise.weights": "truncated_snr"},
    "v": {"data.noise.prediction": "v"},
}
SCALES = ("cpu", "longer", "gpu")
# Fréchet distances; that of held-out digits is 0.84 (docs/digits.md)
ALIKE = {"cpu": 1.0, "longer": 0.42, "gpu": 1.0}


def get_study(scale="cpu"):
    cfg = {"cpu": DIFFUSION, "longer": LONG_DIFFUSION, "gpu": LARGE_DIFFUSION}[scale]
    twice = {"eval.variants": ("ddim:sampler.method=ddim",)}
    return Study(
        **cfg | dict(settings=cfg["settings"] | twice),
        arms=TARGETS,
        baseline="eps",
        metric="valid/noise_error",
        expect=_expected(ALIKE[scale]),
    )


def _expected(alike):
    return (
        on("valid/frechet", equivalent("x0", "eps", "with noise: equal"), sesoi=alike),
        on("valid/frechet", equivalent("v", "eps", "with noise: equal"), sesoi=alike),
        on("ddim/frechet", worse("eps", "x0", "by DDIM noise is worse")),
    )
