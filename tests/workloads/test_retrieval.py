"""Images and texts: what is evaluated, and what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.models.tiny_pairs import pairs, tiny
from tests.traced import traced
from tfm_jax.config import ConfigError
from tfm_jax.data.batch import TextBatch
from tfm_jax.data.prepared import Prepared
from tfm_jax.models import qformer
from tfm_jax.objectives import retrieval
from tfm_jax.objectives.retrieval import NEGATIVES, OBJECTIVES, Objective
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.workloads import retrieval as workload
from tfm_jax.workloads.evaluator import apply
from tfm_jax.workloads.retrieval import (
    WORKLOAD,
    RetrievalEvaluator,
    candidates,
    match_scores,
    ranks,
    similarities,
    text_rows,
)


def get_config(**sections):
    sizes = dict(model=qformer.SIZES["tiny"], train=dict(batch_tokens=640))
    return resolve(configure("qformer", "retrieval", sizes, **sections))


def test_objectives_and_negatives_change_the_loss():
    """data.objectives and data.negatives, and nothing else of a batch."""
    model, params = tiny()
    batch, rng = pairs(), jax.random.key(0)

    def program(objective):
        run = functools.partial(
            objective.loss_sum, functools.partial(apply, model), train=True
        )
        return traced((lambda *x: run(*x, rng=rng), (params, batch)))

    some = [Objective(OBJECTIVES[:n]) for n in (1, 2, 3)]
    some += [Objective(negatives="random")]
    assert len({*map(program, some)}) == 4 and len(NEGATIVES) == 2
    built = get_config(data=dict(objectives=OBJECTIVES[:2], negatives="random"))
    assert built.objective == Objective(OBJECTIVES[:2], "random")


REFUSED = {
    "an objective that there is not": (
        dict(data=dict(objectives=("contrast",))),
        "data.objectives='contrast'; choose from",
    ),
    "none": (dict(data=dict(objectives=())), "must name some of"),
    "one twice": (dict(data=dict(objectives=("generation",) * 2)), "each once"),
    "negatives by what nothing learns": (
        dict(data=dict(objectives=("matching",))),
        "data.negatives='hard' goes by",
    ),
    "generation without its head": (
        dict(model=dict(head="retrieval")),
        "'generation' needs model.head='pretraining', not 'retrieval'",
    ),
    "a text that is written without an end": (dict(data=dict(end="")), 'data.end=""'),
    "a text without a first token": (dict(data=dict(begin="")), 'data.begin=""'),
    "negatives of a micro-batch": (
        dict(train=dict(accumulate_steps=2)),
        "train.accumulate_steps=2 must be 1",
    ),
    "negatives of one device": (
        dict(mesh=dict(gradient_allreduce="fused")),
        "mesh.gradient_allreduce='fused' must be 'per_array'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case):
    sections, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        get_config(**sections)


@pytest.mark.parametrize(
    "rows, count, shots, message",
    [
        (
            *((2, 32, 32, 3), 2, 1),
            "up to 2 images, model_name='qformer' reads one: set data.shots=0",
        ),
        ((2, 32, 32, 3), 2, 0, "up to 2 images, .* reads one: list one for each"),
        ((1, 32, 32, 3), 0, 0, "no row of the train split has an image and a text"),
        (
            *((1, 16, 32, 3), 1, 0),
            r"shape \(16, 32, 3\), model.vision.image_size=\(32,\)",
        ),
    ],
)
def test_images_of_another_number_or_size_are_refused(rows, count, shots, message):
    images, counts = np.zeros((4, *rows), np.uint8), np.full(4, count, np.int32)
    batch = retrieval.example()._replace(images=images, image_counts=counts)
    data = Prepared(None, [batch], [], [], {}, {}, "", {}, None)
    with pytest.raises(ConfigError, match=message):
        WORKLOAD.fits(get_config(data=dict(shots=shots)), data)


def test_ranks_count_all_that_is_as_similar_as_the_right_one():
    table = np.random.default_rng(0).normal(size=(2, 6, 2)).astype(np.float32)
    table[1, 5] = table[1, 4]  # two texts are alike
    scores = table[0] @ table[1].T
    of_texts, of_images = ranks(scores), ranks(scores.T)
    for row in range(6):
        better = (scores[row] > scores[row, row]).sum() + (row > 3)
        assert of_texts[row] == better
        assert of_images[row] == (scores[:, row] > scores[row, row]).sum()


@pytest.fixture(scope="module")
def compared():
    """(model, params, pool, cosines, logits [N, N] of a match), pair after pair."""
    model, params = tiny()
    pool = pairs((5, 3, 4, 2, 5, 6))
    text = TextBatch(pool.tokens, pool.segments)

    @jax.jit
    def of(image, row):
        batch = pool._replace(
            images=image[None], tokens=row.tokens[None], segments=row.segments[None]
        )
        outputs = model.apply({"params": params}, batch, train=False)
        cosine = retrieval.similarity(outputs.vectors.images, outputs.vectors.texts)
        return cosine[0, 0], outputs.match[0, 1]

    rows = [TextBatch(*x) for x in zip(text.tokens, text.segments, strict=True)]
    each = np.array([[of(image, row) for row in rows] for image in pool.images])
    return model, params, pool, each[..., 0], each[..., 1]


def test_the_most_similar_are_ranked_again_by_matching_and_similarity(compared):
    """Li et al. 2023, section 4.4, by hand: what is no candidate comes last."""
    model, params, pool, cosines, logits = compared
    text = TextBatch(pool.tokens, pool.segments)
    count = 3
    of_images, of_texts = candidates(cosines, count)
    recalls = {}
    for name, scores, wanted, chosen in [
        ("text", cosines, logits, of_images),
        ("image", cosines.T, logits.T, of_texts.T),
    ]:
        right = []
        for row in range(len(pool.tokens)):
            best = sorted(range(6), key=lambda n, row=row: -scores[row][n])[:count]
            assert [*np.flatnonzero(chosen[row])] == sorted(best)
            again = sorted(best, key=lambda n, row=row: -(scores + wanted)[row][n])
            right.append(row == again[0])
        recalls[f"reranked_{name}_recall_1"] = np.mean(right)
    reranked = match_scores(
        *(model, params, pool.images[:, 0], text, cosines),
        np.logical_or(of_images, of_texts),
    )
    np.testing.assert_array_equal(np.isnan(reranked), ~(of_images | of_texts))
    there = ~np.isnan(reranked)
    np.testing.assert_allclose(reranked[there], (cosines + logits)[there], atol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "CANDIDATES", count)
        scores = workload.recalls(model, params, pool, matches=True)
    assert recalls.items() <= scores.items()
    plain = np.mean(np.argmax(cosines, axis=1) == np.arange(6))
    assert scores["text_recall_1"] == plain
    few = workload.recalls(model, params, pool, matches=False)
    assert few.keys() == {name for name in scores if "reranked" not in name}


def test_a_pool_has_no_text_twice_and_none_without_an_image():
    batch = pairs((5, 6, 4, 3, 2), empty=1)
    tokens = batch.tokens.copy()
    tokens[2] = tokens[0]
    counts = np.array([1, 0, 1, 1, 1, 1], np.int32)
    batch = batch._replace(tokens=tokens, image_counts=counts)
    evaluator = object.__new__(RetrievalEvaluator)
    evaluator.cfg = dataclasses.replace(get_config().eval, samples=3)
    evaluator.batches = lambda split: [batch, batch]
    pool = evaluator.pool("valid")
    np.testing.assert_array_equal(pool.tokens, tokens[[0, 3, 4]])
    np.testing.assert_array_equal(pool.images, batch.images[[0, 3, 4]])


def test_similarities_of_any_images_and_texts_are_those_of_pairs():
    model, params = tiny()
    batch = pairs()
    text = TextBatch(batch.tokens, batch.segments)
    cosines = similarities(model, params, batch.images[:2, 0], text)
    apply = jax.jit(functools.partial(model.apply, train=False))
    outputs = apply({"params": params}, batch).vectors
    wanted = retrieval.similarity(outputs.images, outputs.texts)[:2]
    np.testing.assert_allclose(cosines, wanted, atol=1e-5)


def test_a_text_is_tokenised_as_that_of_a_pair():
    experiment = get_config(data=dict(scenes=dict(train=4, valid=4, test=0, size=32)))
    data = WORKLOAD.prepare(experiment)
    (rows,) = data.valid
    texts = [example.references[0] for example in data.examples["valid"]]
    text = text_rows(experiment.data, data.tokenizer, texts)
    np.testing.assert_array_equal(text.tokens, rows.tokens)
    np.testing.assert_array_equal(text.segments, rows.segments)
