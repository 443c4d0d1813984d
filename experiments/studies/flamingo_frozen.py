"""Should the language model of a visual language model be frozen?

It is frozen after its training on text, fine-tuned, or trained from scratch together
with all the rest.

Alayrac et al. 2022, arXiv:2204.14198, table 3 (viii): over five tasks a Flamingo-3B has
70.7 with a frozen language model, 62.7 with one that is fine-tuned, 57.8 from scratch.
"""

from experiments.scales import LARGE_SCENES, SCENES, SCENES_VISION, TUNED_SCENES
from experiments.study import Study, worse

SCALES = ("cpu", "tuned", "gpu")
ARMS = {
    "frozen": {},
    "tuned": {"freeze": "vision"},
    "scratch": {"freeze": "vision", "init_from": SCENES_VISION},
}


def get_study(scale="cpu"):
    return Study(
        **{"cpu": SCENES, "tuned": TUNED_SCENES, "gpu": LARGE_SCENES}[scale],
        metric="valid/nll",
        arms=ARMS,
        baseline="frozen",
        expect=(
            worse("tuned", "frozen", "fine-tuned: worse"),
            worse("scratch", "tuned", "from scratch: worse still"),
        ),
        caveat="captions are much like the text that the language model has learnt; "
        "what fine-tuning forgets of other text is not measured",
    )
