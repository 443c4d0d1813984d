"""Flamingo-3B (Alayrac et al. 2022, arXiv:2204.14198, tables 1, 4 and 5, appendix B).

Published set-up: Chinchilla of 1.4 billion parameters and an NFNet-F6 that reads 320 x
320 pixels, both frozen; a gated layer before each of the 24 of the language model; web
pages with images, and pairs of an image or a video and text, four weighted sets whose
gradients are accumulated; 500,000 steps of AdamW, a warm-up of 5,000 steps to 1e-4,
then constant, a weight decay of 0.1 but for the resampler, a gradient norm clipped at
1.
Deviates: one set, captions of COCO or lists of files, and 256 rows of 64 tokens a step
are ours; a GPT and a Vision Transformer of about these sizes; the resampler has weight
decay, too.

First   a GPT and a Vision Transformer, whose architectures the model takes
        python -m tfm_jax.main --config=configs/gpt3_small.py:gpt3_xl --workdir=runs/xl
          --config.data.folder=FOLDER_OF_TXT_FILES
          '--config.tokenizer.special=<image>,<end>'
        python -m tfm_jax.main --config=configs/vit_s16_imagenet.py --workdir=runs/vit
Run     python -m tfm_jax.main --config=configs/flamingo_3b.py --workdir=runs/flamingo
          --config.init_from=lm=runs/xl,vision=runs/vit
          (tfds build coco_captions --file_format=array_record), or, for rows of several
          images and text, --config.data.source=files --config.data.train_files=A.jsonl
Smoke   --config=configs/flamingo_3b.py:tiny
Ablate  append --config.model.gate=none, --config.model.seen=all or
        --config.model.resampler.kind=mlp
Sizes   3b (default); tiny: rendered scenes, from nothing
Expect  published: CIDEr on COCO, without training on it, 73.0, with 32 examples 99.0;
        accuracy on VQAv2 49.2 and 57.1; ours not measured; tiny: a smoke test
Cost    128 M images (3b); tiny: a minute of one core
"""

from tfm_jax.models import flamingo
from tfm_jax.settings.configure import configure, every

ROWS, LENGTH = 256, 64
TOKENS = ("<image>", "<end>")

SIZES = {
    "3b": dict(
        model=flamingo.SIZES["3b"] | dict(dtype="bfloat16"),
        data=dict(source="tfds", image_size=(320,), color="rgb", overlong="keep"),
        tokenizer=dict(vocab=32_000, special=TOKENS),
        train=dict(total_steps=500_000, batch_tokens=ROWS * LENGTH),
        **every(10_000),
    ),
    "tiny": dict(
        model=flamingo.SIZES["tiny"],
        data=dict(scenes=dict(train=2_000)),
        tokenizer=dict(kind="wordpiece", vocab=256, special=TOKENS),
        optim=dict(peak_lr=1e-3, warmup_steps=50),
        train=dict(total_steps=200, batch_tokens=16 * LENGTH),
        **every(100),
        mesh=dict(cpu_devices=1),
    ),
}


def get_config(size="3b"):
    held = dict(freeze="lm,vision") if size == "3b" else {}
    return configure(
        "flamingo", "visual_lm", SIZES[size], data=dict(length=LENGTH), **held
    )
