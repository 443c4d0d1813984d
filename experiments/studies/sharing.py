"""What does it cost a masked language model when its layers are one?

Attention, or the feed-forward maps, or both have the same parameters in every layer.

Lan et al. 2020, arXiv:1909.11942, table 4, tables of 128: on average 81.6 with nothing
shared, 81.7 with attention, 80.2 with feed-forward maps, 80.1 with all.
"""

from experiments.scales import LARGE_TEXT, MASKED_LETTERS, TEXT, tuned
from experiments.study import Study, axis, equivalent, worse

SCALES = ("cpu", "tuned", "gpu")


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.share", ("none", "attention", "ffn", "all")),
        baseline="none",
        metric="valid/nll",
        expect=(
            equivalent("attention", "none", "sharing attention costs nothing"),
            worse("ffn", "none", "sharing feed-forward maps costs"),
            worse("all", "none", "sharing all costs"),
        ),
        **{"cpu": CPU, "tuned": TUNED, "gpu": GPU}[scale],
    )


CPU = TEXT | dict(
    config="configs/albert_base.py:tiny",
    settings=MASKED_LETTERS
    | {
        "data.pairs.kind": "none",
        "model.head": "masked_lm",
        "model.depth": 4,
        "train.total_steps": 1_000,
    },
)
TUNED = tuned(  # after 100 steps of warm-up, a third of the runs at 4e-3 learn little
    CPU | dict(settings=CPU["settings"] | {"optim.warmup_steps": 300}),
    *(2e-3, 4e-3, 8e-3),
    seeds=(1_000, 1_001),
)
GPU = LARGE_TEXT | dict(
    config="configs/albert_base.py", settings={"train.total_steps": 10_000}
)
