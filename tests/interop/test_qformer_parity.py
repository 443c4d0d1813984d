"""The Q-Former of transformers and ours compute the same."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from tests.data.tokenizers import published_folders
from tests.interop.text_reference import (
    BLIND,
    assert_parity,
    assert_round_trip,
    make,
)
from tests.layers.weights import normal
from tests.models.tiny_pairs import tiny
from tfm_jax.data.batch import ImageTextBatch, TextBatch
from tfm_jax.interop import (
    load_huggingface,
    save_huggingface,
    tokenizer_files,
    verify,
)
from tfm_jax.interop.__main__ import main
from tfm_jax.interop.maps.qformer import BLIP2, TEMPERATURE
from tfm_jax.interop.safetensors_io import FILE
from tfm_jax.interop.tensors import storage
from tfm_jax.layers.text.queries import MASKS, QueryingEncoder
from tfm_jax.models import qformer
from tfm_jax.objectives.retrieval import similarity
from tfm_jax.runs import saved

QUERYING = dict(
    vocab_size=31, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
    intermediate_size=40, max_position_embeddings=12, encoder_hidden_size=20,
    use_qformer_text_input=True,
)  # fmt: skip
VISION = dict(
    hidden_size=20, num_hidden_layers=2, num_attention_heads=2, intermediate_size=28,
    image_size=12, patch_size=4,
)  # fmt: skip
RETRIEVAL = dict(
    vision_config=VISION, qformer_config=QUERYING, num_query_tokens=4,
    image_text_hidden_size=12,
)  # fmt: skip
LENGTHS = np.array([5, 2, 4])
REAL = np.arange(5) < LENGTHS[:, None]


def additive(visible):
    """[T, S] bool as the mask [B, 1, T, S] that transformers adds to logits."""
    rows = torch.where(torch.tensor(visible), 0.0, -1e9).double()
    return rows[None, None].repeat(len(REAL), 1, 1, 1)


def theirs(model, queries, text, states):
    """mask -> the states of queries and text [B, Q + T, D] by the reference."""
    count, size = queries.shape[1], text.shape[1]
    both, real = torch.cat([queries, text], 1), torch.tensor(REAL).long()
    ones = torch.ones((len(REAL), count)).long()
    t = np.arange(count + size)
    causal = (t <= t[:, None]) | (t < count)
    seen = dict(query_length=count, encoder_hidden_states=states)
    masks = {"full": torch.cat([ones, real], 1), "causal": additive(causal)}
    found = {k: model(both, attention_mask=x, **seen)[0] for k, x in masks.items()}
    of_text = model(text, query_length=0, attention_mask=real)[0]
    return found | {"apart": torch.cat([model(queries, **seen)[0], of_text], 1)}


def test_all_states_and_gradients_are_equal_under_every_mask():
    model = make("Blip2QFormerModel", **QUERYING).double()
    cfg = qformer.Config(
        vision=qformer.Vision(width=20, heads=2, depth=1),
        text=qformer.Text(
            **dict(width=24, heads=3, ffn_width=40, depth=3, max_length=12, vocab=31)
        ),
        **dict(queries=4, head="retrieval"),
    )
    table = {
        path: place
        for path, place in BLIP2.table(cfg).items()
        if path.startswith(("qformer/stack", "qformer/embedding/norm"))
    }

    def ours_of(tensors):
        named = {f"qformer.{name}": x.numpy() for name, x in tensors.items()}
        return storage.to_params(table, named)["qformer"]

    queries, words, states = normal(0, 4, 24), normal(1, 31, 24), normal(2, 3, 5, 20)
    tokens = np.random.default_rng(3).integers(1, 31, REAL.shape)
    seen = np.pad(REAL, ((0, 0), (4, 0)), constant_values=True)
    directions = {
        mask: normal(n, 3, 9, 24) * seen[..., None] for n, mask in enumerate(MASKS, 10)
    }
    params = ours_of(model.state_dict())
    params["queries"] = queries
    params["embedding"] |= dict(
        word={"table": words}, position={"table": np.zeros((12, 24), np.float32)}
    )
    text = TextBatch(tokens, REAL.astype(np.int32))
    encoder = QueryingEncoder(cfg.arch, cfg.queries, cfg.cross_every)

    @jax.jit
    def run(params):
        def loss(params):
            found = {
                mask: jnp.concatenate(
                    encoder.apply({"params": params}, states, text, mask, train=False),
                    axis=1,
                )
                for mask in directions
            }
            return sum(jnp.sum(found[k] * x) for k, x in directions.items()), found

        return jax.grad(loss, has_aux=True)(params)

    grads, found = jax.device_get(run(params))
    given = [torch.tensor(x).double() for x in (queries, words, states)]
    wanted = theirs(
        model, given[0].repeat(3, 1, 1), given[1][torch.tensor(tokens)], given[2]
    )
    sum((wanted[k] * torch.tensor(x)).sum() for k, x in directions.items()).backward()
    for mask, x in found.items():
        expected = wanted[mask].detach().numpy()
        np.testing.assert_allclose(x[seen], expected[seen], rtol=0, atol=1e-5)
    expected = ours_of({n: p.grad.float() for n, p in model.named_parameters()})
    expected, grads = (flatten_dict(x, sep="/") for x in (expected, grads))
    largest = max(np.abs(x).max() for x in expected.values())
    for path, grad in expected.items():
        noise = 1e-6 * largest if path.endswith(BLIND) else 0.0
        error, scale = np.abs(grads[path] - grad).max(), np.abs(grad).max()
        assert error <= 1e-4 * scale + noise, f"{path}: {error} of {scale}"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(the reference, the same model imported from the folder it wrote, the folder)."""
    model = make("Blip2ForImageTextRetrieval", **RETRIEVAL)
    folder = tmp_path_factory.mktemp("blip2")
    model.save_pretrained(folder)
    return model, load_huggingface(folder), folder


def test_similarities_matches_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    tokens = np.random.default_rng(0).integers(1, 31, REAL.shape) * REAL
    images = normal(9, 3, 12, 12, 3)
    given = dict(
        pixel_values=torch.tensor(np.moveaxis(images, -1, 1)).double(),
        input_ids=torch.tensor(tokens),
        attention_mask=torch.tensor(REAL).long(),
    )
    model.double()
    outputs = [
        model(**given, use_image_text_matching_head=head).logits_per_image
        for head in (False, True)
    ]
    directions = normal(2, 3, 3), normal(3, 3, 2)
    loss = sum(
        (x * torch.tensor(d)).sum() for x, d in zip(outputs, directions, strict=True)
    )
    real, one = REAL.astype(np.int32), np.ones(3, np.int32)
    batch = ImageTextBatch(
        tokens, real, None, None, tokens, REAL, images[:, None], one, real
    )

    def apply(variables, batch, train):
        found = imported.model.apply(variables, batch, train=train)
        vectors = found.vectors
        return similarity(vectors.images, vectors.texts), found.match

    def to_params(cfg, grads):
        params = BLIP2.to_params(cfg, grads)
        params["head"]["temperature"] = np.float32(0)  # which the reference lacks
        return params

    ours = SimpleNamespace(
        config=imported.config,
        params=imported.params,
        model=SimpleNamespace(apply=apply),
    )
    assert_parity(
        *(model, loss, outputs, ours, batch, to_params),
        lambda found: sum(
            jnp.sum(x * d) for x, d in zip(found, directions, strict=True)
        ),
    )
    model.float()
    for x, y in zip(imported.scores(images, tokens, LENGTHS), outputs, strict=True):
        np.testing.assert_allclose(x, y.detach(), atol=1e-5)


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    assert_round_trip(*pair, tmp_path / "new")


def test_verify_asks_pairs(pair):
    *_, folder = pair
    rows = verify.compare(folder)
    assert {row.output for row in rows} == {"cosines", "matching"}
    assert verify.passed(rows)


def test_a_trained_model_is_written_without_what_the_reference_lacks(tmp_path):
    model, params = tiny(
        vision=dict(activation="gelu", channels=3, image_size=(8,)),
        text=dict(norm_eps=1e-9),
    )
    save_huggingface(tmp_path / "new", params, model.cfg)
    again = load_huggingface(tmp_path / "new")
    assert again.config == dataclasses.replace(model.cfg, head="retrieval")
    before, after = (flatten_dict(x, sep="/") for x in (params, again.params))
    absent = before.keys() - after.keys()
    assert {path.rpartition("/")[0] for path in absent} == {
        *("head/begin", "head/lm", "head/lm/dense", "head/lm/norm")
    }
    for path in after.keys() - {TEMPERATURE}:
        np.testing.assert_array_equal(after[path], before[path])
    assert after[TEMPERATURE] == np.float32(model.cfg.temperature)


def test_a_folder_becomes_a_run_and_a_run_a_folder(tmp_path):
    """By the commands; with the tokens around a text that BERT has."""
    words = published_folders.tokenizer("wordpiece")
    model, params = tiny(
        head="retrieval",
        vision=dict(activation="gelu", channels=3, image_size=(8,)),
        text=dict(vocab=words.vocab),
    )
    params["head"]["temperature"] = np.float32(model.cfg.temperature)
    save_huggingface(tmp_path / "a", params, model.cfg)
    around = tokenizer_files.framed("bert", words.special)
    tokenizer_files.write(tmp_path / "a", words, around, longest=9, types=False)
    folders = [str(tmp_path / name) for name in ("a", "run", "b")]
    assert main(["import", *folders[:2]]) == main(["export", *folders[1:]]) == 0
    run = saved.load(folders[1]).experiment
    assert (run.task, run.model, run.data.image_size) == ("retrieval", model.cfg, (8,))
    assert run.data.length == 9
    weights = [(tmp_path / name / FILE).read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    configs = [json.loads((tmp_path / x / "config.json").read_text()) for x in "ab"]
    assert configs[0].items() <= configs[1].items()  # and the ids of tokens


THEIRS = {"model_type": "blip-2", **RETRIEVAL}


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(architectures=["Blip2Model"]), "architectures='Blip2Model'; choose from"),
        (
            dict(qformer_config=QUERYING | dict(use_qformer_text_input=False)),
            "qformer_config.use_qformer_text_input=False must be True",
        ),
        (
            dict(vision_config=VISION | dict(num_hidden_layers=10**6)),
            "vision_config.num_hidden_layers=1000000 must be an integer in 1 .. 256",
        ),
        (dict(vision_config=VISION | dict(hidden_act="selu")), "hidden_act='selu'"),
        (dict(num_query_tokens="4"), "num_query_tokens='4' must be an integer"),
    ],
)
def test_a_config_without_counterpart_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BLIP2.read_config(THEIRS | change)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(pool="mean"), "model.pool='mean' must be 'closest'"),
        (dict(head="states"), "model.head='states'; choose from"),
        (dict(text=qformer.Text(norm="pre")), "model.text.norm='pre' must be 'post'"),
        (
            dict(vision=qformer.Vision(pool="mean")),
            "model.vision.pool='mean' must be 'cls'",
        ),
        (
            dict(vision=qformer.Vision(image_size=(32, 64))),
            r"model.vision.image_size=\(32, 64\) must be one number",
        ),
    ],
)
def test_a_model_without_counterpart_is_not_written(change, message):
    with pytest.raises(ValueError, match=message):
        BLIP2.write_config(qformer.Config(**change))
