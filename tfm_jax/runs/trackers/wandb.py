"""Weights & Biases, also without a network: ``WANDB_MODE=offline``."""

import os
from collections.abc import Iterator

from tfm_jax.runs.trackers.follower import Record, RunInfo
from tfm_jax.terminal import say


def write(records: Iterator[list[Record]], info: RunInfo) -> None:
    """Metrics, samples and knobs, as a run that later processes go on with.

    ``WANDB_PROJECT``, ``WANDB_DIR`` and whatever else the library reads of the
    environment are obeyed; else the project is tfm_jax, the folder the workdir. Command
    line, machine, code and packages are not sent: nobody has looked for secrets there.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # asks for no key in a terminal
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_save_requirements=False,
    )
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "tfm_jax"),
        name=info.name,
        dir=os.environ.get("WANDB_DIR", info.workdir),
        id=info.id,
        resume="allow",
        config=dict(info.knobs),
        settings=settings,
    )
    say(f"wandb: {run.dir if run.offline else run.url}")
    run.define_metric("*", step_metric="step")
    finished = False
    for ready in records:
        for record in ready:
            if record.kind == "end":
                finished = record.values["finished"]
            elif record.kind == "samples":
                texts = {f"samples/{n}": text for n, text in record.values.items()}
                run.log({"step": record.step, **texts})
            elif record.kind == "pictures":
                files = record.values.items()
                drawn = {n: wandb.Image(str(info.workdir / path)) for n, path in files}
                run.log({"step": record.step, **drawn})
            elif numbers := record.numbers():
                run.log({"step": record.step, **numbers})
    run.finish(exit_code=0 if finished else 1)
