"""Digits of 8 x 8 pixels by a Vision Transformer: a minute of a CPU, and no file.

The 1,797 images ship with scikit-learn; a fifth of them is
the test set.

Run     python -m tfm_jax.main --config=configs/vit_digits.py --workdir=runs/digits
Sizes   tiny (default), small
Expect  0.987 to 0.995 of the test set right (tiny, seeds 0 to 2); a support vector
        machine with RBF kernel 0.985 to 0.991 (random splits of scikit-learn)
Cost    26 thousand parameters: a minute of one core (tiny)
"""

from tfm_jax.settings.configure import configure

SIZES = {
    "tiny": dict(depth=2, width=32, heads=4, ffn_width=128),
    "small": dict(depth=4, width=64, heads=4, ffn_width=256),
}


def get_config(size="tiny"):
    return configure(
        "vit",
        "classify_images",
        model=dict(image_size=(8,), patch_size=(2,), channels=1, labels=10)
        | dict(dropout=0.1)
        | SIZES[size],
        data=dict(source="digits", test_share=0.2, augment=dict(mixup=0.2)),
        optim=dict(peak_lr=4e-3, warmup_steps=100),
        train=dict(total_steps=2_000, batch_tokens=64),
        eval=dict(every_steps=500, batch_tokens=256),
        checkpoint=dict(every_steps=500),
        mesh=dict(cpu_devices=1),
    )
