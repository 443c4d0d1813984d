"""DiT on the digits of scikit-learn: images of 8 x 8 pixels out of noise, by class.

Source: Peebles and Xie 2023, arXiv:2212.09748, with patches of 2 pixels, velocities
(Salimans and Ho 2022, arXiv:2202.00512) and 100 steps.

Run     python -m tfm_jax.main --config=configs/dit_digits.py --workdir=runs/dit_digits
Guide   append --config.data.sampler.guidance=2
Ablate  append --config.model.conditioning=in_context
Sizes   tiny (default); smoke: 300 steps of it
Expect  not published; here 2.48 to 2.52 bits a dimension, with guidance 1.5 all of 500
        samples right by a classifier (tiny, seeds 0 to 2): docs/digits.md
Cost    minutes on 2 cores (tiny)
"""

from tfm_jax.models import dit
from tfm_jax.settings.configure import configure, every

SIZES = {
    "tiny": dict(total_steps=10_000, ema_decay=0.999),
    "smoke": dict(total_steps=300, ema_decay=0.99),
}


def get_config(size="tiny"):
    return configure(
        "dit",
        "denoise",
        model=dit.SIZES["tiny"] | dict(labels=10),
        data=dict(
            noise=dict(steps=100, prediction="v", grey_levels=17),
            sampler=dict(method="ddpm", steps=100),
        ),
        optim=dict(peak_lr=2e-3, schedule="cosine", warmup_steps=100),
        train=SIZES[size] | dict(batch_tokens=64),
        **every(max(SIZES[size]["total_steps"] // 5, 100)),
    )
