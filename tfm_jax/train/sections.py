"""The ``train`` and ``eval`` sections of a configuration."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train, on how much at a time, and for which objective."""

    total_steps: int = 100_000  # optimizer updates
    # step at which a run goes on under other total_steps although its schedule ends
    # with them, so that the learning rate jumps; 0: refused
    extended_at: int = 0
    batch_tokens: int = 25_000  # target tokens of one update, padding included
    accumulate_steps: int = 1  # micro-batches one update is computed in
    row_multiple: int = 8  # of rows of a batch: as many devices, or 4, 2, 1, are alike
    label_smoothing: float = 0.1
    # of a second loss: of sentence pairs, of replaced tokens (published: 50), of
    # words while classes are learnt (published: 0.5)
    auxiliary_weight: float = 1.0
    ema_decay: float = 0.0  # of a moving average that is evaluated instead; 0: none
    log_every_steps: int = 50
    skip_limit: int = 10  # updates in a row without a finite gradient: diverged

    def __post_init__(self):
        for name in (
            "total_steps",
            "batch_tokens",
            "accumulate_steps",
            "row_multiple",
            "log_every_steps",
            "skip_limit",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}={getattr(self, name)} must be positive")
        for name in ("extended_at", "auxiliary_weight"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"train.{name}={getattr(self, name)} must not be negative"
                )
        for name in ("label_smoothing", "ema_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(
                    f"train.{name}={getattr(self, name)} must be in [0, 1)"
                )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """When to evaluate, and how to decode; defaults are Vaswani et al. 2017, 6.1."""

    every_steps: int = 5_000
    sentences: int = 500  # of the validation set, decoded while training; 0: none
    samples: int = 3  # translations that are logged
    batch_tokens: int = 8_192  # target tokens of one batch of the loss
    batch_sentences: int = 128  # sentences decoded at a time
    beam: int = 4  # 1: greedy
    length_penalty: float = 0.6  # alpha of Wu et al. 2016, equation 14
    max_length_offset: int = 50  # longest translation, relative to its source
    average_last: int = 1  # checkpoints averaged for the evaluation after training
    # the validation text read in other ways, scored after training: each is
    # NAME:KNOB=VALUE;KNOB=VALUE of the data section, such as sop:pairs.kind=sop
    variants: tuple[str, ...] = ()

    def __post_init__(self):
        for name in (
            "every_steps",
            "batch_tokens",
            "batch_sentences",
            "beam",
            "average_last",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"eval.{name}={getattr(self, name)} must be positive")
        for name in ("sentences", "samples", "length_penalty", "max_length_offset"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"eval.{name}={getattr(self, name)} must not be negative"
                )
