"""Replaced-token detection: the discriminator finds what the generator filled in.

Source: Clark et al. 2020, arXiv:2003.10555, section 2. Deviates: no.
"""

import jax
import jax.numpy as jnp
import optax

from tfm_jax.objectives.joint import Joint, every_token


def _asked(batch):
    rows = jnp.arange(len(batch.tokens))[:, None]
    length = batch.tokens.shape[1]
    columns = jnp.where(batch.weights > 0, batch.target_positions, length)
    return jnp.zeros(batch.tokens.shape).at[rows, columns].set(1.0, mode="drop")


def _cross_entropy(found):
    """[B, T] of ``models.electra.Sampled``."""
    labels = jax.lax.stop_gradient(found.replaced).astype(jnp.float32)
    return optax.losses.sigmoid_binary_cross_entropy(found.scores, labels)


def _sums(found, judged):
    said = found.scores > 0
    return {
        "judged_nll": jnp.sum(_cross_entropy(found) * judged),
        "judged_right": jnp.sum((said == found.replaced) * judged),
        "judged": jnp.sum(judged),
        "replaced": jnp.sum(found.replaced * judged),
        "said": jnp.sum(said * judged),
        "found": jnp.sum((said & found.replaced) * judged),
    }


def _means(totals):
    """``judged_nll`` (nats per token), ``judged_accuracy``, ``precision``, ``recall``.

    The last two are of the tokens it calls replaced; ``replaced`` is their true share.
    """
    judged = max(float(totals["judged"]), 1.0)
    found = float(totals["found"])
    return {
        "judged_nll": float(totals["judged_nll"]) / judged,
        "judged_accuracy": float(totals["judged_right"]) / judged,
        "precision": found / max(float(totals["said"]), 1.0),
        "recall": found / max(float(totals["replaced"]), 1.0),
        "replaced": float(totals["replaced"]) / judged,
    }


ALL = Joint(every_token, _cross_entropy, _sums, _means)
# the generator's prediction targets alone: "ELECTRA 15 %"
ASKED = ALL._replace(judged=_asked)
