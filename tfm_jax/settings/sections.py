"""The ``train`` and ``eval`` sections of a configuration."""

import dataclasses

from tfm_jax.config import bounded, check_numbers


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train, on how much at a time, and for which objective."""

    total_steps: int = bounded(100_000, 1)  # optimizer updates
    # step at which a run goes on under other total_steps although its schedule ends
    # with them, so that the learning rate jumps; 0: refused
    extended_at: int = bounded(0, 0)
    # target tokens of one update, padding included
    batch_tokens: int = bounded(25_000, 1)
    accumulate_steps: int = bounded(1, 1)  # micro-batches one update is computed in
    # of rows of a batch: as many devices, or 4, 2, 1, are alike
    row_multiple: int = bounded(8, 1)
    label_smoothing: float = 0.1
    # of a second loss: of sentence pairs, of replaced tokens (published: 50), of
    # words while classes are learnt (published: 0.5)
    auxiliary_weight: float = bounded(1.0, 0)
    ema_decay: float = 0.0  # of a moving average that is evaluated instead; 0: none
    log_every_steps: int = bounded(50, 1)
    # updates in a row without a finite gradient: diverged
    skip_limit: int = bounded(10, 1)
    # an update is skipped whose loss or gradient norm lies so many standard deviations
    # above the mean of the last 128 steps, 6 in OLMo and MaxText; 0: none is
    skip_sigma: float = bounded(0.0, 0)

    def __post_init__(self):
        check_numbers(self, "train")
        for name in ("label_smoothing", "ema_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(
                    f"train.{name}={getattr(self, name)} must be in [0, 1)"
                )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """When to evaluate, and how to decode; defaults are Vaswani et al. 2017, 6.1."""

    every_steps: int = bounded(5_000, 1)
    # of the validation set, decoded while training; 0: none
    sentences: int = bounded(500, 0)
    samples: int = bounded(3, 0)  # translations that are logged
    batch_tokens: int = bounded(8_192, 1)  # target tokens of one batch of the loss
    batch_sentences: int = bounded(128, 1)  # sentences decoded at a time
    beam: int = bounded(4, 1, 1_000)  # 1: greedy
    length_penalty: float = bounded(0.6, 0)  # alpha of Wu et al. 2016, equation 14
    # longest translation, relative to its source; model.max_length, if learned, is a
    # limit too
    max_length_offset: int = bounded(50, 0, 2**24)
    # checkpoints averaged for the evaluation after training
    average_last: int = bounded(1, 1)
    # the validation text read in other ways, scored after training: each is
    # NAME:KNOB=VALUE;KNOB=VALUE of the data section, such as sop:pairs.kind=sop
    variants: tuple[str, ...] = ()

    def __post_init__(self):
        check_numbers(self, "eval")
