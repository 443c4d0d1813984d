"""Decoding arms of recurrent models, each in a process of its own: ours and PyTorch."""

from pathlib import Path

import numpy as np

from benchmarks import decoding_arms
from benchmarks.rounds import serve

SPREAD = 2.0  # times the initial weights; of smaller ones near-ties are too many


class Ours(decoding_arms.Ours):
    """``decode`` with random weights, which it leaves in a folder."""

    def __init__(self, folder, config, sentences, offset):
        import jax

        from tfm_jax.interop import save_huggingface
        from tfm_jax.models.rnn_seq2seq import RNNSeq2Seq
        from tfm_jax.runs.process import runtime

        runtime.prepare()
        cfg, params, tokenizer, lines = decoding_arms.untrained(config)
        params = jax.tree.map(lambda x: SPREAD * x, params)
        self.model, self.params, self.offset = RNNSeq2Seq(cfg), params, offset
        self.sources = tokenizer.encode(lines[:sentences], "source")
        save_huggingface(Path(folder, "model"), params, cfg)
        np.savez(Path(folder, "sources.npz"), *self.sources)

    def facts(self):
        """Nothing that others need."""
        return {}


class Torch(decoding_arms.Torch):
    """Its own loop over the same weights."""

    def __init__(self, folder, config, sentences, offset):
        import dataclasses

        import torch

        from benchmarks.torch_rnn import TorchRecurrent
        from tfm_jax.interop import load_huggingface
        from tfm_jax.interop.maps.rnn_seq2seq import RNN_SEQ2SEQ

        del config, sentences
        imported = load_huggingface(Path(folder, "model"))
        tensors = RNN_SEQ2SEQ.to_tensors(imported.config, imported.params)
        model = TorchRecurrent(dataclasses.asdict(imported.config))
        model.load_state_dict({name: torch.tensor(x) for name, x in tensors.items()})
        with np.load(Path(folder, "sources.npz")) as file:
            super().__init__(model, [*file.values()], offset)

    def generate(self, source, limits, beam):
        """As of the base class."""
        if beam == 1:
            return self.model.greedy(source, limits)
        return self.model.beam(source, limits, beam)


def start(arm, **arguments):
    """(facts, arm) for ``rounds.serve``."""
    made = {"tfm_jax": Ours, "torch": Torch}[arm](**arguments)
    return made.facts(), made


if __name__ == "__main__":
    serve(start)
