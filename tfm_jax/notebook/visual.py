"""Runs in a notebook that caption images and answer questions about them."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from flax.traverse_util import flatten_dict

from tfm_jax.notebook.images import ImagesRun, listed_images
from tfm_jax.runs import pictures
from tfm_jax.runs.images import answered, cross_attention
from tfm_jax.runs.images.cross_attention import CrossAttention
from tfm_jax.runs.log import counted

_GATE = re.compile(r"lm/stack/layer_(\d+)/gated_(.*)_residual/alpha")


class CaptionRun(ImagesRun):
    """A model that writes captions."""

    __slots__ = ()

    def caption(self, images: Any) -> list[str]:
        """A caption of each image.

        Args: images: as of ``ClassifyImagesRun.classify``.
        Raises: ConfigError if the run has not learnt to write.
        """
        images = listed_images(images, "caption")
        with counted(len(images)) as done:
            asked = [[(image, "", "")] for image in images]
            return answered.answers(self, asked, on_batch=done)


class VisualRun(CaptionRun):
    """A model that writes captions, and answers questions about images."""

    __slots__ = ()

    def ask(
        self,
        image: Any,
        question: str,
        examples: Iterable[tuple[Any, str, str]] = (),
    ) -> str:
        """The answer to a question about one image, behind some examples or none.

        Args:
            image: a path, an image of Pillow or an array [H, W] or [H, W, C] uint8.
            examples: (image, question, answer) each.
        Raises: DataError if they do not fit a row of the model.
        """
        (answer,) = answered.answers(self, [[*examples, (image, question, "")]])
        return answer

    def attention(
        self, image: Any, question: str = "", answer: str | None = None
    ) -> CrossAttention:
        """Attention of the gated layers to one image, for each word of an answer.

        Args: image: as of ``ask``. question: ""; for a caption. answer: None: the one
            that the model writes.
        Raises: DataError if they do not fit a row of the model.
        """
        overlong = "error"
        if answer is None:  # which may fill the row, so that no end fits
            answer, overlong = self.ask(image, question), "keep"
        asked = [[(image, question, answer)]]
        rows = answered.rows_of(self, asked, overlong=overlong)
        words = self.tokenizer.tokens(rows.labels[rows.weights > 0])
        return cross_attention.of_words(self.model, self.params, rows, words)

    @property
    def gates(self) -> pd.DataFrame:
        """``tanh(alpha)`` of all gates: a row a gated layer, a column a part of it.

        Raises: ValueError for a model without gated layers.
        """
        layers: dict[int, dict[str, float]] = {}
        for path, alpha in flatten_dict(self.params, sep="/").items():
            if gate := _GATE.fullmatch(path):
                layers.setdefault(int(gate[1]), {})[gate[2]] = float(np.tanh(alpha))
        if not layers:
            raise ValueError(f"model_name={self.config.model_name!r} has no gates")
        gates = pd.DataFrame.from_dict(layers, orient="index").sort_index()
        return gates.rename_axis("layer")

    def plot_gates(self) -> Any:
        """``gates`` by layer, a matplotlib figure."""
        figure, gates = pictures.canvas((6.4, 3.2)), self.gates
        axis = figure.subplots()
        for name in gates:
            axis.plot(gates.index, gates[name], "o-", label=name)
        axis.axhline(0.0, color="black", lw=0.8)
        axis.set(xlabel="layer of the language model", ylabel="tanh(alpha)")
        axis.set_xticks(list(gates.index))
        axis.legend(frameon=False)
        return figure
