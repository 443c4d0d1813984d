"""Do larger language models gain more from examples in their context?

Texts say which digit goes with which letter, anew in each text, and end with a letter
whose digit may or may not have been said before.

Brown et al. 2020, arXiv:2005.14165, figure 1.2: accuracy grows with the number of
examples, and it grows more for larger models. Olsson et al. 2022, arXiv:2209.11895: one
layer cannot look up what followed before, two can.
"""

from experiments.scales import TEXT, tuned
from experiments.study import Study, better, check, equivalent, monotone, on

SHOTS = (0, 1, 2, 4, 8, 16)
SIZES = {  # name -> (layers, width)
    "1x64": (1, 64),
    "2x8": (2, 8),
    "2x32": (2, 32),
    "2x64": (2, 64),
    "4x128": (4, 128),
}
ARMS = {
    name: {"model.depth": depth, "model.width": width, "model.ffn_width": 4 * width}
    for name, (depth, width) in SIZES.items()
}
COMPARED = ("1x64", "2x32", "2x64")
TASK = {
    "data.source": "recall",
    "data.layout": "single",
    "data.length": 33,
    "data.separator": "",
    "tokenizer.kind": "character",
    "model.heads": 2,
    "model.positions": "t5",
    "optim.peak_lr": 2e-3,
    "optim.schedule": "constant",
    "optim.weight_decay": 0.0,
    "eval.samples": 0,
    "train.batch_tokens": 64 * 33,
    "data.recall_train": 20_000,
    "eval.variants": tuple(f"k{k}:recall_examples={k};asked=last" for k in SHOTS),
}
UNTAUGHT = equivalent("2x64", "1x64", "without examples: no gain")

SCALES = ("cpu", "more", "gpu")


def get_study(scale="cpu"):
    return Study(
        **{"cpu": CPU, "more": MORE, "gpu": CPU | GPU}[scale],
        baseline="1x64",
        metric="k16/accuracy",
        goal="max",
        solved=0.85,  # of eight letters, 16 examples leave a last one unsaid in 0.12
    )


FOUR = on("k4/accuracy", better("2x64", "1x64", "four examples help the larger"))
CPU = TEXT | dict(
    arms={name: ARMS[name] for name in (*COMPARED, "4x128")},
    config="configs/gpt2_small.py:tiny",
    settings=TASK | {"train.total_steps": 1_500},
    expect=(
        monotone(COMPARED, "two layers find more, wide ones most"),
        check(on("k0/accuracy", UNTAUGHT)),
        FOUR,
    ),
)
# Texts that hardly come twice, and steps enough to learn where to look. A run finds
# that out or does not, so that a rate is tried with two seeds.
MORE = CPU | dict(
    arms={name: ARMS[name] for name in ("1x64", "2x8", "2x64")},
    settings=TASK | {"data.recall_train": 200_000, "train.total_steps": 3_000},
    expect=(
        better("2x64", "1x64", "two layers gain more than one"),
        better("2x64", "2x8", "wide ones more than narrow ones"),
        check(on("k0/accuracy", UNTAUGHT)),
        FOUR,
    ),
)
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
MORE = tuned(MORE, *RATES, seeds=(1_000, 1_001))
GPU = dict(settings=TASK | {"train.total_steps": 20_000}, seeds=tuple(range(10)))
