"""Crafted files are refused in one short line, in bounded time and memory.

Each row is a folder of a sound model or tokenizer with one file replaced.
"""

import json
import resource
import struct
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.data.tokenizers import published_folders
from tests.models.tiny import tiny as tiny_pairs
from tests.models.tiny_text import tiny
from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.data.tokenizers.foreign import explodes
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.decode.search import TokenIds
from tfm_jax.interop import load_huggingface, save_huggingface
from tfm_jax.interop.maps import generation
from tfm_jax.interop.safetensors_io import FILE, INDEX
from tfm_jax.models import albert, bert, gpt

CONFIG, GENERATION = "config.json", "generation_config.json"
DEEP = "[" * 100_000
HUGE = 10**400


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A sound folder of each kind: name -> path."""
    found = {}
    made = {
        "bert": tiny(bert, head="tag"),
        "albert": tiny(albert, head="tag", embedding_width=4),
        "gpt2": tiny(gpt),
        "gpt_neo": tiny(gpt, score="dot", biases="not_qkv", windows=(0, 4)),
        "marian": tiny_pairs(
            positions="sinusoidal_halves", norm_eps=1e-5, output_bias=True
        ),
    }
    for name, (model, params) in made.items():
        found[name] = tmp_path_factory.mktemp(name) / "sound"
        save_huggingface(found[name], params, model.cfg)
    return found


def changed(**fields):
    """A replacement of config.json with other fields."""
    return lambda text: json.dumps(json.loads(text) | fields)


CONFIGS = {  # name of a row: (folder, text or what makes one of the sound file's)
    "brackets": ("bert", DEEP),
    "brackets within": ("bert", '{"model_type": ' + DEEP),
    "no object": ("bert", "[1]"),
    "nothing": ("bert", ""),
    "not UTF-8": ("bert", b"\xff\xfe"),
    "NaN": ("bert", changed(layer_norm_eps=float("nan"))),
    "model type a list": ("bert", changed(model_type=["bert"])),
    "model type long": ("bert", changed(model_type="x" * 10**6)),
    "heads 0": ("bert", changed(num_attention_heads=0)),
    "heads negative": ("bert", changed(num_attention_heads=-2)),
    "heads true": ("bert", changed(num_attention_heads=True)),
    "heads that do not divide": ("bert", changed(num_attention_heads=3)),
    "width a string": ("bert", changed(hidden_size="x" * 10**6)),
    "width huge": ("bert", changed(hidden_size=HUGE)),
    "vocabulary huge": ("bert", changed(vocab_size=2**40)),
    "positions huge": ("bert", changed(max_position_embeddings=2**31)),
    "layers 3000": ("bert", changed(num_hidden_layers=3000)),
    "more layers than tensors": ("bert", changed(num_hidden_layers=200)),
    "eps null": ("bert", changed(layer_norm_eps=None)),
    "dropout huge": ("bert", changed(hidden_dropout_prob=HUGE)),
    "dropout a list": ("bert", changed(hidden_dropout_prob=[])),
    "head dropout a list": ("bert", changed(classifier_dropout=[])),
    "activation a list": ("bert", changed(hidden_act=["gelu"])),
    "architectures a word": ("bert", changed(architectures="BertModel")),
    "architectures of numbers": ("bert", changed(architectures=[5])),
    "labels a list": ("bert", changed(id2label=["a"])),
    "labels of numbers": ("bert", changed(id2label={"0": 5})),
    "labels with a gap": ("bert", changed(id2label={"7": "a"})),
    "groups 0": ("albert", changed(num_hidden_groups=0)),
    "groups above layers": ("albert", changed(num_hidden_groups=9)),
    "shared layers 3000": ("albert", changed(num_hidden_layers=3000)),
    "inner a string": ("gpt2", changed(n_inner="4")),
    "width null": ("gpt2", changed(n_embd=None)),
    "scale a string": ("gpt2", changed(scale_attn_weights="yes")),
    "kinds a number": ("gpt_neo", changed(attention_types=5)),
    "kinds repeated": ("gpt_neo", changed(attention_types=[[["global"], 10**12]])),
    "kinds negative": ("gpt_neo", changed(attention_types=[[["global"], -1]])),
    "window null": ("gpt_neo", changed(window_size=None)),
    "depth a list": ("marian", changed(encoder_layers=[2])),
    "tie a list": ("marian", changed(tie_word_embeddings=[])),
    "scale null": ("marian", changed(scale_embedding=None)),
    "start null": ("marian", changed(decoder_start_token_id=None)),
}


@pytest.fixture
def bounded():
    """At most seconds and some memory more than before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    yield
    assert time.process_time() - start < 10
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) / 2**10 < 500, "megabytes"


def refused(load, *kinds):
    with pytest.raises(kinds) as error:
        load()
    said = str(error.value)
    assert said and "\n" not in said and len(said) < 2000
    return said


@pytest.mark.parametrize("row", CONFIGS)
def test_a_crafted_configuration_is_refused(row, folders, tmp_path, bounded):
    name, content = CONFIGS[row]
    for path in folders[name].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if callable(content):
        content = content((tmp_path / CONFIG).read_text())
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / CONFIG).write_bytes(content)
    (tmp_path / GENERATION).unlink(missing_ok=True)  # which would speak for it
    refused(lambda: load_huggingface(tmp_path), ValueError)


def header(fields, size=None, data=b""):
    text = json.dumps(fields).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(start=0, end=4, shape=(1,), dtype="F32"):
    return dict(dtype=dtype, shape=list(shape), data_offsets=[start, end])


WEIGHTS = {
    "nothing": b"",
    "a header of 2^63 bytes": header({}, size=2**63),
    "a header beyond the file": header({}, size=10**9),
    "brackets": struct.pack("<Q", len(DEEP)) + DEEP.encode(),
    "no JSON": header({})[:8] + b"xx",
    "overlapping": header({"a": tensor(), "b": tensor()}, data=b"\0" * 8),
    "beyond the end": header({"a": tensor(0, 400, [100])}),
    "a shape that does not fit": header({"a": tensor(shape=[9])}, data=b"\0" * 4),
    "a shape that overflows": header({"a": tensor(shape=[2**40, 2**40])}),
    "negative": header({"a": tensor(shape=[-1])}, data=b"\0" * 4),
    "another dtype": header({"a": tensor(dtype="X9")}, data=b"\0" * 4),
    "bytes": header({"a": tensor(0, 1, dtype="U8")}, data=b"\0"),
    "eight bits": header({"a": tensor(0, 1, dtype="F8_E4M3")}, data=b"\0"),
}


@pytest.mark.parametrize("row", WEIGHTS)
def test_a_crafted_safetensors_file_is_refused(row, folders, tmp_path, bounded):
    (tmp_path / CONFIG).write_bytes((folders["bert"] / CONFIG).read_bytes())
    (tmp_path / FILE).write_bytes(WEIGHTS[row])
    refused(lambda: load_huggingface(tmp_path), ValueError)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_tensor_with_numbers_that_are_none_is_named(number, folders, tmp_path):
    (tmp_path / CONFIG).write_bytes((folders["bert"] / CONFIG).read_bytes())
    tensors = load_file(folders["bert"] / FILE)
    tensors["classifier.bias"][-1] = number
    save_file(tensors, tmp_path / FILE)
    with pytest.raises(ValueError, match="classifier.bias has numbers that are not fi"):
        load_huggingface(tmp_path)


INDICES = {
    "brackets": DEEP,
    "no map": "{}",
    "a map of numbers": {"a": 5, "b": "x"},
    "a map of lists": {"a": ["x"]},
    "above": {"a": "../sound/model.safetensors"},
    "the folder above": {"a": ".."},
    "absolute": {"a": "/dev/zero"},
    "a newline": {"a": "x\ny"},
    "long": {"a": "x" * 10**6},
    "absent": {"a": "other.safetensors"},
    "a folder": {"a": "folder"},
}


@pytest.mark.parametrize("row", INDICES)
def test_a_crafted_index_is_refused(row, folders, tmp_path, bounded):
    (tmp_path / CONFIG).write_bytes((folders["bert"] / CONFIG).read_bytes())
    (tmp_path / "folder").mkdir()
    content = INDICES[row]
    if isinstance(content, dict):
        content = json.dumps({"weight_map": content})
    (tmp_path / INDEX).write_text(content)
    refused(lambda: load_huggingface(tmp_path), ValueError, FileNotFoundError)


@pytest.mark.parametrize(
    "fields",
    [
        {"bad_words_ids": [[1], "x", 5]},
        {"bad_words_ids": 5},
        {"bad_words_ids": [[[]]]},
        {"eos_token_id": {}},
        {"eos_token_id": -1},
        {"eos_token_id": HUGE},
        {"pad_token_id": "0"},
        {"forced_eos_token_id": [[]]},
    ],
)
def test_a_crafted_generation_config_is_refused(fields):
    sound = generation.write(TokenIds(), False)
    assert generation.read({}, sound)
    refused(lambda: generation.read({}, sound | fields), ValueError)


def document(**fields):
    found = json.loads(published_folders.tokenizer("byte_bpe").to_json())
    return json.dumps(found | fields)


def model(**fields):
    found = json.loads(published_folders.tokenizer("byte_bpe").to_json())
    return json.dumps(found | {"model": found["model"] | fields})


def split(pattern):
    rule = dict(type="Split", pattern={"Regex": pattern}, invert=False)
    return document(pre_tokenizer=rule | {"behavior": "Isolated"})


ADDED = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
ADDED |= {"special": True, "content": "[NEW]"}
TOKENIZERS = {
    "brackets": {"tokenizer.json": DEEP},
    "model null": {"tokenizer.json": '{"model": null}'},
    "model a list": {"tokenizer.json": '{"model": []}'},
    "model empty": {"tokenizer.json": '{"model": {}}'},
    "vocabulary null": {"tokenizer.json": model(vocab=None)},
    "id negative": {"tokenizer.json": model(vocab={"a": -1}, merges=[])},
    "id 4e9": {"tokenizer.json": model(vocab={"a": 4_000_000_000}, merges=[])},
    "id beyond 32 bits": {"tokenizer.json": model(vocab={"a": 2**40}, merges=[])},
    "merges of nothing": {"tokenizer.json": model(merges=[["xx", "yy"]])},
    "added 4e9": {
        "tokenizer.json": document(added_tokens=[ADDED | {"id": 4_000_000_000}])
    },
    "added null": {"tokenizer.json": document(added_tokens=[None])},
    "a repetition of one": {"tokenizer.json": split("(a+)+$")},
    "a repetition of a choice": {"tokenizer.json": split("(a|aa)*$")},
    "no expression": {"tokenizer.json": split("(")},
    "not UTF-8": {"tokenizer.json": b"\xff"},
    "vocabulary not UTF-8": {"vocab.txt": b"\xff"},
    "vocabulary empty": {"vocab.txt": b""},
    "settings of brackets": {"vocab.txt": "[UNK]\n", "tokenizer_config.json": DEEP},
    "added of brackets": {"vocab.txt": "[UNK]\n", "added_tokens.json": DEEP},
    "map of numbers": {"vocab.txt": "[UNK]\n", "special_tokens_map.json": "[5]"},
    "vocabulary a list": {"vocab.json": "[]", "merges.txt": ""},
    "vocabulary of words": {"vocab.json": '{"a": "b"}', "merges.txt": ""},
    "vocabulary 4e9": {"vocab.json": '{"a": 4000000000}', "merges.txt": ""},
    "vocabulary of brackets": {"vocab.json": DEEP, "merges.txt": ""},
    "merges of three": {"vocab.json": '{"a": 0}', "merges.txt": "a a a\n"},
    "sentencepiece alone": {"spiece.model": b"\x0a\x0e" * 99},
}


@pytest.mark.parametrize("row", TOKENIZERS)
def test_a_crafted_tokenizer_is_refused(row, tmp_path, bounded):
    for name, content in TOKENIZERS[row].items():
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
    refused(lambda: TextTokenizer.load(tmp_path), DataError)


PAIRS = {
    "brackets": DEEP,
    "nothing in it": json.dumps({"format": bilingual.FORMAT}),
    "kind a list": dict(kind=[], source={}, target=None),
    "source null": dict(kind="bpe", source=None, target=None),
    "source of nothing": dict(kind="bpe", source={"model": {}}, target=None),
    "target a number": dict(kind="bpe", source=json.loads(document()), target=5),
    "id 4e9": dict(
        kind="bpe",
        source=json.loads(model(vocab={"a": 4_000_000_000}, merges=[])),
        target=None,
    ),
}


@pytest.mark.parametrize("row", PAIRS)
def test_a_crafted_tokenizer_of_pairs_is_refused(row, tmp_path, bounded):
    content = PAIRS[row]
    if isinstance(content, dict):
        content = json.dumps(content | {"format": bilingual.FORMAT})
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    refused(lambda: bilingual.Tokenizer.load(path), DataError)
    refused(lambda: bilingual.Tokenizer.from_json(content), DataError)


def test_a_vocabulary_that_lacks_its_unknown_token_is_an_error_when_it_is_missed():
    found = json.loads(published_folders.tokenizer("wordpiece").to_json())
    found["model"]["unk_token"] = "[NONE]"
    ours = TextTokenizer(found)
    assert refused(lambda: ours.encode(["數數"]), DataError).startswith(
        "the tokenizer cannot encode a text: "
    )


@pytest.mark.parametrize(
    "pattern",
    [
        # the words of GPT-2, GPT-4 and Llama 3
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)|\s+",
        *(r"(?:ab)+", r"\((a)\)+", r"[(a+)]+", r"(a++)+", r"[[a+](b)]+", ""),
    ],
)
def test_published_expressions_do_not_explode(pattern):
    assert not explodes(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*$", "((a+)b)*", "(?:a*)*", "(?:(?:a{2,}))+", r"(\s?|a)+"],
)
def test_repetitions_of_repetitions_explode(pattern):
    assert explodes(pattern)


def test_the_sound_files_are_read(folders):
    load_huggingface(folders["bert"])
    for folder in folders.values():
        assert all(np.isfinite(x).all() for x in load_file(folder / FILE).values())
    assert issubclass(ConfigError, ValueError)
    assert TextTokenizer(json.loads(document())).vocab == 600
