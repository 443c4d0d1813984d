"""Does length hurt a model that has to remember its source, and not one that attends?

Up to 24 symbols are copied, each for itself, by the models of ``predecessors``, each at
the best of several rates. Length hurts by what a symbol of the longest sources costs
above one of the shortest.

Bahdanau et al. 2015, arXiv:1409.0473, figure 2: only without attention long sentences
are translated worse.
"""

from experiments.scales import SYNTHETIC, steps, tuned
from experiments.studies.predecessors import LONGER, SMALL, arms
from experiments.study import Study, within


def get_study(scale="cpu"):
    return Study(
        **{"cpu": CPU, "gpu": GPU}[scale],
        arms=arms(**SMALL),
        baseline="attention",
        metric="valid/nll",
        match="parameters",
        expect=(
            within("rnn", 0.5, 9.0, "without attention length hurts", LONGER),
            within("attention", -0.2, 0.2, "with attention it does not", LONGER),
        ),
        caveat="symbols are copied, each for itself",
    )


CPU = tuned(
    dict(
        config="configs/transformer_numerals.py",
        settings=SYNTHETIC
        | {
            "data.mechanism.task": "copy",
            "data.mechanism.length": 24,
            "data.mechanism.shortest": 1,
            "data.mechanism.train": 20_000,
            "data.source_length": 32,
            "data.target_length": 32,
            "tokenizer.vocab": 100,
            "optim.warmup_steps": 50,
            "model.tie": "three_way",
            "model.dropout": 0.0,
            "eval.variants": (
                "short:heldout_words_most=6",
                "long:heldout_words_least=19",
            ),
        }
        | steps(800),
        seeds=(0, 1, 2, 3, 4),
        sesoi=0.05,
    ),
    *(2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 0.128),
)
GPU = CPU | dict(settings=CPU["settings"] | steps(8_000))
