"""Which of some vectors is nearest to a noisy one: attention on continuous keys.

A strip of patches, each a key with a label, and one key without: its label is asked
for, that of the nearest. Where scores of attention, or the size of keys, are compared,
this is what they compute. See tfm_jax/data/sources/images/nearest.py.

Run     python -m tfm_jax.main --config=configs/vit_nearest.py --workdir=runs/nearest
Ablate  append --config.model.score=cosine or --config.model.key_size=2
Sizes   tiny (default), large with 64 keys in an image
"""

from tfm_jax.settings.configure import configure

SIZES = {"tiny": 8, "large": 64}


def get_config(size="tiny"):
    keys = SIZES[size]
    return configure(
        "vit",
        "classify_images",
        model=dict(
            image_size=(4, 4 * (keys + 1)),
            patch_size=(4,),
            channels=2,
            labels=8,
            depth=2,
            width=64,
            heads=2,
            ffn_width=256,
            dropout=0.0,
        ),
        data=dict(source="nearest", nearest=dict(keys=keys, train=40_000)),
        optim=dict(peak_lr=2e-3, warmup_steps=100),
        train=dict(total_steps=1_000, batch_tokens=64),
        eval=dict(every_steps=250, batch_tokens=256),
        checkpoint=dict(every_steps=1_000, keep=1),
        mesh=dict(cpu_devices=1),
    )
