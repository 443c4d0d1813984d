"""Training arms, each in a process of its own: ours, PyTorch, Hugging Face Marian."""

import contextlib
import importlib
import time
from pathlib import Path

import numpy as np

from benchmarks.rounds import serve
from tfm_jax.data.tokenizers.bilingual import BOS, EOS, PAD

TORCH_MODELS = {  # model_name -> (module of this package, class)
    "transformer": ("torch_model", "TorchTransformer"),
    "conv_seq2seq": ("torch_conv", "TorchConvSeq2Seq"),
}


class Training:
    """Steps on real data for a while; subclasses have ``step`` and ``wait``.

    ``step`` adds to ``real`` the tokens of both sides that are no padding, and to
    ``places`` all places of the batch.
    """

    real = places = 0

    def round(self, seconds, least=1):
        """Trains for ``seconds``, ``least`` steps if they take longer."""
        self.real = self.places = steps = 0
        start, cpu = time.perf_counter(), time.process_time()
        while steps < least or time.perf_counter() - start < seconds:
            self.step()
            steps += 1
        loss = self.wait()
        elapsed = time.perf_counter() - start
        return {
            "tokens": self.real,
            "seconds": elapsed,
            "cpu_seconds": time.process_time() - cpu,
            "steps": steps,
            "filled": self.real / self.places,
            "loss": loss,
        }


class Ours(Training):
    """What ``tfm_jax.main --mode=train`` runs, without logs, scores and checkpoints."""

    def __init__(self, config, folder):
        import jax
        from flax import linen as nn

        from tfm_jax import mesh
        from tfm_jax.runs.process import runtime
        from tfm_jax.runs.process.preemption import Preemption
        from tfm_jax.runs.storage.checkpoint import Checkpointer
        from tfm_jax.settings.experiment import resolve
        from tfm_jax.train import assemble, loop

        self.jax = jax
        experiment = resolve(config)
        runtime.prepare(experiment.mesh.cpu_devices)
        devices = mesh.make_mesh(experiment.mesh)
        contexts = contextlib.ExitStack()
        contexts.enter_context(jax.set_mesh(devices))
        contexts.enter_context(nn.logical_axis_rules(mesh.RULES))
        checkpoints = contexts.enter_context(
            Checkpointer(folder / "checkpoints", experiment.checkpoint)
        )
        held = folder, devices, checkpoints, Preemption()
        self.run = loop.Training(assemble.assemble(experiment, *held), *held)
        self.run.batches = self._counted(self.run.batches)
        self.contexts = contexts
        self.before = None  # metrics of the step before the last

    def step(self):
        metrics = self.run.update()
        if self.before is not None:
            self.jax.block_until_ready(self.before)  # as the loop does: two in flight
        self.before = metrics

    def wait(self):
        self.jax.block_until_ready(self.run.state)
        return float(self.before["loss"])

    def _counted(self, batches):
        for batch in batches:
            for segments in (batch.source_segments, batch.target_segments):
                self.real += int(np.count_nonzero(segments))
                self.places += segments.size
            yield batch

    def facts(self):
        """What the other arms need to train the same model on the same pairs."""
        path = self.run.workdir / "examples.npz"
        sides = {}
        for side in ("source", "target"):
            texts = [
                texts_of(
                    *(np.asarray(getattr(rows, side + x)) for x in ("", "_segments"))
                )
                for rows in self.run.data.train  # of one shape each
            ]
            lengths = np.concatenate([np.diff(offsets) for _, offsets in texts])
            offsets = np.append(0, lengths.cumsum())
            ids = np.concatenate([ids for ids, _ in texts])
            sides |= {side: ids, f"{side}_offsets": offsets}
        np.savez(path, **sides)
        leaves = self.jax.tree.leaves(self.run.state.params)
        return {
            "parameters": sum(x.size for x in leaves),
            "headline": self.run.headline(),
            "config": self.run.experiment.as_dict(),
            "examples": str(path),
        }


class TorchLoop(Training):
    """A PyTorch loop with clipped gradients, by default of Adam at a constant rate.

    Subclasses set ``model`` and have ``next_batch``, which counts as ``step`` does, and
    ``loss_of`` what it returns.
    """

    rounding = contextlib.nullcontext()  # of the forward pass
    schedule = None

    def __init__(self, config):
        import torch

        self.torch, self.config = torch, config
        torch.manual_seed(config["seed"])

    def adam(self):
        """As the section ``optim`` has it, at its peak rate."""
        optim = self.config["optim"]
        return self.torch.optim.Adam(
            self.model.parameters(),
            lr=optim["peak_lr"],
            betas=(optim["b1"], optim["b2"]),
            eps=optim["eps"],
            fused=True,
        )

    def step(self):
        batch = self.next_batch()
        self.optimizer.zero_grad(set_to_none=True)
        with self.rounding:
            self.loss = self.loss_of(*batch)
        self.loss.backward()
        if clip := self.config["optim"]["clip_norm"]:
            self.torch.nn.utils.clip_grad_norm_(
                self.model.parameters(), clip, foreach=True
            )
        self.optimizer.step()
        if self.schedule:
            self.schedule.step()

    def wait(self):
        return self.loss.item()

    def facts(self):
        """For the comparison of sizes."""
        trained = (p for p in self.model.parameters() if p.requires_grad)
        return {"parameters": sum(p.numel() for p in trained)}


class Torch(TorchLoop):
    """Length-sorted batches of a token budget."""

    def __init__(self, config, examples):
        super().__init__(config)
        with np.load(examples) as file:
            sides = [(file[s], file[f"{s}_offsets"]) for s in ("source", "target")]
        self.batches = self.make_batches(*sides)
        self.model = self.build(config["model"]).train()
        self.optimizer = self.adam()
        warmup = max(config["optim"]["warmup_steps"], 1)
        self.schedule = self.torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda n: min((n + 1) / warmup, (warmup / (n + 1)) ** 0.5)
        )

    def make_batches(self, source, target):
        """Endless right-padded int64 arrays [B, S] and [B, T]."""
        budget = self.config["train"]["batch_tokens"]
        return length_sorted(source, target, budget, self.config["seed"])

    def build(self, cfg):
        """The model, from the ``model`` section."""
        module, name = TORCH_MODELS[self.config["model_name"]]
        return getattr(importlib.import_module(f"benchmarks.{module}"), name)(cfg)

    def loss_of(self, source, labels):
        """Differentiable loss of right-padded numpy arrays [B, S] and [B, T]."""
        torch = self.torch
        hidden = source == PAD
        hidden = torch.from_numpy(hidden) if hidden.any() else None
        return self.model.loss(
            torch.from_numpy(source),
            torch.from_numpy(shifted(labels)),
            torch.from_numpy(labels),
            hidden,
            torch.from_numpy(np.flatnonzero(labels != PAD)),
            self.config["train"]["label_smoothing"],
        )

    def next_batch(self):
        """Right-padded numpy arrays [B, S] and [B, T]."""
        batch = next(self.batches)
        for side in batch:
            self.real += int(np.count_nonzero(side != PAD))
            self.places += side.size
        return batch


class Marian(Torch):
    """``transformers.MarianMTModel`` in the same loop, with the loss it computes.

    That loss has no label smoothing, so this arm does a little less.
    """

    def build(self, cfg):
        """The model, from the ``model`` section."""
        from transformers import MarianConfig, MarianMTModel

        sides = ("encoder", "decoder")
        return MarianMTModel(
            MarianConfig(
                vocab_size=cfg["target_vocab"],
                d_model=cfg["width"],
                max_position_embeddings=cfg["max_length"],
                activation_function="relu",
                dropout=cfg["dropout"],
                attention_dropout=0.0,
                activation_dropout=0.0,
                scale_embedding=True,
                init_std=cfg["width"] ** -0.5,
                pad_token_id=PAD,
                eos_token_id=EOS,
                decoder_start_token_id=BOS,
                **{f"{side}_layers": cfg[f"{side}_depth"] for side in sides},
                **{f"{side}_attention_heads": cfg["heads"] for side in sides},
                **{f"{side}_ffn_dim": cfg["ffn_width"] for side in sides},
            )
        )

    def loss_of(self, source, labels):
        """As ``Torch.loss_of``."""
        torch = self.torch
        return self.model(
            input_ids=torch.from_numpy(source),
            attention_mask=torch.from_numpy((source != PAD).astype(np.int64)),
            labels=torch.from_numpy(np.where(labels == PAD, -100, labels)),
        ).loss


class Recurrent(Torch):
    """``benchmarks.torch_rnn`` in the same loop."""

    def build(self, cfg):
        """The model, from the ``model`` section."""
        from benchmarks.torch_rnn import TorchRecurrent

        return TorchRecurrent(cfg)


def texts_of(tokens, segments):
    """Packed rows -> (ids, offsets) of the texts in them, row by row."""
    real = segments > 0
    number = (np.arange(len(segments))[:, None] * (segments.max() + 1) + segments)[real]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    return tokens[real], np.append(starts, len(number))


def length_sorted(source, target, budget, seed):
    """Endless batches of pairs of like length, ``budget`` padded target tokens each.

    Args: source, target: (ids, offsets) as in ``tfm_jax.data.rows.packing.Ragged``.
    Yields: right-padded int64 arrays [B, S] and [B, T].
    """
    generator = np.random.default_rng(seed)
    source_lengths, target_lengths = (
        np.diff(offsets) for _, offsets in (source, target)
    )
    while True:
        anyhow = generator.random(len(target_lengths))
        order = np.lexsort((anyhow, source_lengths, target_lengths))
        cuts, first = [], 0
        for place, length in enumerate(target_lengths[order]):
            if (place + 1 - first) * length > budget:
                cuts.append(place)
                first = place
        batches = np.split(order, cuts)
        for number in generator.permutation(len(batches)):
            chosen = batches[number]
            yield padded(*source, chosen), padded(*target, chosen)


def padded(ids, offsets, chosen):
    """[B, longest] int64, filled with PAD."""
    lengths = offsets[chosen + 1] - offsets[chosen]
    rows = np.full((len(chosen), lengths.max()), PAD, np.int64)
    real = np.arange(rows.shape[1]) < lengths[:, None]
    rows[real] = np.concatenate([ids[offsets[i] : offsets[i + 1]] for i in chosen])
    return rows


def shifted(labels):
    """What the decoder is fed: BOS, then all labels but the last."""
    inputs = np.full_like(labels, BOS)
    inputs[:, 1:] = labels[:, :-1]
    return inputs


def start(arm, folder, config=None, examples=None):
    """(facts, arm) for ``rounds.serve``."""
    if arm == "tfm_jax":
        training = Ours(config, Path(folder))
    else:
        kinds = {"torch": Torch, "marian": Marian, "recurrent": Recurrent}
        training = kinds[arm](config, examples)
    return training.facts(), training


if __name__ == "__main__":
    serve(start)
