"""ConvS2S on Multi30k German to English, after B. Trevett's notebook 5.

There: words of spaCy that occur twice, 10 + 10 layers of width 512, Adam at 5e-4, clip
0.1, batches of 128 pairs, 10 epochs (2,270 steps), greedy. Its model is the size
bentrevett; it attends to padding, which nothing here does, see models/conv_seq2seq.py.

Run     python -m tfm_jax.main --config=configs/conv_multi30k.py \
          --workdir=runs/conv30k --config.data.train_files=train.de.gz,train.en.gz \
          --config.data.valid_files=val.de.gz,val.en.gz \
          --config.data.test_files=test_2016_flickr.de.gz,test_2016_flickr.en.gz
Ablate  append --config.model.weight_norm=true --config.model.length_scale=true
Sizes   bentrevett (default), and those of models/conv_seq2seq.py; iwslt for a CPU
Expect  the notebook has 34.1 BLEU (tokenised) on test_2016; here not measured yet
Cost    37 M parameters, 3.8 M target tokens: for a GPU
"""

from tfm_jax.models import conv_seq2seq
from tfm_jax.settings.configure import configure


def get_config(size="bentrevett"):
    return configure(
        "conv_seq2seq",
        "translation",
        model=conv_seq2seq.SIZES[size] | dict(tie="none"),
        data=dict(
            source="parallel",
            source_language="de",
            target_language="en",
            normalize="moses_lowercase",
            source_length=64,
            target_length=64,
        ),
        tokenizer=dict(kind="word", shared=False, min_frequency=2),
        optim=dict(
            peak_lr=5e-4, schedule="constant", b2=0.999, eps=1e-8, clip_norm=0.1
        ),
        train=dict(total_steps=2_270, batch_tokens=2_048, label_smoothing=0.0),
        eval=dict(every_steps=227, sentences=0, beam=1),
        checkpoint=dict(every_steps=227, keep_best=1),
    )
