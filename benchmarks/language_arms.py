"""Language model arms, each in a process of its own: ours and PyTorch."""

import math
from pathlib import Path

import numpy as np

from benchmarks import training_arms
from benchmarks.rounds import serve


class Ours(training_arms.Ours):
    """What ``tfm_jax.main --mode=train`` runs, without logs, scores and checkpoints."""

    def _counted(self, batches):
        for batch in batches:
            self.real += int(np.count_nonzero(batch.weights))
            self.places += batch.tokens.size
            yield batch

    def facts(self):
        """What the other arms need to train the same model on the same text."""
        (rows,) = self.run.data.train
        path = self.run.workdir / "tokens.npy"
        np.save(path, rows.tokens.rows.arrays["ids"])
        leaves = self.jax.tree.leaves(self.run.state.params)
        self.step()  # compiles; the loss is that of the first weights
        return {
            "parameters": sum(x.size for x in leaves),
            "headline": self.run.headline(),
            "config": self.run.experiment.as_dict(),
            "tokens": str(path),
            "rows": self.places // rows.tokens.shape[1],
            "first_loss": self.wait(),
        }


class Torch(training_arms.TorchLoop):
    """nanoGPT's loop: rows from random places of the text, AdamW, clipped gradients."""

    def __init__(self, config, tokens, rows, compiled="", autocast=False):
        from benchmarks.torch_gpt import TorchGpt

        super().__init__(config)
        torch = self.torch
        self.generator = np.random.default_rng(config["seed"])
        self.tokens = np.load(tokens).astype(np.int64)
        self.shape = rows, config["data"]["length"]
        self.model = TorchGpt(config["model"]).train()
        self.rounding = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
        self.loss_of = self.model.loss
        if compiled:
            self.loss_of = torch.compile(self.loss_of, mode=compiled)
        optim = config["optim"]
        decayed = {True: [], False: []}
        for parameter in self.model.parameters():
            decayed[parameter.dim() > 1].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                dict(params=decayed[True], weight_decay=optim["weight_decay"]),
                dict(params=decayed[False], weight_decay=0.0),
            ],
            lr=optim["peak_lr"],
            betas=(optim["b1"], optim["b2"]),
            eps=optim["eps"],
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, cosine(optim, config["train"]["total_steps"])
        )

    def next_batch(self):
        """Tokens [B, T] and the tokens after them."""
        rows, length = self.shape
        starts = self.generator.integers(0, len(self.tokens) - length, rows)
        cut = self.torch.from_numpy(
            self.tokens[starts[:, None] + np.arange(length + 1)]
        )
        self.real += rows * length
        self.places += rows * length
        return cut[:, :-1].contiguous(), cut[:, 1:].contiguous()

    def facts(self):
        """For the comparison of sizes and of the first weights."""
        self.step()
        return super().facts() | {"first_loss": self.wait()}


def cosine(optim, total_steps):
    """Share of the peak rate after so many updates: linear warm-up, then a cosine."""
    warmup, last = max(optim["warmup_steps"], 1), optim["final_lr_fraction"]

    def share(step):
        if step < warmup:
            return (step + 1) / warmup
        done = min((step - warmup) / (total_steps - warmup), 1.0)
        return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2

    return share


def start(folder=None, **settings):
    """(facts, arm) for ``rounds.serve``; with a folder to work in it is ours."""
    made = Ours(folder=Path(folder), **settings) if folder else Torch(**settings)
    return made.facts(), made


if __name__ == "__main__":
    serve(start)
