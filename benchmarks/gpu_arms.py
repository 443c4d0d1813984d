"""Training arms on one GPU, in bfloat16, all on the same batches."""

import time
from pathlib import Path

import numpy as np

from benchmarks.rounds import serve
from benchmarks.training_arms import Ours, Torch, shifted
from tfm_jax.data.tokenizers.bilingual import PAD


class OursGpu(Ours):
    """Ours, which also measures what the card can do."""

    def matmul_rate(self, size, repeats=20):
        """Floating point operations a second of bfloat16 products [size, size]."""
        jax = self.jax
        x = jax.random.normal(jax.random.key(0), (size, size), jax.numpy.bfloat16)
        multiply = jax.jit(lambda a, b: a @ b)
        y = multiply(x, x).block_until_ready()
        start = time.perf_counter()
        for _ in range(repeats):
            y = multiply(x, y)  # each waits for the one before: none can be left out
        y.block_until_ready()
        return 2 * size**3 * repeats / (time.perf_counter() - start)


class TorchGpu(Torch):
    """``torch.compile``, fused attention and fused Adam, shapes as few as ours."""

    def __init__(self, config, examples, device):
        self.device = device
        super().__init__(config, examples)
        self.compiled = self.torch.compile(self.model.loss, dynamic=False)

    def make_batches(self, source, target):
        """Our pipeline's batches: numpy alone."""
        from tfm_jax.config import build
        from tfm_jax.data.batches import train_batches
        from tfm_jax.data.prepared import Prepared
        from tfm_jax.data.rows import packing, pairs

        ragged = [packing.Ragged(*side) for side in (source, target)]
        kept = np.arange(len(ragged[0].lengths))
        cfg = build(pairs.Config, self.config["data"], "data")
        train = pairs.form_rows(cfg, pairs.Encoded(*ragged, kept, {}))
        batches = train_batches(
            cfg,
            Prepared(None, train, [], [], {}, {}, "", {}, packing.as_batch),
            batch_tokens=self.config["train"]["batch_tokens"],
            total_batches=self.config["train"]["total_steps"],
            seed=self.config["seed"],
            row_multiple=self.config["train"]["row_multiple"],
        )
        for batch in batches:
            yield batch.source.astype(np.int64), batch.target_labels.astype(np.int64)

    def build(self, cfg):
        """The model on the device."""
        return super().build(cfg).to(self.device)

    def loss_of(self, source, labels):
        """As ``Torch.loss_of``, with logits everywhere: shapes stay static."""
        torch = self.torch
        source, inputs, labels = (
            torch.from_numpy(x).to(self.device, non_blocking=True)
            for x in (source, shifted(labels), labels)
        )
        with torch.autocast(self.device, torch.bfloat16):
            return self.compiled(
                source,
                inputs,
                labels,
                source == PAD,
                smoothing=self.config["train"]["label_smoothing"],
            )


def start(arm, folder, config, examples=None, device="cuda"):
    """(facts, arm) for ``rounds.serve``."""
    if arm == "torch":
        made = TorchGpu(config, examples, device)
    else:
        folder = Path(folder) / arm
        folder.mkdir()
        made = OursGpu(config, folder)
    return made.facts(), made


if __name__ == "__main__":
    serve(start)
