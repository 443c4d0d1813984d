"""The discriminator says which words stood where the generator filled some in.

Source: Clark et al. 2020, arXiv:2003.10555, section 3.4, "Replace MLM" and "All-Tokens
MLM". Deviates: the paper does not print what the two losses are weighed with.
"""

import jax
import jax.numpy as jnp

from tfm_jax.objectives.joint import Joint, every_token


def _cross_entropy(found):
    """Of ``models.electra.Restored``: of words, or of words that may be copied.

    A token is copied with probability c = sigmoid(copy), else drawn from the softmax
    p: the word that stood there has c [it stands there still] + (1 - c) p.
    """
    log_p = jax.nn.log_softmax(found.restored)
    drawn = jnp.take_along_axis(log_p, found.original[..., None], -1)[..., 0]
    if found.copy is None:
        return -drawn
    copied = jnp.where(found.same, jax.nn.log_sigmoid(found.copy), -jnp.inf)
    return -jnp.logaddexp(copied, jax.nn.log_sigmoid(-found.copy) + drawn)


def _sums(found, judged):
    nll = jnp.sum(_cross_entropy(found) * judged)
    return {"restored_nll": nll, "restored": jnp.sum(judged)}


def _means(totals):
    """``restored_nll``, nats per word that is asked of the discriminator."""
    restored = max(float(totals["restored"]), 1.0)
    return {"restored_nll": float(totals["restored_nll"]) / restored}


ASKED = Joint(lambda batch: batch.weights, _cross_entropy, _sums, _means)
ALL = ASKED._replace(judged=every_token)
