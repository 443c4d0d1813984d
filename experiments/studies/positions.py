"""Does it matter how, and whether, an encoder-decoder is told the order of words?

"two hundred and three" and "three hundred and two" hold the same words: an encoder
that is not told their order cannot tell one from the other. Which of the schemes that
do tell it is used should matter little.

Vaswani et al. 2017, arXiv:1706.03762, section 3.5 and table 3, row E: learned and
sinusoidal positions give nearly identical results.
"""

from experiments.study import Study, axis, equivalent, worse

SCHEMES = ("sinusoidal", "learned", "none", "rotary", "alibi", "t5")


def get_study(scale="cpu"):
    return {"cpu": _cpu, "gpu": _gpu}[scale]()


def _cpu():
    """Numbers below 1,000; each run takes some seconds."""
    return Study(
        config="configs/transformer_numerals.py",
        settings={
            "mesh.cpu_devices": 1,
            "data.numerals_max": 9_999,
            "data.numerals_train": 3_000,
            "data.numerals_heldout": 300,
            "model.width": 64,
            "model.ffn_width": 256,
            "train.total_steps": 400,
            "train.batch_tokens": 1_024,
            "optim.warmup_steps": 50,
            "eval.every_steps": 100,
            "eval.sentences": 0,
            "checkpoint.every_steps": 1_000,
        },
        arms=axis("model.positions", SCHEMES),
        baseline="sinusoidal",
        seeds=(0, 1, 2),
        identical=(0,),
        metric="valid/nll",
        sesoi=0.1,
        fixed_rate="one rate for all: schemes add at most some hundred parameters",
        expect=(
            worse("none", "sinusoidal", "without positions order is lost"),
            equivalent("learned", "sinusoidal", "learned equals sinusoidal"),
        ),
    )


def _gpu():
    """Multi30k, the set-up of configs/transformer_multi30k.py."""
    return Study(
        config="configs/transformer_multi30k.py",
        arms=axis("model.positions", SCHEMES),
        baseline="sinusoidal",
        seeds=(0, 1, 2, 3, 4),
        identical=(0,),
        other_seeds=(100, 101, 102, 103, 104),
        tune={"optim.peak_lr": (1e-3, 2e-3, 5e-3)},
        tune_seeds=(1_000,),
        metric="valid/nll",
        sesoi=0.02,
        expect=(
            worse("none", "sinusoidal", "without positions order is lost"),
            equivalent("learned", "sinusoidal", "learned equals sinusoidal"),
        ),
    )
