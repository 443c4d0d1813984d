"""Does finding replaced words teach more per operation than filling in masked ones?

Models are pre-trained on running text with equal numbers of operations, then fine-tuned
on labelled sentences, a text and a label a line, which must be named: --set
config.data.train_files=FILE.tsv --set config.data.valid_files=FILE.tsv.

Clark et al. 2020, arXiv:2003.10555, table 5: 82.2 for masked words (BERT), 82.4 if they
are replaced rather than masked, 82.4 if only the words asked for are judged (ELECTRA
15 %), 84.3 if all words are restored, 85.0 for ELECTRA.
"""

from experiments.scales import LARGE_TEXT, TEXT, letters_first, tuned
from experiments.study import Study, better, equivalent

SCALES = ("cpu", "tuned", "gpu")


def _restoring(task, weight):
    return {
        "first.task": task,
        "first.model.head": task,
        "first.train.auxiliary_weight": weight,
        "first.checkpoint.metric": "restored_nll",
    }


ARMS = {
    "masked": {  # the discriminator itself fills in words, BERT's way
        "first.task": "masked_lm",
        "first.model.head": "masked_lm",
        "first.model.share": "all",
        "first.train.auxiliary_weight": 1.0,
        "first.checkpoint.metric": "nll",
        "first.data.masking.mask": 0.8,
        "first.data.masking.random": 0.1,
    },
    "replace_mlm": _restoring("replace_mlm", 1.0),
    "asked": {"first.task": "replaced_asked_tokens"},
    # the mean is over all words: a word weighs as much as in replace_mlm
    "all_tokens_mlm": _restoring("all_tokens_mlm", 1 / 0.15),
    "all": {},
}


def get_study(scale="cpu"):
    cfg = dict({"cpu": CPU, "tuned": TUNED, "gpu": GPU}[scale])
    masked = ARMS["masked"] | cfg.pop("equal")
    return Study(
        **cfg,
        arms=ARMS | {"masked": masked},
        baseline="masked",
        metric="valid/accuracy",
        goal="max",
        match="flops",
        expect=(
            better("all", "masked", "replaced words teach more than masked ones"),
            better("all", "asked", "because every word is judged"),
            better("all_tokens_mlm", "replace_mlm", "and every word restored"),
            equivalent("replace_mlm", "masked", "not because [MASK] is unseen later"),
        ),
    )


def _equal(**sizes):
    """A generator as large as the discriminator, of which it is a part."""
    return {f"first.model.generator_{name}": size for name, size in sizes.items()}


CPU = TEXT | dict(
    config="configs/sst2.py:electra_tiny",
    first="configs/electra_small.py:tiny",
    settings=letters_first(steps=2_000),
    equal=_equal(width=64, heads=2, ffn_width=256, depth=2),
    sesoi=0.01,
)
TUNED = tuned(
    CPU, 1e-3, 2e-3, 4e-3, knob="first.optim.peak_lr", seeds=(1_000, 1_001)
) | dict(caveat="the rate of pre-training is tuned, that of fine-tuning is one for all")
GPU = LARGE_TEXT | dict(
    config="configs/sst2.py:electra_small",
    first="configs/electra_small.py",
    equal=_equal(width=256, heads=4, ffn_width=1024, depth=12),
    settings={"first.train.total_steps": 50_000},
    sesoi=0.005,
    tune={"optim.peak_lr": (1e-4, 3e-4, 1e-3)},
    caveat="the rate of fine-tuning is tuned, that of pre-training is one for all",
)
