"""DiT on ImageNet, by class (Peebles and Xie 2023, arXiv:2212.09748).

Published set-up (section 4): adaLN-Zero; noise and its variance predicted, 1,000 linear
steps, 250 of them for drawing (evenly spaced with both ends, released code), one label
in ten left out; 256 images a step, AdamW, 1e-4 throughout, no weight decay, mirror
images, an average of 0.9999, 400,000 steps (7 million for the best).
Deviates: published images are what a VAE makes of 256 x 256 pixels, 32 x 32 x 4; these
are reduced to 32 x 32 pixels and cut into as many patches, so that published scores are
no measure of them. No FID is computed here.

Run     python -m tfm_jax.main --config=configs/dit_imagenet.py --workdir=runs/dit_xl2
          (tfds build imagenet_resized/32x32 --file_format=array_record)
        python -m tfm_jax.main --config=configs/dit_imagenet.py:tiny \
          --workdir=runs/dit_tiny
Ablate  --config.model.conditioning=in_context, cross_attention or adaln
        --config.data.sampler.guidance=1.5
Sizes   xl2 (default), 674.8 million parameters; b4, 130.4; tiny: the digits of
        scikit-learn, 8 x 8 pixels
Expect  published FID of latents after 400,000 steps: XL/2 19.47, by other conditioning
        35.24, 26.14, 25.21; B/4 68.38; XL/2 after 7 million 9.62, guided by 1.5 2.27
Cost    102 M images, XL/2 119 G multiplications each, B/4 6; published 5.7 steps a
        second on a TPU v3-256 (XL/2); tiny: minutes of 2 cores
"""

from tfm_jax.models import dit
from tfm_jax.settings.configure import configure, every


def _imagenet(size):
    return dict(
        model=dit.SIZES[size] | dict(channels=3),
        data=dict(
            source="tfds",
            tfds_name="imagenet_resized/32x32",
            tfds_valid="validation[:4%]",
            augment=dict(flip=0.5),
            sampler=dict(method="ddpm", steps=250, spacing="linspace"),
        ),
        train=dict(total_steps=400_000, batch_tokens=256),
        **every(20_000),
    )


SIZES = {
    "xl2": _imagenet("xl2"),
    "b4": _imagenet("b4"),
    "tiny": dict(
        model=dit.SIZES["tiny"] | dict(labels=10, variance="learned"),
        data=dict(
            noise=dict(steps=100, grey_levels=17),
            sampler=dict(method="ddpm", steps=100),
        ),
        optim=dict(peak_lr=2e-3, warmup_steps=50),
        train=dict(total_steps=500, batch_tokens=64, ema_decay=0.99),
        **every(250),
    ),
}


def get_config(size="xl2"):
    return configure(
        *("dit", "denoise", SIZES[size]),
        data=dict(noise=dict(variance="learned")),
    )
