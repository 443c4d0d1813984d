"""Does it matter how, and whether, an encoder-decoder is told the order of words?

"two hundred and three" and "three hundred and two" hold the same words: an encoder
that is not told their order cannot tell one from the other. Which of the schemes that
do tell it is used should matter little.

Vaswani et al. 2017, arXiv:1706.03762, section 3.5 and table 3, row E: learned and
sinusoidal positions give nearly identical results, a perplexity of 4.92 each.
"""

from experiments.scales import MULTI30K, NUMERALS, TUNED_NUMERALS
from experiments.study import Study, axis, check, equivalent, reported, worse

SCALES = ("cpu", "tuned", "gpu")
SCHEMES = ("sinusoidal", "learned", "none", "rotary", "alibi", "t5")


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.positions", SCHEMES),
        baseline="sinusoidal",
        identical=(0,),
        metric="valid/nll",
        expect=(
            check(worse("none", "sinusoidal", "without positions order is lost")),
            reported(
                equivalent("learned", "sinusoidal", "learned equals sinusoidal"), 0.0
            ),
        ),
        **{"cpu": NUMERALS, "tuned": TUNED_NUMERALS, "gpu": MULTI30K}[scale],
    )
