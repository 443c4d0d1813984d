"""Causal language modelling of running text."""

from collections.abc import Callable
from typing import Any

from tfm_jax.data.rows import causal
from tfm_jax.decode.sampling import Sampling, generate
from tfm_jax.mesh import fetch
from tfm_jax.objectives import causal_lm
from tfm_jax.workloads.evaluator import Evaluator
from tfm_jax.workloads.workload import Workload

PROMPT, SAMPLE = 16, 48  # tokens, at most


class CausalEvaluator(Evaluator):
    """Draws samples besides."""

    def during(
        self, params: dict[str, Any], *, poll: Callable[[], object] = lambda: None
    ) -> tuple[dict, dict]:
        """(scores of the validation text, number -> "beginning -> continuation").

        Samples continue the first rows, with the same draws whenever it is called.
        """
        scores, count = self.loss(params, "valid", poll=poll), self.cfg.samples
        samples = self._samples(params, self.data.valid[0], count) if scores else {}
        return scores, samples

    def _samples(self, params, rows, count):
        if not count:
            return {}
        tokenizer, model = self.data.tokenizer, self.experiment.model
        longest, length = model.longest, rows.tokens.shape[1]
        size = min(PROMPT, max(length // 2, 1))
        most = min(SAMPLE, longest - size + 1) if longest else SAMPLE
        real = (rows.segments[:count][:, :size] > 0).sum(axis=1)
        prompts = [row[:n] for row, n in zip(rows.tokens[:count], real, strict=True)]
        separator = self.experiment.data.separator
        eos = tokenizer.ids_of(separator)[0] if separator else -1
        forbid = tokenizer.unspelled(model.vocab)
        with self.unrolled(params) as parts:
            how = Sampling(most, eos=eos, forbid=forbid)
            drawn = fetch(generate(*parts, prompts, how))
        tokens, lengths = drawn.tokens, drawn.lengths
        written = [x[0, : n[0]] for x, n in zip(tokens, lengths, strict=True)]
        pairs = zip(*map(tokenizer.decode, (prompts, written)), strict=True)
        return {str(n): f"{prompt} -> {text}" for n, (prompt, text) in enumerate(pairs)}


# Brown et al. 2020, arXiv:2005.14165, appendix B
DEFAULTS: dict[str, dict[str, Any]] = {
    "optim": dict(
        optimizer="adamw",
        schedule="cosine",
        final_lr_fraction=0.1,
        b2=0.95,
        eps=1e-8,
        weight_decay=0.1,
        decay="kernels_and_tables",
        clip_norm=1.0,
    ),
    "train": dict(label_smoothing=0.0),
}

WORKLOAD = Workload(
    name="causal_lm",
    objective=causal_lm,
    data=causal.KIND,
    evaluator=CausalEvaluator,
    defaults=DEFAULTS,
    samples_by=("prefill", "step"),
)
