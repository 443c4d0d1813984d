"""Do models of images and text generalise to unseen pairs of a colour and a shape?

Six of 36 pairs are held out; each colour and each shape is seen in five others. A
Q-Former retrieves captions and images among 100, a Flamingo writes captions.

Johnson et al. 2017, arXiv:1612.06890, section 4.7: models that answer questions about
scenes are worse where colours go with other shapes than in training.
"""

from experiments.scales import (
    LARGE_RETRIEVED_SCENES,
    LARGE_SCENES,
    RETRIEVED_SCENES,
    SCENES,
)
from experiments.study import Study, within

UNSEEN = {"eval.variants": ("unseen:scenes.pairs=unseen;scenes.train=1",)}
ANY = 1e9  # no upper bound


def get_study(scale="cpu"):
    finds, writes = {
        "cpu": (RETRIEVED_SCENES, SCENES),
        "gpu": (LARGE_RETRIEVED_SCENES, LARGE_SCENES),
    }[scale]
    arms = {
        "qformer": finds["settings"] | UNSEEN,
        "qformer_diagonal3": finds["settings"] | UNSEEN | {"data.scenes.diagonal": 3},
        "flamingo": writes["settings"] | UNSEEN | {"config": writes["config"]},
    }

    def lost(arm, score, text):
        return within(arm, 0.02, 1, text, f"valid/{score} - unseen/{score}")

    return Study(
        **finds | dict(settings={}, metric="unseen/nll", goal="min"),
        arms=arms,
        baseline="qformer",
        expect=(
            lost("qformer", "text_recall_1", "texts of unseen pairs: fewer are found"),
            lost("qformer", "image_recall_1", "images of unseen pairs: fewer"),
            lost("qformer_diagonal3", "text_recall_1", "other pairs unseen: as well"),
            within(
                "flamingo",
                0.02,
                ANY,
                "captions of unseen pairs: less likely",
                "unseen/nll - valid/nll",
            ),
        ),
    )
