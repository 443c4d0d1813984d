"""Does a model learn from examples of image, question and answer what words mean?

Colours have made-up names, others in each row, which only its examples tell; with the
usual names there is nothing to be learnt from them. A token attends to the last image
before it, or to all of them.

Alayrac et al. 2022, arXiv:2204.14198, table 1: captions of COCO by a Flamingo-3B have a
CIDEr of 73.0, 85.0 and 99.0 after 0, 4 and 32 examples. Section 2.3: to attend to the
last image alone is better than to all.
"""

from experiments.scales import LARGE_SCENES, SCENES, SCENES_VISION
from experiments.study import Study, check, within, worse

MOST = 16
SHOTS = (0, 4, 8, MOST)
TASK = {
    "init_from": SCENES_VISION,
    "freeze": "vision",
    "model.lm.max_length": 256,
    "data.shots": MOST,
    "data.length": 232,
    "data.scenes.objects": 1,
    "data.scenes.texts": "questions",
    "data.scenes.questions": ("color",),
    "data.scenes.renamed": "colors",
    "train.batch_tokens": 8 * 232,
    "eval.batch_tokens": 8 * 232,
    "eval.variants": tuple(f"k{k}:shots={k};scenes.train=1" for k in SHOTS),
}
ARMS = {
    "last": {},
    "all": {"model.seen": "all"},
    "usual_names": {"data.scenes.renamed": "nothing"},
}


def _gained(arm, more, than, text, low=0.05):
    return within(arm, low, 1, text, f"k{more}/exact_match - k{than}/exact_match")


USUAL = within(
    "usual_names",
    *(-0.05, 0.05, "usual names: nothing to be learnt"),
    f"k{MOST}/exact_match - k0/exact_match",
)


def get_study(scale="cpu"):
    cfg = {"cpu": SCENES, "gpu": LARGE_SCENES}[scale]
    return Study(
        **cfg | dict(settings=cfg["settings"] | TASK | {"data.scenes.train": 4_000}),
        metric=f"k{MOST}/exact_match",
        goal="max",
        arms=ARMS,
        baseline="last",
        expect=(
            _gained("last", 4, 0, "four examples help"),
            _gained("last", 8, 4, "eight help more", 0.02),
            _gained("last", 16, 8, "sixteen help most", 0.02),
            worse("all", "last", "to see all images: worse"),
            check(within("last", 0, 0.25, "no example: chance", "k0/exact_match")),
            check(USUAL),
        ),
    )
