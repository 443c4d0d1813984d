"""Is it too easy to tell the next sentence from a random one, and their order not?

Models learn one judgement of sentence pairs beside masked words, and are then asked for
both.

Lan et al. 2020, arXiv:1909.11942, table 5: of the order of sentences a model trained on
the next sentence knows nothing (52.0 %), one trained on the order tells both apart
(78.9 %).
"""

from experiments.scales import LARGE_TEXT, TEXT
from experiments.study import Study, better, on, within

BOTH = ("nsp:pairs.kind=nsp", "sop:pairs.kind=sop")
ARMS = {
    "none": {"data.pairs.kind": "none", "model.head": "masked_lm"},
    "nsp": {"data.pairs.kind": "nsp", "eval.variants": BOTH},
    "sop": {"data.pairs.kind": "sop", "eval.variants": BOTH},
}
ORDER, NEXT = "sop/pair_accuracy", "nsp/pair_accuracy"


def get_study(scale="cpu"):
    return Study(
        arms=ARMS,
        baseline="none",
        metric="valid/nll",
        expect=(
            on(ORDER, better("sop", "nsp", "order must be learnt"), "max", sesoi=0.05),
            within("nsp", 0.44, 0.56, "order: chance", ORDER),
            within("nsp", 0.8, 1.0, "the next sentence is easy", NEXT),
            within("sop", 0.6, 1.0, "order helps to tell the next", NEXT),
        ),
        **{"cpu": CPU, "gpu": GPU}[scale],
    )


CPU = TEXT | dict(
    config="configs/albert_base.py:tiny",
    settings={"train.total_steps": 1_500},
)
GPU = LARGE_TEXT | dict(
    config="configs/albert_base.py", settings={"train.total_steps": 20_000}
)
