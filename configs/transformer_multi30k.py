"""Transformer-Tiny on Multi30k English to German (Wu et al. 2021, arXiv:2105.14462).

Published set-up: 4 + 4 layers, width 128, all embeddings shared, joint BPE with 10,000
merges on lower-cased Moses tokens, dropout 0.3, label smoothing 0.1, Adam with inverse
square root decay from 5e-3 after 2,000 steps, about 8,192 target tokens a step, 8,000
steps, the mean of the last 10 epochs' checkpoints, beam 5.

Run     python -m tfm_jax.main --config=configs/transformer_multi30k.py \
          --workdir=runs/multi30k --config.data.train_files=train.en.gz,train.de.gz \
          --config.data.valid_files=val.en.gz,val.de.gz \
          --config.data.test_files=test_2016_flickr.en.gz,test_2016_flickr.de.gz
Sizes   multi30k_tiny (default), and those of models/transformer.py
Expect  published 41.02 BLEU (lower-cased, tokenised: bleu_tokenized) on test_2016
Cost    about 65 M target tokens: an hour of 2 cores makes a quarter of it, for which
        smaller batches need less dropout, see docs/multi30k.md
"""

from tfm_jax.models import transformer
from tfm_jax.settings.configure import configure


def get_config(size="multi30k_tiny"):
    return configure(
        "transformer",
        "translation",
        model=transformer.SIZES[size],
        data=dict(
            source="parallel",
            normalize="moses_lowercase",
            source_length=48,
            target_length=48,
        ),
        tokenizer=dict(kind="bpe", vocab=10_000),
        optim=dict(peak_lr=5e-3, warmup_steps=2_000, eps=1e-8, clip_norm=25.0),
        train=dict(total_steps=8_000, batch_tokens=8_192),
        eval=dict(every_steps=500, sentences=0, beam=5, average_last=10),
        checkpoint=dict(every_steps=110, keep=10),
    )
