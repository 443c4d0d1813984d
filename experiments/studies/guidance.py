"""What does guidance buy in fidelity, and what does it cost in diversity?

One model draws with several scales s, after training: s = 1 is the model as it has
learnt, 0 without the label. Fidelity is how often a classifier predicts the label
conditioned on; the Fréchet distance, to all training images, suffers from both.

Ho and Salimans 2022, arXiv:2207.12598, table 1, whose w is s - 1: on ImageNet of 64
pixels FID is 1.80, 1.55, 3.03, 12.6 and 24.8 for w = 0, 0.1, 0.3, 1 and 3, while the
Inception score rises from 54 to 66, 93, 170 and more.
"""

from experiments.scales import DIFFUSION, LARGE_DIFFUSION
from experiments.study import Study, check, within

SCALES_OF = {"s0": 0.0, "s1_1": 1.1, "s1_3": 1.3, "s2": 2.0, "s4": 4.0}
VARIANTS = tuple(f"{n}:sampler.guidance={s}" for n, s in SCALES_OF.items())
FRECHET, ACCURACY = "frechet", "sample_accuracy"


def get_study(scale="cpu"):
    cfg = {"cpu": DIFFUSION, "gpu": LARGE_DIFFUSION}[scale]

    def gained(score, more, than, text):
        return within("dit", 1e-4, 1e4, text, f"{more}/{score} - {than}/{score}")

    return Study(
        **cfg | dict(settings=cfg["settings"] | {"eval.variants": VARIANTS}, sesoi=1.0),
        arms={"dit": {}},
        baseline="dit",
        metric="valid/frechet",
        expect=(
            gained(ACCURACY, "s2", "valid", "guidance finds the label more often"),
            gained(FRECHET, "valid", "s1_1", "a little is better than none"),
            gained(FRECHET, "s4", "s2", "much of it costs more and more diversity"),
            check(within("dit", 0, 0.3, "no label: chance", f"s0/{ACCURACY}")),
        ),
    )
