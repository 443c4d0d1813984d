"""Why divide dot products by the square root of the key size?

Dot products of independent vectors grow with their size, the softmax over them becomes
a choice of one, and its gradient vanishes. Dividing by sqrt(d_k), normalising to the
cosine or scoring by an additive network avoids it. Measured on random queries and keys
of 8 to 512 entries, where 0 is no change of the weights' entropy and 1 a loss of all.

The gradient is that of the median query. Its root mean square over queries does not
fade: the few that hesitate between two keys have nearly all of it.

Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1 and footnote 4.
"""

from experiments.study import Study, axis, within

GRADIENT = "probe/median_gradient_512"


def get_study(scale="cpu"):
    config = {
        "cpu": "configs/transformer_numerals_small.py",
        "gpu": "configs/transformer_multi30k.py",
    }[scale]
    return Study(
        config=config,
        arms=axis("model.score", ("scaled_dot", "dot", "cosine", "additive")),
        baseline="scaled_dot",
        probe="scores",
        seeds=(0, 1, 2, 3, 4),
        metric="probe/entropy_lost",
        sesoi=0.05,
        fixed_rate="nothing is trained",
        expect=(
            within("scaled_dot", -0.1, 0.1, "scaled: no loss with size"),
            within("dot", 0.3, 1.0, "unscaled: the softmax saturates"),
            within("dot", 0.0, 0.5, "and its gradient fades", GRADIENT),
            within("scaled_dot", 0.5, 9.0, "scaled: it does not", GRADIENT),
        ),
    )
