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
from tfm_jax.settings.configure import configure, every

_STEPS = 650
_BERT = dict(warmup_steps=_STEPS // 10, peak_lr=3e-5)
_ELECTRA = dict(schedule="linear_from_start", layer_decay=0.8)
_GPT1 = dict(
    optimizer="adamw",
    schedule="linear_from_start",
    warmup_steps=_STEPS // 500,
    peak_lr=6.25e-5,
    eps=1e-8,
)
_SMALL = dict(optimizer="adamw", warmup_steps=100, peak_lr=2e-3)
_TINY = dict(depth=2, width=64, heads=2, ffn_width=256, max_length=64, init="glorot")
_GENERATOR = dict(generator_width=32, generator_heads=1, generator_ffn_width=128)
_AS_GPT1 = dict(frame="gpt1", special=("_start_", "_delimiter_", "_classify_"))


def _sized(model, length, optim, frame="bert", special=()):
    return dict(
        model=model,
        data=dict(length=length, frame=frame),
        tokenizer=dict(special=special),
        optim=optim,
        train=dict(batch_tokens=32 * length),
    )


SIZES = {  # size -> (family, what differs)
    "bert_base": ("bert", _sized(bert.SIZES["base"], 128, _BERT)),
    "albert_base": ("albert", _sized(albert.SIZES["base"], 128, _BERT)),
    "electra_small": (
        "electra",
        _sized(electra.SIZES["small"], 128, _BERT | _ELECTRA | dict(peak_lr=3e-4)),
    ),
    "gpt1": ("gpt", _sized(gpt.SIZES["gpt1"], 128, _GPT1, **_AS_GPT1)),
    "bert_tiny": ("bert", _sized(_TINY, 64, _SMALL)),
    "albert_tiny": ("albert", _sized(_TINY | dict(embedding_width=32), 64, _SMALL)),
    "electra_tiny": (
        "electra",
        _sized(
            _TINY | _GENERATOR | dict(embedding_width=64, generator_depth=2),
            64,
            _SMALL | dict(layer_decay=0.8, peak_lr=1e-3),
        ),
    ),
    "gpt1_tiny": ("gpt", _sized(gpt.SIZES["gpt1"] | _TINY, 64, _SMALL, **_AS_GPT1)),
}


def get_config(size="bert_base"):
    family, differs = SIZES[size]
    return configure(
        family,
        "classify",
        differs,
        model=dict(head="classify"),
        data=dict(source="tsv", first_column="0", label_column="1", labels=("0", "1")),
        tokenizer=dict(kind="wordpiece", vocab=8_000),
        train=dict(total_steps=_STEPS),
        **every(100),
    )
