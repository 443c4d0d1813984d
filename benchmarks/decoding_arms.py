"""Decoding arms, each in a process of its own: ours and Hugging Face Marian."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from benchmarks.rounds import serve

MARIAN = dict(positions="sinusoidal_halves", norm_eps=1e-5)  # what Marian cannot vary


class Ours:
    """``decode`` with the weights of a run, or with random ones."""

    def __init__(self, folder, config, workdir, sentences, offset):
        from tfm_jax.interop import save_huggingface
        from tfm_jax.models.transformer import Transformer
        from tfm_jax.runs.process import runtime

        runtime.prepare()
        made = untrained(config) if workdir is None else _trained(config, workdir)
        cfg, params, tokenizer, lines = made
        cfg = dataclasses.replace(cfg, layout="unrolled", attention="xla")
        if cfg.positions == "sinusoidal":
            params = _halves(Transformer(cfg), params)
        self.cfg = dataclasses.replace(cfg, **MARIAN)
        self.model, self.params, self.offset = Transformer(self.cfg), params, offset
        self.sources = tokenizer.encode(lines[:sentences], "source")
        self.sources = [s[: cfg.max_length - offset] for s in self.sources]
        self.folder = str(Path(folder) / "model")
        save_huggingface(self.folder, params, self.cfg)

    def facts(self):
        """What the other arm needs to decode the same."""
        return {
            "model": self.folder,
            "sources": [s.tolist() for s in self.sources],
            "parameters": sum(x.size for x in _leaves(self.params)),
        }

    def decode(self, beam, batch):
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
            batch_sentences=batch,
            returned=1,
            force_eos=True,
        )
        seconds = time.perf_counter() - start
        return _result(seconds, [t[0, : n[0]].tolist() for t, _, n in found])


class Torch:
    """A model of torch on length-sorted batches; subclasses have ``generate``.

    ``generate(source, limits, beam)`` takes [B, S] and [B], tokens that each row is
    allowed, and returns tokens [B, T], of which those up to EOS count.
    """

    def __init__(self, model, sources, offset):
        import torch

        self.torch, self.offset = torch, offset
        self.model = model.eval()
        self.sources = [np.array(s) for s in sources]
        self.order = sorted(range(len(sources)), key=lambda i: len(sources[i]))

    def facts(self):
        """Nothing that others need."""
        return {}

    def decode(self, beam, batch):
        """As ``Ours.decode``."""
        from tfm_jax.data.tokenizers.bilingual import EOS, PAD

        torch, start = self.torch, time.perf_counter()
        found = [None] * len(self.sources)
        for first in range(0, len(self.order), batch):
            chosen = self.order[first : first + batch]
            lengths = torch.tensor([len(self.sources[i]) for i in chosen])
            source = torch.full((len(chosen), int(lengths.max())), PAD)
            for row, i in zip(source, chosen, strict=True):
                row[: len(self.sources[i])] = torch.from_numpy(self.sources[i])
            tokens = self.generate(source, lengths + self.offset, beam)
            ends = (tokens == EOS).int().argmax(1).tolist()
            for i, row, end in zip(chosen, tokens.tolist(), ends, strict=True):
                found[i] = row[: end + 1]
        return _result(time.perf_counter() - start, found)


class Marian(Torch):
    """``MarianMTModel.generate``."""

    def __init__(self, folder, sources, offset):
        from transformers import MarianMTModel

        super().__init__(MarianMTModel.from_pretrained(folder), sources, offset)

    def generate(self, source, limits, beam):
        """As of the base class; padding is written as EOS, too, if PAD is 0."""
        from tfm_jax.data.tokenizers.bilingual import EOS, PAD

        torch, most = self.torch, int(limits.max())
        limits = limits.repeat_interleave(beam)

        def end(tokens, scores):
            """EOS as the last token that the row's limit allows, as ours does."""
            last = limits == tokens.shape[1]  # the first token is BOS
            if last.any():
                scores = scores.masked_fill(last[:, None], -torch.inf)
                scores[last, EOS] = 0.0
            return scores

        with torch.inference_mode():
            out = self.model.generate(
                input_ids=source,
                attention_mask=(source != PAD).long(),
                num_beams=beam,
                do_sample=False,
                length_penalty=0.0 if beam > 1 else None,
                early_stopping=False,
                max_length=None,
                max_new_tokens=most,
                logits_processor=[end],
            )
        return out[:, 1:]


def _result(seconds, translations):
    tokens = sum(map(len, translations))
    return {"tokens": tokens, "seconds": seconds, "translations": translations}


def untrained(config):
    """(config of the model, parameters, tokenizer, test sentences)."""
    import jax

    from tfm_jax.data.prepared import prepare
    from tfm_jax.data.rows.pairs import KIND
    from tfm_jax.layers.layout import init_params
    from tfm_jax.objectives.translation import example
    from tfm_jax.settings.experiment import resolve

    experiment = resolve(config)
    data = prepare(KIND, experiment.data, experiment.tokenizer)
    experiment = experiment.complete(data.tokenizer)
    key = jax.random.key(experiment.seed)
    params = init_params(experiment.build_model(), key, example())
    return experiment.model, params, data.tokenizer, data.examples["test"].source


def _trained(config, workdir):
    """As ``untrained``, of a run."""
    from tfm_jax.data.sources.text_files import read_lines
    from tfm_jax.runs import saved

    run = saved.load(workdir)
    lines, _ = read_lines(config["data"]["test_files"][0], "--data", "error")
    lines = [saved.normalizer(run, "source").apply(line) for line in lines]
    return run.experiment.model, run.params, run.tokenizer, lines


def _halves(model, params):
    """The same function for positions with all sines before all cosines.

    The two sinusoid tables differ in the order of their columns, so everything that
    reads or writes vectors of the model's width takes the same permutation.
    """
    import jax

    from tfm_jax.layers.layout import abstract
    from tfm_jax.objectives.translation import example

    width = model.cfg.width
    order = np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])

    def permute(path, x, spec):
        is_norm = any("norm" in str(key) for key in path)
        axes = [0] if is_norm else [i for i, a in enumerate(spec) if a == "embed"]
        for axis in axes:
            x = x.take(order, axis=axis)
        return x

    return jax.tree_util.tree_map_with_path(
        permute, params, abstract(model, example()).specs
    )


def _leaves(params):
    import jax

    return jax.tree.leaves(params)


def start(arm, **arguments):
    """(facts, arm) for ``rounds.serve``."""
    made = {"tfm_jax": Ours, "marian": Marian}[arm](**arguments)
    return made.facts(), made


if __name__ == "__main__":
    serve(start)
