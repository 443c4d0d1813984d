"""What do 80 % masked, 10 % random and 10 % unchanged words buy?

Words that a model is asked for are masked, replaced by random ones or left. After
training all models fill in the same masked words, and read the same text with nothing
masked, as they would when they are fine-tuned.

Devlin et al. 2019, arXiv:1810.04805, appendix C.2, table 8: fine-tuning hardly depends
on it; only masking is worse where states are used as they are, only random words are
worse everywhere.
"""

from experiments.scales import LARGE_TEXT, MASKED_LETTERS, TEXT, tuned
from experiments.study import Study, better, equivalent, on, worse

SCALES = ("cpu", "tuned", "gpu")
ROWS = (  # masked, unchanged, random: those of table 8
    (80, 10, 10), (100, 0, 0), (80, 0, 20), (80, 20, 0), (0, 20, 80), (0, 0, 100),
)  # fmt: skip
ARMS = {
    f"{mask}-{same}-{random}": {
        "data.masking.mask": mask / 100,
        "data.masking.random": random / 100,
    }
    for mask, same, random in ROWS
}
VARIANTS = (
    "masked:masking.mask=1;masking.random=0",
    "seen:masking.mask=0;masking.random=0",
)


def get_study(scale="cpu"):
    cfg = {"cpu": CPU, "tuned": TUNED, "gpu": GPU}[scale]
    return Study(
        **cfg | dict(settings=cfg["settings"] | {"eval.variants": VARIANTS}),
        arms=ARMS,
        baseline="80-10-10",
        metric="masked/nll",
        expect=(
            equivalent("100-0-0", "80-10-10", "masked words: as good"),
            worse("0-0-100", "80-10-10", "masked words: random ones teach less"),
            on("seen/nll", better("80-10-10", "100-0-0", "words as they are: better")),
        ),
    )


CPU = TEXT | dict(
    config="configs/bert_base.py:tiny",
    settings={"train.total_steps": 1_500},
)
# letters: of words a model this small learns unigram frequencies alone
_TUNED = MASKED_LETTERS | {"optim.warmup_steps": 300, "train.total_steps": 3_000}
TUNED = tuned(CPU | dict(settings=_TUNED), 2e-3, 4e-3, 8e-3) | dict(
    caveat="rates are those that are best for masked words, not for words as they are"
)
GPU = LARGE_TEXT | dict(
    config="configs/bert_base.py",
    settings={"train.total_steps": 20_000},
)
