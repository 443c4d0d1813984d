"""Does a synthetic task tell a model that has its mechanism from one that lacks it?

A scale is a task; cpu and gpu are recall. "has" is a Transformer. The other arm lacks
all states of the prompt but the last, its positions, its second layer, the steps of an
answer, or its view of all words but the last.

Arora et al. 2023, arXiv:2312.04927: recall parts attention from states of one size.
Olsson et al. 2022, arXiv:2209.11895: two layers find what followed before, one does
not. Kim and Suzuki 2024, arXiv:2410.08633: parity is learnt where its steps are written
down. The others are so by construction.
"""

from typing import Any

from experiments.scales import SYNTHETIC, steps
from experiments.study import Study, check, within

PAIRS = SYNTHETIC | {
    "data.source_length": 40,
    "data.target_length": 40,
    "tokenizer.vocab": 1_000,
    "optim.warmup_steps": 100,
}
PAIRS |= steps(1_000)
ONE_STATE = {
    "config": "configs/rnn_numerals.py",
    "model.score": "none",
    "model.context": "every_step",
    "model.width": 96,
    "model.embedding_width": 64,
    "model.readout_width": 64,
    "model.dropout": 0.0,
}
UNORDERED = {"model.positions": "none"}
CAUSAL = {"model.positions": "rotary"} | steps(2_000)
BLIND = {"model.windows": (1,)}
# weight decay finds the rule soonest: Power et al. 2022, arXiv:2201.02177, figure 2
RULE = {"optim.optimizer": "adamw", "optim.weight_decay": 1.0} | steps(3_000)
INDUCTION = CAUSAL | {
    "model.positions": "t5",
    "data.mechanism.symbols": 16,
    "data.mechanism.train": 200_000,
}
INDUCTION |= steps(4_000)

LONG = {"data.mechanism.length": 24}
FEW = {
    "data.mechanism.joined": True,
    "data.mechanism.length": 4,
    "data.mechanism.shortest": 1,  # as in one of the two configurations
    "data.mechanism.symbols": 8,
    "data.mechanism.queries": 4,
    "optim.peak_lr": 4e-3,
}
MANY = {  # pairs
    "data.mechanism.joined": True,
    "data.mechanism.length": 64,
    "data.mechanism.shortest": 1,
    "data.mechanism.symbols": 128,
    "data.mechanism.queries": 16,
    "data.mechanism.train": 200_000,
    "data.source_length": 128,
    "tokenizer.vocab": 20_000,  # 128 times 128 words
    "train.batch_tokens": 16_384,
    "mesh.cpu_devices": 0,
}
MANY |= steps(20_000)
WORKED = {
    "data.mechanism.worked": True,
    "data.mechanism.length": 12,
    "data.mechanism.shortest": 1,
    "data.mechanism.train": 5_000,
}
# task -> configuration, settings of both arms, what the second one lacks
TASKS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "copy": ("transformer", PAIRS | LONG, ONE_STATE),
    "reverse": ("transformer", PAIRS, UNORDERED),
    "recall": ("transformer", PAIRS | FEW, ONE_STATE),
    "brackets": ("transformer", PAIRS, UNORDERED),
    "relations": ("transformer", PAIRS, UNORDERED),
    "parity": ("transformer", PAIRS | WORKED, {"data.mechanism.worked": False}),
    "sort": ("gpt", CAUSAL, BLIND),
    "selective_copy": ("gpt", CAUSAL, BLIND),
    "count": ("gpt", CAUSAL, BLIND),
    "modular_sum": ("gpt", CAUSAL | RULE, BLIND),
    "induction": ("gpt", INDUCTION, {"model.depth": 1}),
}
SCALES = ("cpu", "gpu", *(task for task in TASKS if task != "recall"))


def get_study(scale="cpu"):
    task = "recall" if scale in ("cpu", "gpu") else scale
    config, settings, lacking = TASKS[task]
    settings = PAIRS | MANY if scale == "gpu" else settings
    return Study(
        config=f"configs/{config}_mechanisms.py:{task}",
        settings={"data.source": "mechanisms", "data.mechanism.task": task} | settings,
        arms={"has": {}, "lacks": lacking},
        baseline="has",
        seeds=(0, 1, 2),
        metric="valid/accuracy",
        goal="max",
        sesoi=0.05,
        fixed_rate="one rate for both arms",
        solved=0.95,
        expect=(
            # no interval of Student's t ends where accuracies do
            check(within("has", 0.95, 1.5, "a model that has it solves the task")),
            check(within("lacks", -0.5, 0.9, "one that lacks it does not")),
        ),
    )
