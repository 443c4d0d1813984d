"""ViT-B/16 fine-tuned at 384 pixels (Dosovitskiy et al. 2021, arXiv:2010.11929).

Published set-up (section 3.2, appendix B.1.1): pre-trained on ImageNet-21k at 224
pixels, then on ImageNet at 384, with the positions interpolated and a new map to the
classes that starts at 0; 512 images a step, SGD with a momentum of 0.9, cosine decay
over 20,000 steps, clipped at 1, no weight decay, no dropout; the rate is the best of
0.003, 0.01, 0.03 and 0.06 on the last hundredth of the training images; crops and
mirror images. Deviates: crops are taken of images that are reduced to 384 pixels
already.

Run     python -m tfm_jax.main --config=configs/vit_b16.py --workdir=runs/vit_b16 \
          --config.init_from=vit-base
          (hf download google/vit-base-patch16-224-in21k --local-dir vit-base)
        python -m tfm_jax.main --config=configs/vit_b16.py:tiny \
          --workdir=runs/digits12 --config.init_from=runs/digits
Sizes   b16 (default); tiny: digits of 12 x 12 pixels, from a run of vit_digits.py,
        which has learnt those of 8 x 8
Expect  published accuracy 83.97 (table 5)
Cost    10 M images, 55 G multiplications each; 560 GB of decoded images; tiny: a minute
        on 2 cores
"""

from tfm_jax.models import vit
from tfm_jax.settings.configure import configure, every

SIZES = {
    "b16": dict(
        model=dict(vit.SIZES["b16"], image_size=(384,)),
        data=dict(
            source="tfds",
            tfds_name="imagenet2012",
            tfds_train="train[:99%]",
            tfds_valid="train[99%:]",
            tfds_test="validation",
            image_size=(384,),
            color="rgb",
            augment=dict(resized_crop=0.05, flip=0.5),
        ),
        optim=dict(peak_lr=0.03, warmup_steps=500),
        train=dict(total_steps=20_000, batch_tokens=512),
        **every(1_000),
    ),
    "tiny": dict(
        model=dict(vit.SIZES["tiny"], image_size=(12,), channels=1, labels=10),
        data=dict(source="digits", test_share=0.1, image_size=(12,)),
        optim=dict(peak_lr=0.03, warmup_steps=20),
        train=dict(total_steps=200, batch_tokens=64),
        **every(100),
    ),
}


def get_config(size="b16"):
    return configure(
        *("vit", "classify_images", SIZES[size]),
        optim=dict(optimizer="sgd", schedule="cosine", weight_decay=0.0),
    )
