"""Does normalisation need to subtract the mean?

Zhang and Sennrich 2019, arXiv:1910.07467, table 2: RMSNorm translates as well as
LayerNorm.
"""

from experiments.scales import MULTI30K, NUMERALS
from experiments.study import Study, axis, equivalent


def get_study(scale="cpu"):
    return Study(
        arms=axis("model.norm_kind", ("layernorm", "rmsnorm")),
        baseline="layernorm",
        metric="valid/nll",
        expect=(equivalent("rmsnorm", "layernorm", "RMSNorm equals LayerNorm"),),
        **{"cpu": NUMERALS, "gpu": MULTI30K}[scale],
    )
