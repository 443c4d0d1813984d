"""Similarity of images and texts by a trained model."""

from collections.abc import Sequence

import numpy as np

from tfm_jax.config import ConfigError
from tfm_jax.runs import saved
from tfm_jax.workloads import retrieval


def scores(
    run: saved.Saved,
    images: np.ndarray,
    texts: Sequence[str],
    *,
    rerank: int = 0,
    of_each: tuple[str, ...] = retrieval.RETRIEVED,
) -> np.ndarray:
    """Cosine [images, texts] of each image and each text, at least one of both.

    Args:
        images: of ``classified.read``.
        rerank: so many of the most similar are candidates, whose ``match_scores`` are
            returned, NaN for the others. 0: cosines.
        of_each: whether candidates are texts of each image, "text", images of each
            text, "image", or both.
    Raises: ConfigError for what the run has not learnt; DataError for a text that is
        longer than its rows; ValueError for ``rerank`` below 0.
    """
    objectives = run.experiment.data.objectives
    for objective in ("contrastive", *["matching"] * bool(rerank)):
        if objective not in objectives:
            raise ConfigError(
                f"the run learnt data.objectives={objectives}; "
                f"{'rerank' if rerank else 'retrieval'} takes {objective!r}"
            )
    if rerank < 0:
        raise ValueError(f"rerank={rerank} must be 0 or more")
    rows = retrieval.text_rows(run.experiment.data, run.tokenizer, texts)
    parts = run.model, run.params, images, rows
    cosines = retrieval.similarities(*parts)
    if not rerank:
        return cosines
    chosen = dict(
        zip(retrieval.RETRIEVED, retrieval.candidates(cosines, rerank), strict=True)
    )
    some = np.any([chosen[name] for name in of_each], axis=0)
    return retrieval.match_scores(*parts, cosines, some)
