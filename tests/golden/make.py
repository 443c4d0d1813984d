"""Trains the golden runs of a release: what it leaves, all later code must read.

    python -m tests.golden.make VERSION

Each run has 40 steps and keeps its checkpoint of step 20, its log and its results: from
that checkpoint later code goes on, and must come out where the release did.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import make_snapshots
from tests.golden import families

GOLDEN = Path(__file__).parent
KEPT, STEPS = 20, 40
LEFT_OUT = ("tensorboard", "lease.lock", "*.png", "*.txt", f"checkpoints/{STEPS:06d}")
ALL = {
    "train.total_steps": STEPS,
    "train.log_every_steps": 1,
    "eval.every_steps": KEPT,
    "checkpoint.every_steps": KEPT,
    "checkpoint.keep": 2,
    "mesh.data": 1,
    "model.width": 8,
    "model.heads": 2,
    "model.ffn_width": 16,
    "optim.warmup_steps": 10,
    "optim.schedule": "constant",
}
RUNS = {  # name -> (configuration, its knobs); neither reads a file
    "translation": (
        "configs/transformer_numerals_small.py",
        {
            "model.encoder_depth": 1,
            "model.decoder_depth": 1,
            "model.dropout": 0.0,
            "data.batching": "fixed",
            "data.numerals_max": 199,
            "data.numerals_heldout": 8,
            "data.numerals_train": 0,
            "tokenizer.kind": "character",
            "optim.peak_lr": 0.02,
        },
    ),
    "causal_lm": (
        "configs/shakespeare_char.py",
        {
            "model.depth": 1,
            "data.source": "recall",
            "data.recall_train": 512,
            "data.recall_heldout": 32,
            "mesh.cpu_devices": 1,
        },
    ),
}


def main(version: str) -> None:
    """Writes ``tests/golden/VERSION``: RUNS, a model of each family, the configs."""
    make_snapshots.main(GOLDEN / version / "configs")
    families.write(version)
    for name, (config, knobs) in RUNS.items():
        workdir = Path(tempfile.gettempdir(), "golden", version, name)  # it is recorded
        flags = [f"--config.{knob}={value}" for knob, value in (ALL | knobs).items()]
        command = ["-m", "tfm_jax.main", f"--config={config}", f"--workdir={workdir}"]
        subprocess.run([sys.executable, *command, *flags], check=True)
        for pattern in LEFT_OUT:
            for path in workdir.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.move(workdir, GOLDEN / version / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
