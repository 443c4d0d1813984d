"""What is read from another library: a model that can be run, trained or ablated."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from tfm_jax.data.batch import ImageBatch, ImageTextBatch, PairBatch, TextBatch
from tfm_jax.decode import probing
from tfm_jax.decode.inputs import integers, like
from tfm_jax.decode.sampling import Samples, Sampling, generate
from tfm_jax.decode.search import TokenIds, decode
from tfm_jax.models import transformer
from tfm_jax.objectives.retrieval import similarity
from tfm_jax.runs.images.attention import ImageAttention, attention


class Imported(NamedTuple):
    """An encoder-decoder model of another library, of a source and a target.

    Attributes:
        config: of the model. model: Linen module. params: nested dict, float32.
        special: token ids for decoding.
        force_eos: whether the last token that a limit allows must be EOS.
        tokenizer: None; sentences are token ids that end in EOS.
    """

    config: transformer.Config
    model: transformer.Transformer
    params: dict
    special: TokenIds
    force_eos: bool
    tokenizer: None = None

    def logits(self, source: ArrayLike, target: ArrayLike) -> jax.Array:
        """Teacher forcing without dropout, every product in float32.

        Args:
            source: [B, S] ids, padding (``special.pad``) on the right only.
            target: [B, T] input ids of the decoder; all of them count, since the
                first one may be the padding token.
        Returns: [B, T, V] float32.
        Raises: ValueError for padding between tokens, for ids out of range and for
            arrays that do not belong together.
        """
        source = integers(source, "source", self.config.source_vocab)
        target = integers(target, "target", self.config.target_vocab)
        if len(source) != len(target):
            raise ValueError(f"source has {len(source)} rows, target {len(target)}")
        segments = (source != self.special.pad).astype(np.int32)
        if (np.diff(segments) > 0).any():
            raise ValueError(f"source has padding {self.special.pad} before a token")
        real = np.ones_like(target)
        batch = PairBatch(source, segments, None, target, target, real, None)
        with jax.default_matmul_precision("float32"):
            return _logits(self.model, self.params, batch)

    def decode(self, sources: Sequence[Any], **options: Any) -> list:
        """Greedy or beam search over source ids; see ``decode.search.decode``.

        Raises: ValueError for ids out of range.
        """
        for row, source in enumerate(sources):
            integers(source, f"source {row}", self.config.source_vocab, axes=1)
        decoding: dict[str, Any] = dict(special=self.special, force_eos=self.force_eos)
        return decode(self.model, self.params, sources, **decoding | options)


class ImportedText(NamedTuple):
    """A decoder-only or encoder-only model of another library.

    Attributes:
        config: of the model, with a ``vocab``. model: Linen module, which takes a
            ``TextBatch``. params: nested dict, float32.
        ids: token ids by the names that transformers has for them (``eos_token_id``).
        labels: names in the order of the outputs; () if the folder has none.
        tokenizer: None; texts are token ids.
    """

    config: Any
    model: nn.Module
    params: dict
    ids: dict[str, int]
    labels: tuple[str, ...] = ()
    tokenizer: None = None

    def logits(
        self,
        tokens: ArrayLike,
        lengths: ArrayLike | None = None,
        types: ArrayLike | None = None,
    ) -> Any:
        """What the model returns for rows of one text each; no dropout, float32.

        Args:
            tokens: [B, T] ids.
            lengths: [B] how many of them are real, 1 .. T; None means all.
            types: [B, T] 0 in sentence A, 1 in sentence B, for models that know them.
        Returns: [B, T, V] float32 for language models.
        Raises: ValueError for what is out of range or has another shape, and for types
            that the model does not know.
        """
        tokens = integers(tokens, "tokens", self.config.vocab)
        count, size = tokens.shape
        lengths = np.full(count, size) if lengths is None else lengths
        lengths = integers(lengths, "lengths", size + 1, least=1, axes=1)
        real = np.arange(size) < like(lengths, "lengths", (count,))[:, None]
        if types is not None:
            known = getattr(self.config, "types", 0)
            if not known:
                raise ValueError("types: this model knows none; leave them out")
            types = like(integers(types, "types", known), "types", tokens.shape)
        batch = TextBatch(tokens, real.astype(np.int32), types=types)
        with jax.default_matmul_precision("float32"):
            return _logits(self.model, self.params, batch)

    def embed(
        self,
        rows: Sequence[Any],
        *,
        pool: str = "mean",
        types: Sequence[Any] | None = None,
    ) -> np.ndarray:
        """A vector [B, D] float32 of each row of ids; see ``decode.probing.embed``.

        Args: rows: sequences of token ids. types: like ``rows``, or None.
        """
        vocab = self.config.vocab
        rows = [integers(row, f"row {n}", vocab, axes=1) for n, row in enumerate(rows)]
        return probing.embed(self.model, self.params, rows, pool=pool, types=types)


class ImportedDecoder(ImportedText):
    """A language model, which can continue texts too."""

    __slots__ = ()

    def generate(self, prompts: Sequence[Any], *, seed: int = 0, **how: Any) -> Samples:
        """Draws continuations; see ``decode.sampling.generate``.

        Args:
            prompts: list of sequences of token ids, each of at least one.
            how: fields of ``decode.sampling.Sampling``; EOS is the model's by default.
        Raises: ValueError for an empty prompt and for ids out of range.
        """
        for row, prompt in enumerate(prompts):
            if len(prompt):
                integers(prompt, f"prompt {row}", self.config.vocab, axes=1)
        settings = Sampling(**{"eos": self.ids.get("eos_token_id", -1)} | how)
        with jax.default_matmul_precision("float32"):
            return generate(self.model, self.params, prompts, settings, seed=seed)


class ImportedImages(NamedTuple):
    """An encoder of images of another library.

    Attributes:
        config: of the model. model: Linen module, which takes an ``ImageBatch``.
        params: nested dict, float32.
        labels: names in the order of the outputs; () if the folder has none.
        tokenizer: None.
        resizing: how transformers resizes images, if no run does; "": as runs do.
    """

    config: Any
    model: nn.Module
    params: dict
    labels: tuple[str, ...] = ()
    tokenizer: None = None
    resizing: str = ""

    def logits(self, images: ArrayLike) -> jax.Array:
        """What the model returns for images; no dropout, float32.

        Args: images: [B, height, width, C]; integers are pixels in 0 .. 255, floats
            have their mean and deviation already.
        Returns: [B, labels] float32 of a classifier.
        Raises: ValueError for another number of axes, and as the model does.
        """
        images = np.asarray(images)
        if images.ndim != 4:
            raise ValueError(
                f"images has shape {images.shape}, not [B, height, width, C]"
            )
        batch = ImageBatch(images, None, None)
        with jax.default_matmul_precision("float32"):
            return _logits(self.model, self.params, batch)

    def attention(self, image: ArrayLike) -> ImageAttention:
        """Weights of every layer and head for one image, and their rollout."""
        return attention(self.model, self.params, image)


class ImportedPairs(NamedTuple):
    """A model of pairs of an image and a text, of another library.

    Attributes:
        config: of the model, with a section ``text``. model: Linen module, which takes
            an ``ImageTextBatch``. params: nested dict, float32.
        ids: token ids by the names that transformers has for them.
        labels: (). tokenizer: None; texts are token ids.
        resizing: see ``ImportedImages``.
    """

    config: Any
    model: nn.Module
    params: dict
    ids: dict[str, int]
    labels: tuple[str, ...] = ()
    tokenizer: None = None
    resizing: str = ""

    def scores(
        self, images: ArrayLike, tokens: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """How well images and texts go together; no dropout, float32.

        Args: images: [B, height, width, C], see ``ImportedImages``. tokens: [B, T].
            lengths: [B] how many of them are real, 1 .. T; None means all.
        Returns: (cosines [B, B] of image and text, logits [B, 2] of "no" and "yes" for
            image and text of one row).
        Raises: ValueError for what is out of range or has another shape.
        """
        images = np.asarray(images)
        if images.ndim != 4:
            raise ValueError(
                f"images has shape {images.shape}, not [B, height, width, C]"
            )
        tokens = integers(tokens, "tokens", self.config.text.vocab)
        count, size = tokens.shape
        if len(images) != count:
            raise ValueError(f"images has {len(images)} rows, tokens {count}")
        lengths = np.full(count, size) if lengths is None else lengths
        lengths = integers(lengths, "lengths", size + 1, least=1, axes=1)
        real = np.arange(size) < like(lengths, "lengths", (count,))[:, None]
        segments, one = real.astype(np.int32), np.ones(count, np.int32)
        batch = ImageTextBatch(
            tokens, segments, None, None, tokens, real, images[:, None], one, segments
        )
        with jax.default_matmul_precision("float32"):
            outputs = _logits(self.model, self.params, batch)
        vectors = outputs.vectors
        return similarity(vectors.images, vectors.texts), outputs.match


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, params, batch):
    return model.apply({"params": params}, batch, train=False)
