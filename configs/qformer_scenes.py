"""A Q-Former on rendered scenes: image-text retrieval and captions.

Source: Li et al. 2023, arXiv:2301.12597, stage one, all three objectives; the image
encoder is trained with it, from scratch. Pairs of a colour and a shape that are held
out from training are scored as the variant "unseen".

Run     python -m tfm_jax.main --config=configs/qformer_scenes.py --workdir=runs/qformer
Ablate  append --config.data.objectives=contrastive
Sizes   tiny (default)
Expect  not published; here 0.97 of the right texts and 0.96 of the right images are the
        first among 100 of the test set, 0.84 and 0.83 of unseen pairs; 0.47 of the
        captions are right word for word (tiny, seed 0)
Cost    0.18 million parameters: a quarter of an hour of one core (tiny)
"""

from tfm_jax.models import qformer
from tfm_jax.settings.configure import configure

LENGTH = 20  # the longest caption has 15 words
# BERT's initial values, of deviation 0.02, are too small for layers 48 wide
TINY = qformer.SIZES["tiny"]
SIZES = {"tiny": {**TINY, "text": {**TINY["text"], "init": "glorot"}}}


def get_config(size="tiny"):
    return configure(
        "qformer",
        "retrieval",
        model=SIZES[size],
        data=dict(length=LENGTH, scenes=dict(train=64_000)),
        tokenizer=dict(vocab=256),
        optim=dict(peak_lr=1e-3, warmup_steps=100, b2=0.98),
        train=dict(total_steps=3_000, batch_tokens=64 * LENGTH),
        eval=dict(
            every_steps=500,
            batch_tokens=64 * LENGTH,
            variants=("unseen:scenes.pairs=unseen",),
        ),
        checkpoint=dict(every_steps=500),
        mesh=dict(cpu_devices=1),
    )
