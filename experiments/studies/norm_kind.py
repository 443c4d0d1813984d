"""Does normalisation need to subtract the mean?

Zhang and Sennrich 2019, arXiv:1910.07467, table 2: RMSNorm translates as well as
LayerNorm.
"""

from experiments.scales import MULTI30K, NUMERALS, TUNED_NUMERALS
from experiments.study import Study, axis, equivalent, reported

SCALES = ("cpu", "tuned", "gpu")


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.norm_kind", ("layernorm", "rmsnorm")),
        baseline="layernorm",
        metric="valid/nll",
        expect=(
            # Narang et al. 2021, arXiv:2102.11972, table 1, final loss: 1.821 and 1.838
            reported(
                equivalent("rmsnorm", "layernorm", "RMSNorm equals LayerNorm"), -0.017
            ),
        ),
        **{"cpu": NUMERALS, "tuned": TUNED_NUMERALS, "gpu": MULTI30K}[scale],
    )
