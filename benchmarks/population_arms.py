"""Runs of one model in one process: a population or a single one."""

import contextlib
import time
from pathlib import Path

from benchmarks.rounds import serve

CONFIG = "configs/transformer_numerals.py"


class Members:
    """``size`` runs in this process: a population, or a single one."""

    def __init__(self, size, folder, first, vmapped, settings):
        import jax

        from tfm_jax import main
        from tfm_jax.runs.storage.checkpoint import Checkpointer
        from tfm_jax.settings.experiment import resolve
        from tfm_jax.train import loop, population

        self.jax, self.contexts, members = jax, contextlib.ExitStack(), []
        folders = [Path(folder) / str(first + i) for i in range(size)]
        for path in folders:
            path.mkdir(parents=True)
        argv = [f"--config={CONFIG}", "--workdir=.", *settings]
        values = main.parse(argv)
        configs = [main.load_config(*values) for _ in folders]
        for number, config in enumerate(configs):
            config.seed = first + number
        session = loop.session(resolve(configs[0]).mesh, folders)
        mesh, stop = self.contexts.enter_context(session)
        for config, path in zip(configs, folders, strict=True):
            made = resolve(config)
            saved = Checkpointer(path / "checkpoints", made.checkpoint)
            like = members[0] if members else None
            kind = population.Member if vmapped else loop.Training
            members.append(kind(made, path, mesh, saved, stop, like))
        self.members = members
        if vmapped:
            self.together = population.Population(members)
            self.step = lambda: self.together.step(members)[0]
        else:
            self.step = members[0].update
        self.size = size

    def round(self, steps):
        """Member-steps and seconds of ``steps`` steps of all."""
        start, before = time.perf_counter(), None
        for _ in range(steps):
            metrics = self.step()
            if before is not None:
                self.jax.block_until_ready(before)  # as the loop does: two in flight
            before = metrics
        self.jax.block_until_ready(before)
        return {"steps": steps * self.size, "seconds": time.perf_counter() - start}

    def facts(self):
        """The model and the device."""
        return {"headline": self.members[0].headline()}


def start(**options):
    """What ``serve`` asks for."""
    members = Members(**options)
    return members.facts(), members


if __name__ == "__main__":
    serve(start)
