"""The ``train``, ``eval`` and ``checkpoint`` sections of a configuration."""

import dataclasses

from tfm_jax.config import Above, ConfigError, check_numbers, knob, no_choice

TRACKERS = ("tensorboard", "wandb", "mlflow")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train, on how much at a time, and for which objective."""

    ROLE = "training"

    total_steps: int = knob(100_000, "optimizer updates", low=1)
    extended_at: int = knob(
        0,
        "step at which a run goes on under other total_steps although its schedule "
        "ends with them, so that the learning rate jumps; 0: refused",
        low=0,
    )
    batch_tokens: int = knob(
        25_000, "target tokens, or images, of one update, padding included", low=1
    )
    accumulate_steps: int = knob(
        1, "micro-batches one update is computed in", role="execution", low=1
    )
    row_multiple: int = knob(
        8, "of rows of a batch: as many devices, or 4, 2, 1, are alike", low=1
    )
    label_smoothing: float = knob(
        0.1, "probability spread over all tokens", low=0, below=1
    )
    auxiliary_weight: float = knob(
        1.0,
        "of a second loss: of sentence pairs, of replaced tokens (published: 50), of "
        "words while classes are learnt (published: 0.5)",
        low=0,
    )
    ema_decay: float = knob(
        0.0,
        "of a moving average of the parameters that is evaluated instead; 0: none",
        role="architecture",
        low=0,
        below=1,
    )
    log_every_steps: int = knob(
        50, "between two lines of metrics", role="operation", low=1
    )
    skip_limit: int = knob(
        10, "updates in a row without a finite gradient: diverged", low=1
    )
    skip_sigma: float = knob(
        0.0,
        "an update is skipped whose loss or gradient norm lies so many standard "
        "deviations above the mean of the last 128 steps, 6 in OLMo and MaxText; 0: "
        "none is",
        low=0,
    )
    stop_patience: int = knob(
        0,
        "evaluations in a row without a better stop_metric after which training ends "
        "early; 0: never",
        low=0,
    )
    stop_metric: str = knob(
        "loss", "score of the held-out data; loss: the workload's own one"
    )
    trackers: tuple[str, ...] = knob(
        ("tensorboard",),
        "what shows people the record, which metrics.jsonl keeps: tensorboard, wandb, "
        "mlflow",
        role="operation",
    )
    max_hours: float = knob(
        0.0,
        "of one start, after which the run is saved and left with exit code 75; the "
        "same command goes on; 0: no limit",
        role="operation",
        low=0,
    )

    READ_WITH = {("stop_patience", Above(0)): ("stop_metric",)}

    def __post_init__(self):
        check_numbers(self, "train")
        for name in self.trackers:
            if name not in TRACKERS:
                raise ConfigError(no_choice("train.trackers", name, TRACKERS))


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """When to evaluate, and how to decode; defaults are Vaswani et al. 2017, 6.1."""

    ROLE = "operation"

    every_steps: int = knob(5_000, "between two evaluations while training", low=1)
    sentences: int = knob(
        500, "of the validation set, decoded while training; 0: none", low=0
    )
    samples: int = knob(
        3, "translations or continuations that are logged, images that are drawn", low=0
    )
    judge: str = knob(
        "",
        "workdir of a Vision Transformer that classifies images; its features compare "
        'those that are drawn with real ones; "": none do',
    )
    batch_tokens: int = knob(
        8_192, "target tokens, or images, of one batch of the loss", low=1
    )
    batch_sentences: int = knob(128, "sentences decoded at a time", low=1)
    beam: int = knob(4, "hypotheses of a sentence; 1: greedy", low=1, high=1_000)
    length_penalty: float = knob(0.6, "alpha of Wu et al. 2016, equation 14", low=0)
    max_length_offset: int = knob(
        50,
        "longest translation, relative to its source; model.max_length, if learned, "
        "is a limit too",
        low=0,
        high=2**24,
    )
    average_last: int = knob(
        1, "checkpoints averaged for the evaluation after training", low=1
    )
    pictures: bool = knob(
        True,
        "curve.png after training, and attention.png of what translates; of what draws "
        "images some of them, whenever it is evaluated",
    )
    variants: tuple[str, ...] = knob(
        (),
        "the validation text read in other ways, scored after training: each is "
        "NAME:KNOB=VALUE;KNOB=VALUE of the data section, such as sop:pairs.kind=sop",
    )

    READ_WITH = {("samples", Above(0)): ("judge",)}

    def __post_init__(self):
        check_numbers(self, "eval")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, which are kept, and how much is checked."""

    ROLE = "operation"

    every_steps: int = knob(1000, "between two checkpoints", low=1)
    keep: int = knob(3, "newest checkpoints that stay", low=1)
    keep_best: int = knob(
        1, "besides these, by `metric` of the newest evaluation", low=0
    )
    metric: str = knob(
        "loss", "score of the held-out data; loss: the workload's own one"
    )
    asynchronous: bool = knob(
        True, "write in the background, from a copy in host memory"
    )
    verify: bool = knob(True, "compare the sha256 of every file before a restore")

    READ_WITH = {("keep_best", Above(0)): ("metric",)}

    def __post_init__(self):
        check_numbers(self, "checkpoint")
