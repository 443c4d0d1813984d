"""Does a causal language model need to be told positions, and does that depend on norm?

A token that sees only those before it can count them; an encoder cannot.

Haviv et al. 2022, arXiv:2203.16634, table 1: language models without positions come
close to those with learned ones. Press et al. 2022, arXiv:2108.12409, table 2: ALiBi is
no worse than sinusoids at the length of training.
"""

from experiments.scales import LARGE_TEXT, TEXT
from experiments.study import Study, axis, better, equivalent, grid

SCHEMES = ("sinusoidal", "learned", "none", "rotary", "alibi")
ARMS = grid(axis("model.norm", ("pre", "post")), axis("model.positions", SCHEMES))


def get_study(scale="cpu"):
    return Study(
        arms=ARMS,
        baseline="pre-learned",
        metric="valid/nll",
        expect=(
            equivalent("pre-none", "pre-learned", "no positions are needed"),
            better("pre-alibi", "pre-sinusoidal", "ALiBi beats sinusoids"),
        ),
        **{"cpu": CPU, "gpu": GPU}[scale],
    )


CPU = TEXT | dict(
    config="configs/gpt2_small.py:tiny",
    settings={"train.total_steps": 1_000, "eval.samples": 0},
)
GPU = LARGE_TEXT | dict(
    config="configs/gpt2_small.py", settings={"train.total_steps": 10_000}
)
