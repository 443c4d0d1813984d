"""A model's table may have more rows than its tokenizer has tokens."""

from types import SimpleNamespace

from tfm_jax.data.tokenizers import bilingual
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer
from tfm_jax.settings.sections import EvalConfig
from tfm_jax.workloads import translation


def test_translations_have_tokens_of_the_target_vocabulary_alone(monkeypatch):
    cfg = bilingual.Config(kind="character", shared=False)
    tokenizer = bilingual.train_tokenizer(cfg, ["abcdefg"], ["ab"])
    size = tokenizer.target_vocab
    model = SimpleNamespace(cfg=SimpleNamespace(target_vocab=size + 2, longest=0))
    asked = []

    def decode(*arguments, special, **options):
        asked.append(special)
        return []

    monkeypatch.setattr(translation, "decode", decode)
    assert translation.translate(model, {}, tokenizer, [], EvalConfig()) == []
    (special,) = asked
    assert special.forbid == (bilingual.PAD, bilingual.BOS, size, size + 1)
    assert special.eos == bilingual.EOS


def test_ids_between_tokens_are_no_tokens_either():
    tokenizer = train_text_tokenizer("wordpiece", ["a b"], vocab=20)
    assert tokenizer.unspelled(tokenizer.vocab + 2) == (
        tokenizer.vocab,
        tokenizer.vocab + 1,
    )
    document = tokenizer._document | {"model": dict(tokenizer._document["model"])}
    document["model"]["vocab"] = tokenizer._document["model"]["vocab"] | {"c": 30}
    found = TextTokenizer(document)
    assert found.vocab == 31 and {*found.unspelled(32)} == {
        31,
        *range(tokenizer.vocab, 30),
    }
