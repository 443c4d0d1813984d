"""BLIP-2, stage two: captions of a language model with a Q-Former's soft prompt.

Source: Li et al. 2023, arXiv:2301.12597, sections 3.3 and 3.4. Q-Former and projection
are trained; image encoder and language model are frozen. The tiny language model is
trained, too: it knows the text of scenes alone, and no soft prompts.
Published set-up: 129 M images of 224 x 224 pixels with captions of COCO, Visual Genome,
CC3M, CC12M, SBU and LAION400M, random crops and flips; 80,000 steps of 1,920 pairs,
AdamW (0.9, 0.98) with a weight decay of 0.05, a warm-up of 2,000 steps to 1e-4, a
cosine to 5e-5.
Deviates: the published sizes are trained on COCO alone, without crops and flips, on
captions of at most 32 tokens.

First   python -m tfm_jax.main --config=configs/qformer_scenes.py --workdir=runs/qformer
        python -m tfm_jax.main --config=configs/flamingo_scenes.py:lm --workdir=runs/lm
Run     python -m tfm_jax.main --config=configs/blip2_qformer.py --workdir=runs/blip2
            --config.init_from=lm=runs/lm,qformer=runs/qformer
Ablate  append --config.freeze=lm,vision (tiny), or leave qformer= out of init_from and
        --config.freeze=: no stage one
Sizes   tiny (default): rendered scenes; vit_l_opt_2.7b, vit_g_opt_2.7b and
        vit_g_opt_6.7b: the published ones, from runs of a GPT and of a Q-Former
Expect  published CIDEr on COCO, fine-tuned there: 145.8 (vit_g_opt_2.7b); here, from
        1,500 steps, 0.69 of the captions of the test set are right word for word, 0.02
        of unseen pairs; with freeze=lm,vision and peak_lr=4e-3 0.03 and none (tiny,
        seed 0, an AMD EPYC virtual machine)
Cost    154 M images (published); tiny: a quarter of an hour of one busy core
"""

from tfm_jax.models import blip2
from tfm_jax.settings.configure import configure, every

LENGTH = 24  # the longest caption has 15 words


def _published(size, length=32):
    return configure(
        "blip2",
        "visual_lm",
        freeze="lm,vision",
        model=blip2.SIZES[size] | dict(dtype="bfloat16"),
        data=dict(source="tfds", length=length, marker="", image_size=(224,))
        | dict(color="rgb", overlong="keep"),
        tokenizer=dict(vocab=50_257, special=("<end>",)),
        optim=dict(
            schedule="cosine",
            peak_lr=1e-4,
            warmup_steps=2_000,
            final_lr_fraction=0.5,
            b2=0.98,
            weight_decay=0.05,
            clip_norm=0.0,
        ),
        train=dict(total_steps=80_000, batch_tokens=1_920 * length),
        **every(5_000),
    )


def _tiny():
    return configure(
        "blip2",
        "visual_lm",
        freeze="vision",
        model=blip2.SIZES["tiny"],
        data=dict(length=LENGTH, marker="", scenes=dict(train=32_000)),
        tokenizer=dict(
            kind="wordpiece", vocab=256, lowercase=True, special=("<image>", "<end>")
        ),
        optim=dict(
            schedule="cosine",
            peak_lr=1e-3,
            warmup_steps=100,
            b2=0.98,
            weight_decay=0.05,
            clip_norm=0.0,
        ),
        train=dict(total_steps=1_500, batch_tokens=64 * LENGTH),
        eval=dict(
            every_steps=500,
            sentences=200,
            batch_tokens=64 * LENGTH,
            variants=("unseen:scenes.pairs=unseen;scenes.train=1",),
        ),
        checkpoint=dict(every_steps=500),
        mesh=dict(cpu_devices=1),
    )


SIZES = {
    "tiny": _tiny,
    "vit_l_opt_2.7b": lambda: _published("vit_l_opt_2.7b"),
    "vit_g_opt_2.7b": lambda: _published("vit_g_opt_2.7b"),
    "vit_g_opt_6.7b": lambda: _published("vit_g_opt_6.7b"),
}


def get_config(size="tiny"):
    return SIZES[size]()
