"""DDPM's U-Net on CIFAR-10 (Ho et al. 2020, arXiv:2006.11239).

Published set-up (section 4, appendix B, released code): 35.7 million parameters, 1,000
steps of noise, which is predicted, the larger variance, dropout 0.1, mirror images; 128
images a step, Adam, 2e-4 after 5,000 steps of warm-up, clipped at 1, 800,000 steps, an
average of 0.9999. All training images are trained on, those of the test set validate.
Deviates: no FID is computed here.

Run     python -m tfm_jax.main --config=configs/ddpm_cifar10.py \
          --workdir=runs/ddpm_cifar10
          (tfds build cifar10 --file_format=array_record)
        python -m tfm_jax.main --config=configs/ddpm_cifar10.py:tiny \
          --workdir=runs/ddpm_tiny
Ablate  --config.data.sampler.method=ddim --config.data.sampler.steps=50
        --config.data.noise.schedule=cosine --config.data.noise.prediction=v
Sizes   cifar10 (default); tiny: the digits of scikit-learn, 8 x 8 pixels
Expect  published at most 3.75 bits a dimension, FID 3.17 (table 1); FID 4.67 with 50
        steps of DDIM (Song et al. 2021, arXiv:2010.02502, table 1), quadratically
        spaced (appendix D.2), where those of the flags above are evenly spaced
Cost    102 M images; published 10.6 hours on a TPU v3-8; tiny: minutes of 2 cores
"""

from tfm_jax.models import unet
from tfm_jax.settings.configure import configure, every

SIZES = {
    "cifar10": dict(
        model=unet.SIZES["cifar10"],
        data=dict(
            source="tfds",
            tfds_name="cifar10",
            tfds_valid="test",
            augment=dict(flip=0.5),
            sampler=dict(method="ddpm", steps=1_000),
        ),
        optim=dict(peak_lr=2e-4, warmup_steps=5_000),
        train=dict(total_steps=800_000, batch_tokens=128),
        **every(50_000),
    ),
    "tiny": dict(
        model=unet.SIZES["tiny"] | dict(channels=1),
        data=dict(
            noise=dict(steps=100, grey_levels=17),
            sampler=dict(method="ddpm", steps=100),
        ),
        optim=dict(peak_lr=1e-3, warmup_steps=50),
        train=dict(total_steps=400, batch_tokens=64, ema_decay=0.99),
        **every(200),
    ),
}


def get_config(size="cifar10"):
    return configure(
        *("unet", "denoise", SIZES[size]),
        data=dict(noise=dict(variance="large")),
        optim=dict(optimizer="adam", clip_norm=1.0),
    )
