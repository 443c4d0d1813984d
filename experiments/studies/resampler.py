"""Do a few latent queries extract from an image what a language model needs?

Thirty-two latents that attend to the image, or its 64 patches through a Transformer, an
MLP or no layers.

Alayrac et al. 2022, arXiv:2204.14198, table 3 (vi): over five tasks a Flamingo-3B has
70.7 with the perceiver, 66.7 with a Transformer, 66.6 with an MLP.
"""

from experiments.scales import LARGE_SCENES, SCENES, TUNED_SCENES, steps
from experiments.study import Study, axis, worse

SCALES = ("cpu", "tuned", "gpu")
KINDS = ("perceiver", "transformer", "mlp", "none")
LONGER = steps(600)


def get_study(scale="cpu"):
    cfg = {
        "cpu": SCENES | dict(settings=SCENES["settings"] | LONGER),
        "tuned": TUNED_SCENES | dict(settings=TUNED_SCENES["settings"] | LONGER),
        "gpu": LARGE_SCENES,
    }[scale]
    return Study(
        **cfg,
        metric="valid/nll",
        arms=axis("model.resampler.kind", KINDS),
        baseline="perceiver",
        expect=(
            worse("transformer", "perceiver", "a Transformer: worse"),
            worse("mlp", "perceiver", "an MLP: worse"),
        ),
    )
