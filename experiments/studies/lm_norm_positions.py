"""Does a causal language model need to be told positions, and does that depend on norm?

A token that sees only those before it can count them; an encoder cannot.

Haviv et al. 2022, arXiv:2203.16634, table 1: language models without positions come
close to those with learned ones, on WikiText-103 with a perplexity of 20.97 to 20.42;
sinusoids have 20.16, ALiBi 19.71. Press et al. 2022, arXiv:2108.12409, table 2: ALiBi
is no worse than sinusoids at the length of training. Both scale token vectors; GPT-2
does not, and here it is done beside sinusoids alone.
"""

import math

from experiments.scales import LANGUAGE, LARGE_TEXT, SINUSOIDS, TEXT
from experiments.study import Study, axis, equivalent, grid, reported

SCALES = ("cpu", "deep", "neighbours", "gpu")
SCHEMES = axis("model.positions", ("sinusoidal", "learned", "none", "rotary", "alibi"))
UNTOLD = reported(
    equivalent("pre-none", "pre-learned", "no positions are needed"),
    math.log(20.97 / 20.42),
)
ALL = dict(
    arms=grid(axis("model.norm", ("pre", "post")), SCHEMES | SINUSOIDS),
    expect=(
        UNTOLD,
        reported(  # that little counts as equal here
            equivalent("pre-alibi", "pre-sinusoidal", "ALiBi is as good as sinusoids"),
            math.log(19.71 / 20.16),
        ),
    ),
)
ALONE = dict(
    arms=grid(
        axis("model.norm", ("pre",)), axis("model.positions", ("learned", "none"))
    ),
    expect=(UNTOLD,),
)


def get_study(scale="cpu"):
    return Study(
        baseline="pre-learned",
        metric="valid/nll",
        **{"cpu": CPU, "deep": DEEP, "neighbours": NEIGHBOURS, "gpu": GPU}[scale],
    )


CPU = {
    **TEXT,
    **ALL,
    "config": "configs/gpt2_small.py:tiny",
    "settings": {"train.total_steps": 1_000, "eval.samples": 0},
}
DEEP = {  # the first of two layers has nothing that it could count
    **LANGUAGE,
    **ALONE,
    "settings": LANGUAGE["settings"] | {"model.depth": 6},
}
NEIGHBOURS = {  # the first layer sees a word and that before it
    **LANGUAGE,
    **ALONE,
    "settings": LANGUAGE["settings"] | {"model.windows": (2, 0)},
}
GPU = {
    **LARGE_TEXT,
    **ALL,
    "config": "configs/gpt2_small.py",
    "settings": {"train.total_steps": 10_000},
    "sesoi": 0.03,  # Haviv et al. lose 0.027 without positions
}
