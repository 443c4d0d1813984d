"""How often should a decoder in training read the reference, and how often itself?

The share of tokens that are read from the reference is the same at all steps; whole
numbers must be right, of which the model has read its own tokens alone.

Bengio et al. 2015, arXiv:1506.03099, table 1: captions by a model that always reads
the reference have 28.8 BLEU-4, 30.6 if it reads its own tokens more and more, and 11.2
if it has never read anything else.
"""

from experiments.scales import LARGE_RECURRENT, RECURRENT
from experiments.study import Study, axis, better, worse

RATIOS = (1.0, 0.75, 0.5, 0.0)


def get_study(scale="cpu"):
    return Study(
        **{"cpu": RECURRENT, "gpu": LARGE_RECURRENT}[scale]
        | {"cpu": {}, "gpu": dict(sesoi=0.5)}[scale],
        arms=axis("model.teacher_forcing", RATIOS),
        baseline="1.0",
        metric={"cpu": "valid/exact_match", "gpu": "valid/bleu"}[scale],
        goal="max",
        expect=(
            better("0.75", "1.0", "some tokens of its own help"),
            worse("0.0", "1.0", "nothing but its own tokens fails"),
        ),
    )
