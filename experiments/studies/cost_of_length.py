"""What does length cost for recurrence, convolution and attention?

Rows of 32 to 2,048 random tokens go through encoder-decoders that have never been
trained: of one width, with about as many parameters. Operations, and products that wait
for each other, are counted; seconds and temporary memory are measured, of the encoder,
of a training step and of a decoded token. Complexities are those of one sequence, so
there are as many rows at all lengths: one on a CPU. Slopes are those of the last three
lengths, where the highest power shows. The length of a path is measured as a gradient:
how far away may an input be, and what is left of it there?

All three attend to the source, so that a training step of each grows with n² in the
end. Attention is computed as published: all its weights are in memory.

Vaswani et al. 2017, arXiv:1706.03762, table 1: operations of a layer n² d for
self-attention, n d² for recurrence, k n d² for convolution; sequential operations 1, n
and 1; longest paths 1, n, and n / k for kernels of neighbours.
"""

from experiments.study import Study, check, reported, within

LENGTH, LAYERS, KERNEL = 2_048, 2, 3
REACH = 1 + LAYERS * (KERNEL - 1)


def get_study(scale="cpu"):
    width, heads, rows = {"cpu": (64, 4, 1), "gpu": (128, 4, 16)}[scale]
    return Study(
        config="configs/transformer_numerals.py",
        settings={
            "data.source_length": LENGTH,
            "data.target_length": LENGTH,
            "train.batch_tokens": rows * LENGTH,
            "model.tie": "three_way",
        },
        arms=arms(width, heads),
        baseline="attention",
        probe="lengths",
        seeds=(0, 1, 2, 3, 4),
        metric="probe/encode_seconds_slope",
        sesoi=0.1,
        fixed_rate="nothing is trained",
        expect=EXPECTED,
        caveat="One core: what a GPU does at once takes turns, so that seconds follow "
        "operations, not those that wait for each other."
        if scale == "cpu"
        else "",
    )


def arms(width, heads):
    """Encoders of about 12 width² parameters: two layers, or one of two directions."""
    return {
        "attention": {
            "model.width": width,
            "model.ffn_width": width,
            "model.heads": heads,
            "model.encoder_depth": LAYERS,
            "model.decoder_depth": LAYERS,
            "model.attention": "xla",
        },
        "recurrence": {
            "config": "configs/rnn_numerals.py",
            "model.width": width,
            "model.embedding_width": width,
            "model.encoder_depth": 1,
            "model.decoder_depth": 1,
            "model.score": "general",
        },
        "convolution": {
            "config": "configs/conv_numerals.py",
            "model.embedding_width": width,
            "model.output_width": width,
            "model.encoder_widths": (width,) * LAYERS,
            "model.decoder_widths": (width,) * LAYERS,
            "model.encoder_kernels": (KERNEL,),
            "model.decoder_kernels": (KERNEL,),
            "model.positions": "none",  # a table of them would be most parameters
        },
    }


def _slopes(quantity, attention, recurrence, convolution):
    """Expectations of an encoder's slopes, each (low, high, in words, as published)."""
    ranges = dict(attention=attention, recurrence=recurrence, convolution=convolution)
    metric = f"probe/encode_{quantity}_slope"
    return tuple(
        reported(within(arm, low, high, f"{arm}: {text}", metric), *power)
        for arm, (low, high, text, *power) in ranges.items()
    )


EXPECTED = (
    *_slopes(
        "flops",
        attention=(1.7, 2.0, "operations n² d", 2.0),
        recurrence=(0.99, 1.01, "operations n d²", 1.0),
        convolution=(0.99, 1.01, "operations k n d²", 1.0),
    ),
    *_slopes(
        "sequential",
        attention=(-0.01, 0.01, "all positions at once", 0.0),
        recurrence=(0.99, 1.01, "one position after the other", 1.0),
        convolution=(-0.01, 0.01, "all positions at once", 0.0),
    ),
    within("attention", 0.2, 5.0, "attention: no distance weakens", "probe/source_far"),
    within("recurrence", 0.0, 0.01, "recurrence: distance weakens", "probe/source_far"),
    within(
        "convolution", REACH, REACH, "convolution: 1 + L (k - 1)", "probe/source_reach"
    ),
    within("convolution", REACH, REACH, "and in the decoder", "probe/target_reach"),
    *map(
        check,
        _slopes(
            "seconds",
            attention=(1.5, 2.7, "seconds as operations, more beyond the caches"),
            recurrence=(0.7, 1.3, "seconds about as operations"),
            convolution=(0.7, 1.3, "seconds about as operations"),
        ),
    ),
)
