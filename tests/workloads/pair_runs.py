"""Runs of a small Q-Former: of one program, which is compiled once for all files."""

from tests.models.test_flamingo import VISION
from tfm_jax.settings.configure import configure

SEEN = VISION | dict(image_size=(16,), patch_size=(8,), channels=3, biases="none")
TEXT = dict(width=8, heads=2, ffn_width=12, depth=1, max_length=24, biases="none")
SCENES = dict(train=64, valid=8, test=0, size=16)
SHARED = dict(
    data=dict(source="scenes", length=24, prefetch=0, scenes=SCENES),
    optim=dict(warmup_steps=1, peak_lr=1e-2),
    train=dict(
        total_steps=6, batch_tokens=8 * 24, log_every_steps=1, ema_decay=0.5,
        skip_limit=3, trackers=(),
    ),
    checkpoint=dict(every_steps=2),
    mesh=dict(data=1, cpu_devices=1),
)  # fmt: skip


def qformer(seed=0, dropout=0.0, **changes):
    """All three objectives, hard negatives."""
    drops = dict(dropout=dropout, attention_dropout=dropout)
    sections = SHARED | dict(
        model=dict(vision=SEEN, text=TEXT | drops, queries=3, embed_width=5),
        tokenizer=dict(vocab=256),
        eval=dict(every_steps=4, samples=4, pictures=False),
    )
    return configure("qformer", "retrieval", changes, seed=seed, **sections)
