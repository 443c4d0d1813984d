"""May a mask be applied to the weights, after the softmax, instead of before it?

Hidden keys set to minus infinity before the softmax, or their weights set to zero after
it and the rest renormalised, should be one function. Without renormalising, hidden keys
stay in the denominator: the weights that are left tell of tokens still to come.

Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3: masked out by setting to minus
infinity all values in the input of the softmax which correspond to illegal connections.
"""

from experiments.study import Study, axis, check, within

ANY = 1e9  # no upper bound
SAME = "probe/difference"
OURS = (
    within("after_renormalised", 0.0, 1e-5, "after, renormalised: no leak"),
    within("after_renormalised", 0.0, 1e-5, "and the same function", SAME),
    within("after", 1e-3, ANY, "after, not renormalised: leaks"),
)


def get_study(scale="cpu"):
    config = {
        "cpu": "configs/transformer_numerals_small.py",
        "gpu": "configs/transformer_multi30k.py",
    }[scale]
    return Study(
        config=config,
        arms=axis("model.mask_style", ("before", "after_renormalised", "after")),
        baseline="before",
        probe="masks",
        seeds=(0, 1, 2, 3, 4),
        metric="probe/leak",
        sesoi=1e-5,
        fixed_rate="nothing is trained",
        expect=(
            within("before", 0.0, 1e-5, "before: nothing leaks"),
            *map(check, OURS),
        ),
    )
