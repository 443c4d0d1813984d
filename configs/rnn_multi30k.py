"""A recurrent model with attention on Multi30k, English to German.

Data and tokens of transformer_multi30k: "recurrence or attention?" is one flag. Sizes
that are published come with their optimizer. Bahdanau et al. 2015, arXiv:1409.0473,
appendix B: Adadelta, gradients of norm 1. Luong et al. 2015, arXiv:1508.04025, section
4.1: plain gradient descent at rate 1, gradients of norm 5, the rate halved each epoch
after the eighth of twelve, as with dropout. Gradients of theirs are of sentences, ours
of tokens: rate and norm are those of 16 tokens. Deviates: batches are those of
transformer_multi30k, 55 of which are an epoch; other sizes learn by Adam.

Run     python -m tfm_jax.main --config=configs/rnn_multi30k.py --workdir=runs/rnn30k \
          --config.data.train_files=train.en.gz,train.de.gz \
          --config.data.valid_files=val.en.gz,val.de.gz \
          --config.data.test_files=test_2016_flickr.en.gz,test_2016_flickr.de.gz
Sizes   tiny (default), and those of models/rnn_seq2seq.py; bahdanau and luong for a GPU
Expect  not measured yet; experiments/studies/predecessors.py compares it with others
Cost    about 65 M target tokens, as of transformer_multi30k; luong 5 M
"""

from tfm_jax.models import rnn_seq2seq
from tfm_jax.settings.configure import configure

EPOCH = 55  # steps
TOKENS = 16  # of a sentence
RECIPES = {
    "bahdanau": dict(
        optim=dict(
            optimizer="adadelta",
            schedule="constant",
            peak_lr=1.0,
            warmup_steps=0,
            b2=0.95,
            eps=1e-6,
            clip_norm=1.0 / TOKENS,
        )
    ),
    "luong": dict(
        optim=dict(
            optimizer="sgd",
            schedule="step_decay",
            peak_lr=1.0 * TOKENS,
            warmup_steps=0,
            b1=0.0,
            clip_norm=5.0 / TOKENS,
            cut_after_steps=8 * EPOCH,
            cut_every_steps=EPOCH,
        ),
        train=dict(total_steps=12 * EPOCH),
    ),
}
ADAM = dict(optim=dict(peak_lr=2e-3, warmup_steps=500, clip_norm=1.0))
SIZES = dict.fromkeys(rnn_seq2seq.SIZES, ADAM) | RECIPES


def get_config(size="tiny"):
    return configure(
        "rnn_seq2seq",
        "translation",
        SIZES[size],
        model=dict(dropout=0.3) | rnn_seq2seq.SIZES[size],
        data=dict(
            source="parallel",
            normalize="moses_lowercase",
            source_length=48,
            target_length=48,
        ),
        tokenizer=dict(kind="bpe", vocab=10_000),
        train=dict(total_steps=8_000, batch_tokens=8_192),
        eval=dict(every_steps=500, sentences=0, beam=5, average_last=10),
        checkpoint=dict(every_steps=110, keep=10),
    )
