"""Generation arms, each in a process of its own: with the cache, and without."""

import time

import numpy as np

from benchmarks.rounds import serve


class Generating:
    """Continues the same prompts whenever it is asked."""

    def __init__(self, model, params, prompts, tokens, cached):
        from tfm_jax.decode.sampling import Sampling

        self.parts, self.prompts, self.cached = (model, params), prompts, cached
        self.how = Sampling(tokens, temperature=0.0)

    def generate(self, whole=False):
        """Tokens drawn and seconds; the tokens themselves if ``whole``."""
        from tfm_jax.decode.sampling import generate

        start = time.perf_counter()
        found = generate(*self.parts, self.prompts, self.how, cached=self.cached)
        lengths = np.asarray(found.lengths)
        seconds = time.perf_counter() - start
        result = {"tokens": int(lengths.sum()), "seconds": seconds}
        if whole:
            result["written"] = np.asarray(found.tokens).tolist()
        return result


def start(cached, workdir, prompts, prompt, tokens, **sizes):
    """(facts, arm) for ``rounds.serve``."""
    import jax

    from tfm_jax.runs.process import runtime

    runtime.prepare(1)
    if workdir:
        from tfm_jax.runs import saved

        run = saved.load(workdir)
        model, params = run.model, run.params
    else:
        model, params = random(prompt + tokens, **sizes)
    rng = np.random.default_rng(0)
    texts = list(rng.integers(1, model.cfg.vocab, (prompts, prompt)))
    leaves = jax.tree.leaves(params)
    facts = {"parameters": sum(x.size for x in leaves)}
    return facts, Generating(model, params, texts, tokens, cached)


def random(length, depth, width, heads, vocab):
    """A GPT that has learnt nothing, but is sure of what it says."""
    import jax

    from tfm_jax.data.batch import TextBatch
    from tfm_jax.layers.layout import init_params
    from tfm_jax.models import gpt

    cfg = gpt.Config(
        depth=depth, width=width, heads=heads, ffn_width=4 * width, vocab=vocab,
        max_length=length,
    )  # fmt: skip
    model, ones = gpt.Gpt(cfg), np.ones((1, 2), np.int32)
    params = init_params(model, jax.random.key(0), TextBatch(ones, ones))
    return model, jax.tree.map(lambda x: 4 * x, params)


if __name__ == "__main__":
    serve(start)
