import functools

import jax
import numpy as np
import pytest

from tests.decode.toys import (
    BOS,
    EOS,
    PAD,
    as_tuples,
    every_sequence,
    log_probs,
    make_step,
    penalty,
    plain_beam_search,
    score,
    start,
    table,
)
from tfm_jax.decode.beam import beam_search
from tfm_jax.decode.greedy import greedy

# One shape for all tests that can: few programs to compile.
BATCH, LENGTH, VOCAB, BEAM = 24, 8, 7, 3
LIMITS = np.arange(BATCH) % LENGTH + 1
IDS = dict(bos=BOS, eos=EOS, pad=PAD)
FORBID = (PAD, BOS)


def sentences(seed):
    return table(seed, BATCH, LENGTH, VOCAB)


@functools.partial(jax.jit, static_argnames=("beam", "force_eos", "returned"))
def run(logits, limits, alpha, *, beam, force_eos=False, returned=None):
    """Greedy for ``beam=0``."""
    batch, length = logits.shape[:2]
    shared = dict(IDS, batch=batch, max_length=length, limits=limits, forbid=FORBID)
    shared["force_eos"] = force_eos
    step = make_step(logits)
    if beam == 0:
        return greedy(step, start(batch, 1), **shared)
    return beam_search(
        step,
        start(batch, beam),
        beam=beam,
        length_penalty=alpha,
        returned=returned,
        **shared,
    )


def assert_same(found, expected):
    assert [tokens for _, tokens in found] == [tokens for _, tokens in expected]
    np.testing.assert_allclose(
        [s for s, _ in found], [s for s, _ in expected], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.6, 2.0])
def test_a_beam_that_holds_everything_finds_the_best_sequences_of_all(alpha):
    logits, limits = table(0, batch=2, length=4, vocab=5), np.array([4, 3])
    found = run(logits, limits, alpha, beam=32, returned=12)
    for row, limit in enumerate(limits):
        best = every_sequence(log_probs(logits[row]), limit, alpha, FORBID)[:12]
        assert_same(as_tuples(found, row), best)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.6, 2.0])
@pytest.mark.parametrize("returned", [1, BEAM])
def test_the_early_exit_changes_nothing(alpha, returned):
    logits = sentences(1)
    # In half of them it is likely to end at once, and whoever does not knows how to go
    # on for long: the later hypothesis wins if alpha is high, from far behind.
    logits[::2, 0] /= 8.0
    logits[::2, 0, :, :, EOS] += 2.0
    logits[::2, 1:] *= 4.0
    logits[::2, 1:-1, :, :, EOS] -= 20.0
    # In a quarter a hypothesis ends at the second token and, if long ones are punished,
    # wins just by not being any longer.
    logits[1::4, 0] /= 8.0
    logits[1::4, 0, :, :, EOS], logits[1::4, 0, :, :, EOS + 1] = 0.7, 1.0
    logits[1::4, 1, :, :, EOS] += 20.0
    found = run(logits, LIMITS, alpha, beam=BEAM, returned=returned)
    for row, limit in enumerate(LIMITS):
        given = log_probs(logits[row])
        expected = plain_beam_search(given, BEAM, limit, alpha, FORBID)
        assert_same(as_tuples(found, row), expected[:returned])


@pytest.mark.parametrize("force_eos", [False, True])
def test_greedy_is_a_beam_of_one(force_eos):
    logits = sentences(2)
    found = run(logits, LIMITS, 0.0, beam=0, force_eos=force_eos)
    expected = run(logits, LIMITS, 0.0, beam=1, force_eos=force_eos)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def test_greedy_takes_the_likeliest_allowed_token_everywhere():
    logits = sentences(3)
    found = run(logits, LIMITS, 0.0, beam=0)
    for row, limit in enumerate(LIMITS):
        [(total, tokens)] = as_tuples(found, row)
        given = log_probs(logits[row])
        assert total == pytest.approx(score(given, tokens), rel=1e-5)
        assert tokens[-1] == EOS or len(tokens) == limit
        given[..., FORBID] = -np.inf
        history = [BOS, BOS, *tokens]
        for t, token in enumerate(tokens):
            assert token == given[t, history[t], history[t + 1]].argmax()


@pytest.mark.parametrize("beam", [0, 1, BEAM])
@pytest.mark.parametrize("force_eos", [False, True])
def test_hypotheses_are_well_formed_and_score_their_own_tokens(beam, force_eos):
    logits, alpha = sentences(4), 0.6 if beam else 0.0
    found = run(logits, LIMITS, alpha, beam=beam, force_eos=force_eos)
    assert found.tokens.shape == (BATCH, max(beam, 1), LENGTH)
    assert found.tokens.dtype == found.lengths.dtype == np.int32
    for row, limit in enumerate(LIMITS):
        given = log_probs(logits[row])
        if force_eos:  # at the limit EOS is certain
            given[limit - 1, :, :, EOS] = 0.0
        hypotheses = as_tuples(found, row)
        assert hypotheses == sorted(hypotheses, key=lambda h: -h[0]), "best first"
        for w, (total, tokens) in enumerate(hypotheses):
            n = len(tokens)
            assert (np.asarray(found.tokens)[row, w, n:] == PAD).all()
            if n == 0:  # with one token to say, and that forced, there is one way
                assert total == -np.inf and force_eos and limit == 1 and w > 0
                continue
            assert n <= limit
            assert not {*FORBID, EOS} & {*tokens[:-1]} and tokens[-1] not in FORBID
            assert tokens[-1] == EOS or (n == limit and not force_eos)
            expected = score(given, tokens) / penalty(n, alpha)
            assert total == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("beam", [0, BEAM])
def test_a_sentence_decodes_the_same_in_any_company(beam):
    logits = sentences(5)
    together = run(logits, LIMITS, 0.6, beam=beam)
    for row in (0, 5, 7):
        copies = np.broadcast_to(logits[row], logits.shape)
        alone = run(copies, np.full(BATCH, LIMITS[row]), 0.6, beam=beam)
        for found, expected in zip(alone, together, strict=True):
            np.testing.assert_array_equal(found[0], expected[row])


def test_rows_split_over_devices_decode_the_same():
    logits, rows = sentences(5), jax.sharding.PartitionSpec("rows")
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    decode = functools.partial(run, alpha=0.6, beam=BEAM)
    split = jax.shard_map(
        decode, mesh=mesh, in_specs=(rows, rows), out_specs=rows, check_vma=False
    )
    found, expected = jax.jit(split)(logits, LIMITS), decode(logits, LIMITS)
    for row in range(BATCH):
        assert_same(as_tuples(found, row), as_tuples(expected, row))


@pytest.fixture(scope="module", params=[0, BEAM])
def steps_taken(request):
    """A function of (logits, limits): how often ``step`` ran, for greedy and a beam."""
    beam, taken = request.param, []

    @jax.jit
    def decode(logits, limits):
        def step(tokens, cache):
            jax.debug.callback(taken.append, cache.index)
            return make_step(logits)(tokens, cache)

        method = functools.partial(beam_search, beam=beam) if beam else greedy
        cache = start(BATCH, max(beam, 1))
        shared = dict(IDS, batch=BATCH, max_length=LENGTH, limits=limits)
        return method(step, cache, **shared)

    def count(logits, limits):
        taken.clear()
        jax.block_until_ready(decode(logits, limits))
        jax.effects_barrier()
        return len(taken)

    return count


def test_the_loop_ends_when_nothing_can_change(steps_taken):
    logits = sentences(6)
    logits[:, :2, :, :, EOS] -= 50.0
    logits[:, 2:, :, :, EOS] += 50.0  # EOS is certain from the third token on
    assert steps_taken(logits, np.full(BATCH, LENGTH)) == 3


def test_the_loop_ends_at_the_longest_limit(steps_taken):
    logits = sentences(7)
    logits[..., EOS] -= 50.0
    assert steps_taken(logits, np.minimum(LIMITS, 5)) == 5


def test_other_weights_limits_and_penalties_do_not_recompile():
    run(sentences(8), LIMITS, 0.6, beam=BEAM)
    compiled = run._cache_size()
    run(sentences(9), LIMITS[::-1].copy(), 1.0, beam=BEAM)
    assert run._cache_size() == compiled


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(beam=0), "beam=0"),
        (dict(beam=2, returned=3), "returned=3"),
        (dict(beam=2, max_length=0), "max_length=0"),
        (dict(beam=2, forbid=(EOS,)), "forbid=(2,)"),
    ],
)
def test_arguments_that_make_no_sense_are_named(change, words):
    with pytest.raises(ValueError) as error:
        beam_search(None, None, **{**IDS, "batch": 1, "max_length": 4, **change})
    assert words in str(error.value)
