"""What most studies are run on, and how carefully; a study may say otherwise."""

from typing import Any

NUMERALS = dict(  # a study of five arms takes some minutes on two cores
    config="configs/transformer_numerals_small.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.05,
    fixed_rate="one rate, the configuration's, for all arms",
)
MULTI30K = dict(  # the published set-up; a run takes minutes on a GPU
    config="configs/transformer_multi30k.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.02,
    tune={"optim.peak_lr": (2e-3, 5e-3, 1e-2)},
    tune_seeds=(1_000,),
)
# The tiny configurations read the documentation that comes with Python; a run takes
# half a minute on one core.
TEXT = dict(
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.05,
    fixed_rate="one rate, the configuration's, for all arms",
)
# Rows of letters, of which a model of 64 wide learns a lot in two minutes if it finds
# neighbours by their distance; with a table of positions it learns for thousands of
# steps frequencies alone, and to copy what is not masked. Labels stand on the mean of
# all states, as nothing has taught [CLS] to look at the others: docs/pretraining.md.
LETTERS = {
    "model.positions": "rotary",
    "data.length": 128,
    "tokenizer.kind": "wordpiece",
    "tokenizer.vocab": 120,
    "optim.peak_lr": 2e-3,
}
MASKED_LETTERS = LETTERS | {
    "data.masking.most": 20,
    "data.masking.whole_words": False,
    "train.batch_tokens": 16 * 128,
}


def letters_first(steps: int) -> Any:
    """Settings: masked letters for so many steps, then sentences with labels."""
    first = MASKED_LETTERS | {"train.total_steps": steps}
    second = LETTERS | {"train.total_steps": 500, "train.batch_tokens": 32 * 128}
    second |= {"model.pool": "mean"}
    return second | {f"first.{name}": value for name, value in first.items()}


# On a GPU they are the smallest published sizes, on text of one's own:
# --set config.data.source=folder --set config.data.folder=FOLDER
LARGE_TEXT = dict(
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.02,
    tune={"optim.peak_lr": (3e-4, 6e-4, 1.2e-3)},
    tune_seeds=(1_000,),
)
