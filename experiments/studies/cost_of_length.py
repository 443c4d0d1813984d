"""What does length cost for recurrence, convolution and attention?

One sentence of 32 to 2,048 random tokens on either side, through encoder-decoders of
one width that have never been trained: operations, seconds and temporary memory of the
encoder, of a training step and of a decoded token. The complexities are those of one
sequence, so that the number of rows is the same at all lengths. And how far away an
input can be to have a gradient at all.

Vaswani et al. 2017, arXiv:1706.03762, table 1: operations of a layer n² d for
self-attention, n d² for recurrence, k n d² for convolution; sequential operations 1, n
and 1; longest paths 1, n and n / k.
"""

from experiments.study import Study, within

LENGTHS = {"data.source_length": 2_048, "data.target_length": 2_048}


def get_study(scale="cpu"):
    return Study(
        **{"cpu": CPU, "gpu": GPU}[scale],
        arms={"attention": {}, "narrow": {"model.heads": 1}},
        baseline="attention",
        probe="lengths",
        seeds=(0, 1, 2, 3, 4),
        metric="probe/encode_seconds_slope",
        sesoi=0.1,
        fixed_rate="nothing is trained",
        expect=(
            within("attention", 1.6, 2.4, "self-attention: n²"),
            within(
                "attention", 0.0, 0.0, "all at once", "probe/encode_sequential_slope"
            ),
        ),
    )


CPU = dict(
    config="configs/transformer_numerals_small.py",
    settings=LENGTHS
    | {
        "train.batch_tokens": 2_048,
        "model.ffn_width": 64,
        "model.attention": "xla",
    },
)
GPU = dict(
    config="configs/transformer_numerals.py:base",
    settings=LENGTHS | {"train.batch_tokens": 2_048, "model.attention": "xla"},
)
