"""Image-text contrast, image-text matching and image-grounded text generation.

Source: Li et al. 2023, arXiv:2301.12597, section 3.2, as released (LAVIS). Deviates:
rows of equal images or of equal texts are positives of each other, found by content;
the released code goes by the number of the image.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tfm_jax.data.batch import ImageTextBatch, TextBatch
from tfm_jax.objectives.visual_lm import example
from tfm_jax.ops.dropout import mix, row_keys
from tfm_jax.ops.losses import token_cross_entropy
from tfm_jax.ops.masks import to_bias

# objective -> names of its loss and of its accuracy
SCORES = {
    "contrastive": ("contrastive_loss", "contrastive_accuracy"),
    "matching": ("matching_loss", "matching_accuracy"),
    "generation": ("nll", "accuracy"),
}
OBJECTIVES = tuple(SCORES)
# methods of a model that learns this, see `models.qformer`
METHODS = ("image_states", "contrast", "match", "lm_logits")
# logits [B, B] of pairs -> those by which a row's negative is drawn
NEGATIVES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "hard": lambda logits: logits,  # Li et al. 2021, arXiv:2107.07651, section 3.2
    "random": jnp.zeros_like,
}

Sums = dict[str, jax.Array]  # ``loss`` [nats], ``weight``, ``correct``


def similarity(images: jax.Array, texts: jax.Array) -> jax.Array:
    """[B, S] of images [B, Q, E] and texts [S, E]: the largest over the Q vectors."""
    return jnp.max(jnp.einsum("bqe,se->bqs", images, texts), axis=1)


def contrast(
    logits: jax.Array, real: jax.Array, same: jax.Array, smoothing: float
) -> Sums:
    """Softmax over the texts of a batch for each image, and over its images; nats.

    Args:
        logits: [B, B] of image and text. real: [B] bool, the rows that count.
        same: [B, B] bool, the positives of a row, which share its target equally.
        smoothing: how much of the target is spread over all real rows.
    """
    bias = to_bias(real | ~jnp.any(real))  # of none the gradient is 0, not NaN
    share = same / jnp.maximum(jnp.sum(same, axis=1, keepdims=True), 1)
    spread = real / jnp.maximum(jnp.sum(real), 1)
    target = (1.0 - smoothing) * share + smoothing * spread
    losses, correct = jnp.float32(0), jnp.float32(0)
    for each in (logits, logits.T):
        total = jax.nn.logsumexp(each + bias, axis=1)
        losses += (total - jnp.sum(target * each, axis=1)) / 2
        best = jnp.argmax(each + bias, axis=1)
        correct += jnp.take_along_axis(same, best[:, None], axis=1)[:, 0] / 2
    return {
        "loss": jnp.sum(jnp.where(real, losses, 0.0)),
        "weight": jnp.sum(real, dtype=jnp.float32),
        "correct": jnp.sum(jnp.where(real, correct, 0.0)),
    }


def draw_negatives(
    logits: jax.Array, allowed: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(an image [B] for each text, a text [B] for each image), by softmax.

    Args: logits, allowed: [B, B] of image and text; a row without any gets any.
    """
    bias, count = to_bias(allowed), len(logits)

    def drawn(key, logits):
        keys = row_keys(key, count)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, (count,)))(keys)
        return jnp.argmax(logits + noise, axis=1)

    of_texts, of_images = jax.random.split(key)
    logits = logits + bias
    return drawn(of_texts, logits.T), drawn(of_images, logits)


@dataclasses.dataclass(frozen=True)
class Objective:
    """See `objectives`; the sum of some of OBJECTIVES.

    Each is a mean: over pairs and both directions, over pairs and negatives, over
    tokens. Negatives are of the whole batch, whatever number of devices it lies on.
    """

    objectives: tuple[str, ...] = OBJECTIVES
    negatives: str = "hard"  # a key of NEGATIVES

    example = staticmethod(example)

    def loss_sum(
        self,
        apply: Callable,
        params: Mapping[str, Any],
        batch: ImageTextBatch,
        *,
        rng: jax.Array | None = None,
        smoothing: float = 0.0,
        train: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """(loss in nats, multiplied by the number of pairs; that number).

        Args:
            apply: ``apply(params, ..., rng=..., train=..., method=...)`` of a model
                with METHODS.
            batch: ``ImageTextBatch`` of one image a row; rows without an image, or
                without weights, are no pairs, and no negatives.
            rng: JAX key, of negatives and dropout; None: 0.
            smoothing: of the targets of contrast and of generation.
        """
        terms = self._sums(apply, params, batch, rng, smoothing, train)
        count = terms.pop("pairs")
        means = (t["loss"] / jnp.maximum(t["weight"], 1.0) for t in terms.values())
        return sum(means) * count, count

    def eval_sums(
        self, apply: Callable, params: Mapping[str, Any], batch: ImageTextBatch
    ) -> dict[str, Any]:
        """``Sums`` of each objective; of generation also ``exact``, whole texts."""
        return self._sums(apply, params, batch, None, 0.0, train=False)

    def scores(self, totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
        """What is reported of ``pairs``; ``retrieval_loss`` is the sum of all losses.

        Those of ``contrastive`` and ``matching`` depend on how many pairs a batch has.
        ``exact``: texts whose every token is the likeliest one after those before it.
        """
        del report
        pairs = max(float(totals["pairs"]), 1.0)
        scores: dict[str, float] = {}
        for objective in self.objectives:
            sums, (loss, right) = totals[objective], SCORES[objective]
            weight = max(float(sums["weight"]), 1.0)
            scores[loss] = float(sums["loss"]) / weight
            scores[right] = float(sums["correct"]) / weight
        total = sum(scores[SCORES[objective][0]] for objective in self.objectives)
        if "generation" in self.objectives:
            scores["exact"] = float(totals["generation"]["exact"]) / pairs
        return {"retrieval_loss": total, **scores, "pairs": int(pairs)}

    def _sums(self, apply, params, batch, rng, smoothing, train):
        """Objective -> its ``Sums``; and ``pairs``, how many there are."""
        rng = jax.random.key(0) if rng is None else rng

        def ask(method, *inputs):
            key = jax.random.fold_in(rng, METHODS.index(method)) if train else None
            return apply(params, *inputs, rng=key, train=train, method=method)

        text = TextBatch(jnp.asarray(batch.tokens), jnp.asarray(batch.segments))
        weights = jnp.asarray(batch.weights) * (batch.image_counts > 0)[:, None]
        real = jnp.sum(weights, axis=-1) > 0
        both = real & real[:, None]
        same = both & _same(batch)
        states = ask("image_states", batch.images)
        sums: dict[str, Any] = {"pairs": jnp.sum(real, dtype=jnp.float32)}
        if {"contrastive", "matching"} & {*self.objectives}:
            vectors = ask("contrast", states, text)
            logits = similarity(vectors.images, vectors.texts) / vectors.temperature
        if "contrastive" in self.objectives:
            sums["contrastive"] = contrast(logits, real, same, smoothing)
        if "matching" in self.objectives:
            difficulty = NEGATIVES[self.negatives](jax.lax.stop_gradient(logits))
            key = jax.random.fold_in(rng, len(METHODS))
            images, texts = draw_negatives(difficulty, both & ~same, key)
            own, has = jnp.arange(len(real)), jnp.any(both & ~same, axis=1)
            # pairs, other images with their texts, their images with other texts
            of_image = jnp.concatenate([own, images, own])
            of_text = jnp.concatenate([own, own, texts])
            asked = TextBatch(text.tokens[of_text], text.segments[of_text])
            sums["matching"] = _class_sums(
                ask("match", states[of_image], asked),
                (jnp.arange(3 * len(real)) < len(real)).astype(jnp.int32),
                jnp.concatenate([real, has, has]).astype(jnp.float32),
            )
        if "generation" in self.objectives:
            lm_logits = ask("lm_logits", states, text)
            labels = jnp.asarray(batch.labels)
            sums["generation"] = _class_sums(lm_logits, labels, weights, smoothing)
            right = (jnp.argmax(lm_logits, -1) == labels) | (weights == 0)
            sums["generation"]["exact"] = jnp.sum(jnp.all(right, axis=1) & real)
        return sums


def _class_sums(logits, labels, weights, smoothing=0.0):
    loss, weight = token_cross_entropy(logits, labels, weights, smoothing)
    correct = jnp.sum((jnp.argmax(logits, -1) == labels) * weights)
    return {"loss": loss, "weight": weight, "correct": correct}


def _same(batch):
    """[B, B] bool: whether two rows have equal texts or equal images."""
    text = jnp.where(jnp.asarray(batch.segments) > 0, batch.tokens + 1, 0)
    texts, images = _digest(text), _digest(batch.images)
    return (texts == texts[:, None]) | (images == images[:, None])


def _digest(rows):
    """Hash [B] of each row of integers [B, ...]."""
    flat = jnp.asarray(rows).reshape(len(rows), -1).astype(jnp.uint32)
    places = mix(jnp.arange(1, flat.shape[1] + 1, dtype=jnp.uint32))
    return jnp.sum(mix(flat ^ places), axis=1, dtype=jnp.uint32)
