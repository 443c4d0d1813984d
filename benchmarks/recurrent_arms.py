"""Decoding arms of recurrent models, each in a process of its own: ours and PyTorch."""

import time
from pathlib import Path

import numpy as np

from benchmarks.rounds import serve

ROWS = 128  # sentences of a batch, of like length


class Ours:
    """``decode`` with random weights, which it leaves in a folder."""

    def __init__(self, folder, config, sentences, offset):
        from benchmarks.decoding_arms import _random
        from tfm_jax.interop import save_huggingface
        from tfm_jax.models.rnn_seq2seq import RNNSeq2Seq
        from tfm_jax.runs.process import runtime

        runtime.prepare()
        cfg, params, tokenizer, lines = _random(config, None)
        self.model, self.params, self.offset = RNNSeq2Seq(cfg), params, offset
        self.sources = tokenizer.encode(lines[:sentences], "source")
        save_huggingface(Path(folder, "model"), params, cfg)
        np.savez(Path(folder, "sources.npz"), *self.sources)

    def facts(self):
        """Nothing that others need."""
        return {}

    def decode(self, beam):
        """Translates all sentences: tokens, seconds and the translations."""
        from tfm_jax.decode.search import decode

        start = time.perf_counter()
        found = decode(
            self.model,
            self.params,
            self.sources,
            beam=beam,
            length_penalty=0.0,
            offset=self.offset,
            batch_sentences=ROWS,
            returned=1,
            force_eos=True,
        )
        seconds = time.perf_counter() - start
        return _result(seconds, [t[0, : n[0]].tolist() for t, _, n in found])


class Torch:
    """Its own loop over the same weights, on length-sorted batches."""

    def __init__(self, folder, config, sentences, offset):
        import dataclasses

        import torch

        from benchmarks.torch_rnn import TorchRecurrent
        from tfm_jax.interop import load_huggingface
        from tfm_jax.interop.maps.rnn_seq2seq import RNN_SEQ2SEQ

        del config, sentences
        found = load_huggingface(Path(folder, "model"))
        tensors = RNN_SEQ2SEQ.to_tensors(found.config, found.params)
        self.model = TorchRecurrent(dataclasses.asdict(found.config)).eval()
        self.model.load_state_dict(
            {name: torch.tensor(x) for name, x in tensors.items()}
        )
        self.torch, self.offset = torch, offset
        with np.load(Path(folder, "sources.npz")) as file:
            self.sources = [*file.values()]
        self.order = sorted(range(len(self.sources)), key=self._length)

    def _length(self, number):
        return len(self.sources[number])

    def facts(self):
        """Nothing that others need."""
        return {}

    def decode(self, beam):
        """As ``Ours.decode``."""
        from tfm_jax.data.tokenizers.bilingual import EOS, PAD

        torch, start = self.torch, time.perf_counter()
        found = [None] * len(self.sources)
        for first in range(0, len(self.order), ROWS):
            chosen = self.order[first : first + ROWS]
            lengths = torch.tensor([*map(self._length, chosen)])
            source = torch.full((len(chosen), int(lengths.max())), PAD)
            for row, i in zip(source, chosen, strict=True):
                row[: len(self.sources[i])] = torch.from_numpy(self.sources[i])
            limits = lengths + self.offset
            if beam == 1:
                tokens = self.model.greedy(source, limits)
            else:
                tokens = self.model.beam(source, limits, beam)
            ends = (tokens == EOS).int().argmax(1).tolist()
            for i, row, end in zip(chosen, tokens.tolist(), ends, strict=True):
                found[i] = row[: end + 1]
        return _result(time.perf_counter() - start, found)


def _result(seconds, translations):
    tokens = sum(map(len, translations))
    return {"tokens": tokens, "seconds": seconds, "translations": translations}


def start(arm, **arguments):
    """(facts, arm) for ``rounds.serve``."""
    made = {"tfm_jax": Ours, "torch": Torch}[arm](**arguments)
    return made.facts(), made


if __name__ == "__main__":
    serve(start)
