"""Do gradients at the start depend on depth, before any training?

Post-LN and Pre-LN Transformers of 2 to 16 layers are initialised, never trained. The
gradient of the last feed-forward matrix should be as large in a deep Post-LN model as
in a shallow one, and shrink with the square root of depth in a Pre-LN model: slopes of
0 and -1/2 of its logarithm against that of the depth.

Xiong et al. 2020, arXiv:2002.04745, theorem 1.
"""

from experiments.study import Study, axis, reported, within


def get_study(scale="cpu"):
    settings = {"cpu": {"model.width": 128, "model.ffn_width": 512}, "gpu": {}}[scale]
    base = {"cpu": "configs/transformer_numerals_small.py", "gpu": ""}
    base["gpu"] = "configs/transformer_numerals.py:base"
    return Study(
        config=base[scale],
        settings={"model.dropout": 0.0, **settings},
        arms=axis("model.norm", ("post", "pre")),
        baseline="post",
        probe="gradients",
        seeds=(0, 1, 2, 3, 4),
        metric="probe/slope",
        goal="max",
        sesoi=0.15,
        fixed_rate="nothing is trained",
        expect=(
            reported(
                within("post", -0.15, 0.15, "Post-LN: no dependence on depth"), 0.0
            ),
            reported(within("pre", -0.65, -0.35, "Pre-LN: as 1 / sqrt(depth)"), -0.5),
        ),
    )
