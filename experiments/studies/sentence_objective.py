"""Is it too easy to tell the next sentence from a random one, and their order not?

Models learn one judgement of sentence pairs beside masked words, and are then asked for
both. Scale counting: documents of one topic each that count on.

Lan et al. 2020, arXiv:1909.11942, table 5: of the order of sentences a model trained on
the next sentence knows nothing (52.0 %, and 90.5 % of the next), one trained on the
order tells both apart (86.5 % and 78.9 %).
"""

from experiments.scales import LARGE_TEXT, TEXT, tuned
from experiments.study import Study, better, on, reported, within

BOTH = ("nsp:pairs.kind=nsp", "sop:pairs.kind=sop")
ARMS = {
    "none": {"data.pairs.kind": "none", "model.head": "masked_lm"},
    "nsp": {"data.pairs.kind": "nsp", "eval.variants": BOTH},
    "sop": {"data.pairs.kind": "sop", "eval.variants": BOTH},
}
SCALES = ("cpu", "counting", "gpu")
ORDER, NEXT = "sop/pair_accuracy", "nsp/pair_accuracy"


def get_study(scale="cpu"):
    return Study(
        baseline="none",
        metric="valid/nll",
        expect=(
            reported(
                on(ORDER, better("sop", "nsp", "order must be learnt"), "max", 0.05),
                0.865 - 0.520,
            ),
            reported(within("nsp", 0.44, 0.56, "order: chance", ORDER), 0.520),
            reported(within("nsp", 0.8, 1.0, "the next sentence is easy", NEXT), 0.905),
            reported(
                within("sop", 0.6, 1.0, "order helps to tell the next", NEXT), 0.789
            ),
        ),
        **{"cpu": CPU, "counting": COUNTING, "gpu": GPU}[scale],
    )


CPU = TEXT | dict(
    arms=ARMS,
    config="configs/albert_base.py:tiny",
    settings={"train.total_steps": 1_500},
)
COUNTING = tuned(CPU, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2) | dict(
    arms=ARMS | {"none": ARMS["none"] | {"model.pool": "first"}},  # judges no pair
    settings={
        "data.source": "counting",
        "data.counting.numbers": 40,
        "data.counting.topics": 64,
        "data.counting.train": 1_500,
        "data.sentences": "line",
        "data.length": 40,
        "tokenizer.kind": "wordpiece",
        "tokenizer.vocab": 400,
        "model.positions": "rotary",
        "model.pool": "mean",
        "train.batch_tokens": 2_048,
        "train.total_steps": 2_000,
    },
    caveat="rates are tuned by the loss of masked words, not by pairs",
)
GPU = LARGE_TEXT | dict(
    arms=ARMS, config="configs/albert_base.py", settings={"train.total_steps": 20_000}
)
