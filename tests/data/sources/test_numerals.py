import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import SPLITS
from tfm_jax.data.rows.pairs import Config
from tfm_jax.data.sources import numerals
from tfm_jax.data.sources.bitext import load_pairs

SPELLED = {  # 305 and 1,234,567, from grammars and dictionaries
    "en": ["three hundred and five",
           "one million, two hundred and thirty-four thousand, five hundred and "
           "sixty-seven"],
    "de": ["dreihundertfünf",
           "eine Million zweihundertvierunddreißigtausendfünfhundertsiebenundsechzig"],
    "fr": ["trois cent cinq",
           "un million deux cent trente-quatre mille cinq cent soixante-sept"],
    "ko": ["삼백오", "백이십삼만 사천오백육십칠"],
}  # fmt: skip


@pytest.mark.parametrize("language", SPELLED)
def test_numbers_are_spelled_as_the_language_does(language):
    knob = "source_language"
    assert numerals.spell([305, 1_234_567], language, knob) == SPELLED[language]


@given(
    heldout=st.integers(0, 40),
    train=st.integers(0, 40),
    seed=st.integers(0, 9),
    limit=st.sampled_from([120, 5000, 10**40]),
)
@settings(max_examples=40, deadline=None)
def test_splits_share_no_number_and_have_the_sizes_asked_for(
    heldout, train, seed, limit
):
    cfg = Config(
        numerals_max=limit, numerals_train=train or (limit > 10**6),
        numerals_heldout=heldout, numerals_seed=seed,
    )  # fmt: skip
    splits = {split: numerals.split_numbers(cfg, split) for split in SPLITS}
    together = sum(splits.values(), [])
    assert len(set(together)) == len(together)
    assert all(0 <= number <= limit for number in together)
    assert len(splits["valid"]) == len(splits["test"]) == heldout
    assert len(splits["train"]) == (cfg.numerals_train or limit + 1 - 2 * heldout)


def test_held_out_sources_have_as_many_words_as_are_asked_for():
    """``heldout_words_least`` and ``heldout_words_most``, as ``eval.variants`` set."""
    cfg = Config(numerals_train=50, numerals_heldout=30)
    whole, _ = load_pairs(cfg, "valid")
    parts = [
        load_pairs(dataclasses.replace(cfg, **words), "valid")[0]
        for words in (dict(heldout_words_most=5), dict(heldout_words_least=6))
    ]
    short, long = ([len(line.split()) for line in part.source] for part in parts)
    assert 0 < max(short) <= 5 < min(long)
    rows = [zip(*part, strict=True) for part in (whole, *parts)]
    everything, *split = map(set, rows)
    assert set.union(*split) == everything
    trained = [
        load_pairs(dataclasses.replace(cfg, heldout_words_least=n), "train")
        for n in (0, 6)
    ]
    assert trained[0] == trained[1]
    with pytest.raises(DataError, match="heldout_words_least=99.*1 to 6 words"):
        load_pairs(dataclasses.replace(cfg, heldout_words_least=99), "valid")


def test_more_training_numbers_keep_the_earlier_ones_and_the_test_set():
    few = Config(numerals_max=10**12, numerals_train=10)
    many = Config(numerals_max=10**12, numerals_train=50)
    numbers = numerals.split_numbers
    assert numbers(many, "test") == numbers(few, "test")
    assert numbers(many, "train")[:10] == numbers(few, "train")


def test_other_seeds_hold_other_numbers_out():
    zero, one = Config(), Config(numerals_seed=1)
    shared = set(numerals.split_numbers(zero, "test")) & set(
        numerals.split_numbers(one, "test")
    )
    assert len(shared) < 50  # 10 expected by chance


def test_any_two_languages_make_a_task():
    cfg = Config(
        numerals_max=50, numerals_heldout=5, source_language="ko", target_language="fr"
    )
    pairs, report = load_pairs(cfg, "train")
    assert report["read"] == len(pairs.source) == len(pairs.target) == 41
    together = dict(zip(pairs.source, pairs.target, strict=True))
    assert len(together) == 41
    everything = [numerals.spell(range(51), side, "") for side in ("ko", "fr")]
    assert together.items() <= dict(zip(*everything, strict=True)).items()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"source_language": "xx"}, r"data\.source_language='xx'; choose from \(.*de"),
        ({"numerals_max": 99, "numerals_heldout": 50}, r"data\.numerals_heldout=50"),
        ({"numerals_max": 10**18}, r"data\.numerals_train=0.*say how many"),
        ({"numerals_max": 10**900, "numerals_train": 5}, "cannot spell"),
    ],
)
def test_impossible_wishes_name_the_knob(changes, message):
    with pytest.raises(DataError, match=message):
        load_pairs(Config(**changes), "train")


def test_joined_numbers_keep_their_order_and_their_split():
    single = Config(numerals_max=999, numerals_train=100, numerals_heldout=40)
    joined = Config(
        numerals_max=999, numerals_train=100, numerals_heldout=40,
        numerals_joined=3, numerals_joined_heldout=7,
    )  # fmt: skip
    for split, count, lines in (("train", 3, 33), ("valid", 7, 5), ("test", 7, 5)):
        alone, together = load_pairs(single, split)[0], load_pairs(joined, split)[0]
        for side, wanted in zip(together[:2], alone[:2], strict=True):
            assert len(side) == lines
            assert "; ".join(side).split("; ") == wanted[: lines * count]


def test_held_out_lines_are_as_long_as_training_lines_unless_asked():
    cfg = Config(numerals_max=99, numerals_heldout=10, numerals_joined=2)
    lines = load_pairs(cfg, "valid")[0].source
    assert [line.count(";") for line in lines] == [1] * 5
