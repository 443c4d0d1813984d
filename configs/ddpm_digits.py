"""DDPM's U-Net on the digits of scikit-learn: images of 8 x 8 pixels, by class.

Source: Ho et al. 2020, arXiv:2006.11239, with a label (Ho and Salimans 2022,
arXiv:2207.12598) and 100 steps; noise predicted, the larger variance, Adam, gradients
clipped to 1. CIFAR-10, as published, is in configs/ddpm_cifar10.py.

Run     python -m tfm_jax.main --config=configs/ddpm_digits.py --workdir=runs/ddpm
Sizes   tiny (default); smoke: 200 steps of it
Expect  not published; samples-valid.png has ten digits of each class
Cost    some 20 minutes on 2 cores
"""

from tfm_jax.models import unet
from tfm_jax.settings.configure import configure, every

SIZES = {
    "tiny": dict(total_steps=5_000, ema_decay=0.999),
    "smoke": dict(total_steps=200, ema_decay=0.99),
}


def get_config(size="tiny"):
    return configure(
        "unet",
        "denoise",
        model=unet.SIZES["tiny"] | dict(channels=1, labels=10),
        data=dict(
            noise=dict(steps=100, variance="large", grey_levels=17),
            sampler=dict(method="ddpm", steps=100),
        ),
        optim=dict(optimizer="adam", clip_norm=1.0, peak_lr=1e-3, warmup_steps=100),
        train=SIZES[size] | dict(batch_tokens=64),
        **every(SIZES[size]["total_steps"] // 4),
    )
