"""Trained translation models in a notebook."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.typing import ArrayLike

from tfm_jax.decode.search import TokenIds
from tfm_jax.interop import Imported
from tfm_jax.notebook.run import Run, listed
from tfm_jax.runs import pictures, saved
from tfm_jax.workloads.translation import translate


class TranslationRun(Run):
    """A model that translates."""

    __slots__ = ()

    def about(self) -> str:
        """The languages."""
        data = self.config.data
        return f"{data.source_language!r} to {data.target_language!r}"

    def translate(self, lines: Sequence[str], **settings: Any) -> list[str]:
        """The best translation of each line.

        Args:
            lines: plain text, one sentence each.
            settings: other values for fields of ``config.eval``: ``beam=4``.
        """
        lines = listed(lines, "translate", "lines")
        cfg = dataclasses.replace(self.config.eval, **settings)
        changed = self._replace(experiment=self.config._replace(eval=cfg))
        return saved.translate(changed, lines)

    def logits(self, source: ArrayLike, target: ArrayLike) -> jax.Array:
        """Teacher forcing: source [B, S] and target [B, T] ids -> [B, T, V] float32.

        Source rows end in EOS and are padded behind it; target rows begin with BOS.
        """
        imported = Imported(
            self.config.model, self.model, self.params, TokenIds(), force_eos=False
        )
        return imported.logits(source, target)

    def attention(self, source: str, target: str | None = None) -> Any:
        """Who looks at whom in every layer and head: ``pictures.AttentionMaps``.

        Args: target: what is predicted; by default the model's own translation.
        """
        source = saved.normalizer(self, "source").apply(source)
        parts = self.model, self.params, self.tokenizer
        if target is None:
            (target,) = translate(*parts, [source], self.config.eval)
        else:
            target = saved.normalizer(self, "target").apply(target)
        return pictures.attention_maps(*parts, source, target)
