"""Sentiment of sentences, fine-tuned (SST-2: Socher et al. 2013; Wang et al. 2019).

Published set-up (Devlin et al. 2019, appendix A.3): 2 to 4 epochs, 16 or 32 sentences a
step, Adam without bias correction at 2e-5 to 5e-5, a tenth of the steps warm-up, then
linear decay, dropout 0.1; ELECTRA's layers at 0.8 of the rate of the one above (Clark
et al. 2020, appendix B); GPT-1 with bias correction at 6.25e-5 and 0.2 % warm-up
(Radford et al. 2018, section 4.1). Deviates: BERT's decay begins after the warm-up; the
tiny models have rates and warm-up of their own.

Run     python -m tfm_jax.main --config=configs/sst2.py --workdir=runs/sst2 \
          --config.init_from=RUN_OR_FOLDER \
          --config.data.train_files=train.tsv --config.data.valid_files=dev.tsv
        python -m tfm_jax.main --config=configs/sst2.py:bert_tiny --workdir=runs/tuned \
          --config.init_from=runs/bert_tiny --config.data.train_files=train.tsv ...
Sizes   bert_base (default), albert_base, electra_small, gpt1, and bert_tiny,
        albert_tiny, electra_tiny, gpt1_tiny: the models of the files of those names;
        files have a text and a label a line, a tab between
Expect  published accuracy 93.5 on the GLUE server for BERT base
Cost    6,920 sentences, three epochs: minutes on a GPU; tiny: a minute on 2 cores
"""

from tfm_jax.models import albert, bert, electra, gpt
from tfm_jax.settings.configure import configure

_STEPS = 650
_BERT = dict(optimizer="bert_adam", schedule="linear", warmup_steps=_STEPS // 10)
_LARGE = dict(
    length=128,
    frame="bert",
    special=(),
    optim=dict(_BERT, peak_lr=3e-5, eps=1e-6),
)
_ELECTRA = dict(schedule="linear_from_start", layer_decay=0.8)
_GPT1 = dict(frame="gpt1", special=("_start_", "_delimiter_", "_classify_"))
_GPT1_OPTIM = dict(
    optimizer="adamw",
    schedule="linear_from_start",
    warmup_steps=_STEPS // 500,
    peak_lr=6.25e-5,
    eps=1e-8,
)
_SMALL = dict(
    length=64,
    frame="bert",
    special=(),
    optim=dict(
        optimizer="adamw",
        schedule="linear",
        warmup_steps=100,
        peak_lr=2e-3,
        eps=1e-6,
    ),
)
_TINY = dict(depth=2, width=64, heads=2, ffn_width=256, max_length=64, init="glorot")
_GENERATOR = dict(generator_width=32, generator_heads=1, generator_ffn_width=128)

SIZES = {  # size -> (model, its fields, the rest)
    "bert_base": ("bert", bert.SIZES["base"], _LARGE),
    "albert_base": ("albert", albert.SIZES["base"], _LARGE),
    "electra_small": (
        "electra",
        electra.SIZES["small"],
        dict(_LARGE, optim=dict(_LARGE["optim"], **_ELECTRA, peak_lr=3e-4)),
    ),
    "gpt1": (
        "gpt",
        gpt.SIZES["gpt1"],
        dict(_LARGE | _GPT1, optim=_GPT1_OPTIM),
    ),
    "bert_tiny": ("bert", _TINY, _SMALL),
    "albert_tiny": ("albert", dict(_TINY, embedding_width=32), _SMALL),
    "electra_tiny": (
        "electra",
        dict(_TINY, embedding_width=64, generator_depth=2, **_GENERATOR),
        dict(_SMALL, optim=dict(_SMALL["optim"], layer_decay=0.8, peak_lr=1e-3)),
    ),
    "gpt1_tiny": ("gpt", gpt.SIZES["gpt1"] | _TINY, _SMALL | _GPT1),
}  # fmt: skip


def get_config(size="bert_base"):
    name, fields, rest = SIZES[size]
    return configure(
        name,
        "classify",
        model=dict(fields, head="classify"),
        data=dict(
            source="tsv",
            length=rest["length"],
            frame=rest["frame"],
            first_column="0",
            label_column="1",
            labels=("0", "1"),
        ),
        tokenizer=dict(kind="wordpiece", vocab=8_000, special=rest["special"]),
        optim=rest["optim"],
        train=dict(total_steps=_STEPS, batch_tokens=32 * rest["length"]),
        eval=dict(every_steps=100),
        checkpoint=dict(every_steps=100, metric="nll"),
    )
