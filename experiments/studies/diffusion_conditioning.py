"""How should a diffusion Transformer be told the time and the label?

As two tokens before the patches, as a memory that each layer attends to, or by the
shift and scale of its norms, with gates that start at 0 or without; all make equal
steps, and differ in parameters.

Peebles and Xie 2023, arXiv:2212.09748, figure 5 and table 4: FID 35.2 in context, 26.1
by cross-attention, 25.2 by adaLN, 19.5 by adaLN-Zero, of DiT-XL/2 after 400,000 steps
on ImageNet.
"""

from experiments.scales import DIFFUSION, LARGE_DIFFUSION, LONG_DIFFUSION, tuned
from experiments.study import Study, axis, monotone, on

SCALES = ("cpu", "longer", "tuned", "gpu")
BY_FRECHET = {"metric": "valid/frechet", "sesoi": 0.1}  # held-out digits: 0.84
ORDER = ("in_context", "cross_attention", "adaln", "adaln_zero")


def get_study(scale="cpu"):
    cfg = {
        "cpu": DIFFUSION,
        "longer": LONG_DIFFUSION,
        "tuned": tuned(LONG_DIFFUSION, 1e-3, 2e-3, 4e-3, 8e-3) | BY_FRECHET,
        "gpu": LARGE_DIFFUSION,
    }[scale]
    return Study(
        **{"metric": "valid/noise_error"} | cfg,
        arms=axis("model.conditioning", ORDER),
        baseline="in_context",
        expect=(on("valid/frechet", monotone(ORDER, "each way draws better")),),
    )
