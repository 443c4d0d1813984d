"""How much does nothing but the seed change?

Every other difference has to be larger than this. The same configuration is run with
sixteen seeds, with sixteen others, and with some of the same again: equal seeds must
agree to the last bit, other seeds on average.

Bouthillier et al. 2021, arXiv:2103.03098: initial values and data order alone move a
score as much as many a published improvement.
"""

from experiments.scales import MULTI30K, NUMERALS
from experiments.study import Study, check, identical, steady

COUNT = {"cpu": 10, "gpu": 16}


def get_study(scale="cpu"):
    scales = {"cpu": NUMERALS, "gpu": MULTI30K | dict(tune={}, tune_seeds=())}
    seeds = tuple(range(COUNT[scale]))
    changes = dict(seeds=seeds, fixed_rate="one configuration is all there is")
    return Study(
        arms={"run": {}},
        baseline="run",
        identical=seeds[:2],
        other_seeds=tuple(100 + seed for seed in seeds),
        metric="valid/nll",
        expect=(
            check(identical("run", "equal seeds give equal numbers")),
            check(steady("run", "other seeds give the same mean")),
        ),
        **scales[scale] | changes,
    )
