"""Flamingo on rendered scenes: captions and answers of a frozen language model.

Source: Alayrac et al. 2022, arXiv:2204.14198. Scenes have one or two coloured shapes;
pairs of a colour and a shape that are held out from training are scored as the variant
"unseen".

First   python -m tfm_jax.main --config=configs/flamingo_scenes.py:lm --workdir=runs/lm
        python -m tfm_jax.main --config=configs/qformer_scenes.py --workdir=runs/qformer
Run     python -m tfm_jax.main --config=configs/flamingo_scenes.py --workdir=runs/scenes
            --config.init_from=lm=runs/lm,vision=runs/qformer
Ablate  append --config.model.resampler.kind=perceiver
Sizes   tiny (default); lm: the language model alone, on the text of scenes
Expect  not published; here of the test set 0.94 of the captions and 0.91 of the answers
        are right word for word, behind eight examples instead of three 0.92 and 0.91,
        without examples 0.94 and 0.94, of unseen pairs 0.16 and 0.65 (tiny, seed 0)
Cost    0.9 million parameters: a quarter of an hour of one core (tiny), minutes (lm)
"""

from tfm_jax.models import flamingo
from tfm_jax.settings.configure import configure, every

TOKENIZER = dict(
    kind="wordpiece", vocab=256, lowercase=True, special=("<image>", "<end>")
)
OPTIM = dict(schedule="cosine", peak_lr=2e-3, warmup_steps=200, b2=0.98, clip_norm=1.0)
# Latents take more steps than there are here, see docs/studies/resampler-cpu.md
TINY = flamingo.SIZES["tiny"] | dict(
    resampler=dict(kind="transformer", depth=1, heads=4)
)
LENGTH = 24  # of a caption of two objects, or of a question with its answer
SHOTS = 3


def _lm():
    return configure(
        "gpt",
        "causal_lm",
        model=flamingo.SIZES["tiny"]["lm"],
        data=dict(
            source="scenes",
            length=LENGTH,
            layout="single",
            separator="<end>",
            scenes=dict(texts="both"),
        ),
        tokenizer=TOKENIZER,
        optim=OPTIM,
        train=dict(total_steps=1_000, batch_tokens=64 * LENGTH),
        **every(500),
        mesh=dict(cpu_devices=1),
    )


def _tiny():
    return configure(
        "flamingo",
        "visual_lm",
        freeze="lm,vision",
        model=TINY,
        data=dict(
            length=(SHOTS + 1) * LENGTH,
            shots=SHOTS,
            scenes=dict(texts="both", train=16_000),
        ),
        tokenizer=TOKENIZER,
        optim=OPTIM | dict(peak_lr=4e-3),
        train=dict(total_steps=3_000, batch_tokens=16 * (SHOTS + 1) * LENGTH),
        eval=dict(
            every_steps=1_000,
            sentences=200,
            batch_tokens=64 * LENGTH,
            variants=(
                "alone:shots=0;scenes.train=1",
                f"shots8:shots=8;length={9 * LENGTH};scenes.train=1",
                "unseen:shots=0;scenes.pairs=unseen;scenes.train=1",
            ),
        ),
        checkpoint=dict(every_steps=1_000),
        mesh=dict(cpu_devices=1),
    )


SIZES = {"tiny": _tiny, "lm": _lm}


def get_config(size="tiny"):
    return SIZES[size]()
