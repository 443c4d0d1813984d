"""DDPM's U-Net on the digits of scikit-learn, and as published for CIFAR-10.

Source: Ho et al. 2020, arXiv:2006.11239, appendix B: 35.7 million parameters, dropout
0.1, mirror images, Adam at 2e-4 after 5,000 steps, gradients clipped to 1, 128 images a
step, 800,000 steps, an average of 0.9999; noise predicted, the larger variance.

Run     python -m tfm_jax.main --config=configs/ddpm_digits.py --workdir=runs/ddpm
Sizes   tiny (default), on digits; smoke: 200 steps of it; cifar10, whose images TFDS
        downloads
Expect  published on CIFAR-10: FID 3.17, at most 3.75 bits a dimension (table 1)
Cost    tiny: some 20 minutes on 2 cores; cifar10: days on a GPU
"""

from tfm_jax.models import unet
from tfm_jax.settings.configure import configure, every

_TINY = dict(
    model=unet.SIZES["tiny"] | dict(channels=1, labels=10),
    data=dict(
        noise=dict(steps=100, variance="large", grey_levels=17),
        sampler=dict(method="ddpm", steps=100),
    ),
    optim=dict(peak_lr=1e-3, warmup_steps=100),
)
_TRAIN = dict(total_steps=5_000, batch_tokens=64, ema_decay=0.999)
SIZES = {
    "tiny": _TINY | dict(train=_TRAIN),
    "smoke": _TINY | dict(train=_TRAIN | dict(total_steps=200, ema_decay=0.99)),
    "cifar10": dict(
        model=unet.SIZES["cifar10"],
        data=dict(
            source="tfds",
            tfds_name="cifar10",
            augment=dict(flip=0.5),
            noise=dict(variance="large"),
            sampler=dict(method="ddpm", steps=1_000),
        ),
        optim=dict(peak_lr=2e-4, warmup_steps=5_000),
        train=dict(total_steps=800_000, batch_tokens=128),
    ),
}


def get_config(size="tiny"):
    return configure(
        "unet",
        "denoise",
        SIZES[size],
        optim=dict(optimizer="adam", clip_norm=1.0),
        **every(SIZES[size]["train"]["total_steps"] // 4),
    )
