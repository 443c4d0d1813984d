"""The convolutional family: agreement with PyTorch, reach, packing, cached decoding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.models.tiny import reach, rows, sentences
from tests.models.tiny_conv import NARROW, E, shapes, tiny
from tests.test_knobs import assert_roles
from tfm_jax.audit import audit_transformer
from tfm_jax.config import ConfigError, build, section
from tfm_jax.decode.search import decode
from tfm_jax.layers.layout import init_params
from tfm_jax.models.conv_seq2seq import SIZES, Config, ConvSeq2Seq
from tfm_jax.objectives import translation

PAIRS = sentences((5, 3), (5, 4))
PADDED = rows(PAIRS, 9, 9)
PACKED = rows([PAIRS, PAIRS[::-1]], 9, 9)
VARIANTS = {
    "released": {},
    "notebook": dict(
        encoder_widths=(8, 8),
        decoder_widths=(8, 8),
        attention_projections="shared",
        length_scale=False,
        weight_norm=False,
        encoder_gradient="sum",
    ),
    "last": dict(attention_layers=(-1,), positions="source", output_width=E)
    | dict(tie="three_way"),
    "wide": dict(encoder_kernels=(4, 1), decoder_kernels=(1, 5), positions="none"),
}


@functools.partial(jax.jit, static_argnums=0)
def logits(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


def count(cfg):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(cfg)))


def from_torch(model, gradients=False):
    """Parameters of ``benchmarks.torch_conv``, or their gradients, as ours."""
    flat = {}
    for name, tensor in model.named_parameters():
        *path, last = name.split(".")
        x = np.asarray((tensor.grad if gradients else tensor).detach())
        leaf = {"original0": "scale", "original1": "kernel"}.get(last, last)
        match path:
            case [side, "tokens" | "positions" as table, *_]:
                side = {"encoder": "source", "decoder": "target"}[side]
                table = {"tokens": "embedding", "positions": "positions"}[table]
                flat[f"{side}_{table}/table"] = x
                continue
            case [stack, "convolutions", layer, *_]:
                outputs = (2, len(x) // 2)
                to = f"{stack}/layer_{layer}/convolution"
                shape = (*x.shape[:0:-1], *outputs) if leaf == "kernel" else outputs
                x = x.T.reshape(shape)
            case [stack, "residuals", layer, *_]:
                to = f"{stack}/layer_{layer}/residual"
            case [stack, "attentions", layer, which, *_]:
                to = f"{stack}/layer_{layer}/cross_attention/{which}"
            case _:
                to = "/".join(path).partition("/parametrizations")[0]
        flat[f"{to}/{leaf}"] = x[:, 0] if leaf == "scale" and x.shape[-1] == 1 else x.T
        if "convolutions" in path:
            flat[f"{to}/{leaf}"] = x
    return jax.tree.map(jnp.asarray, unflatten_dict(flat, sep="/"))


LENGTHS = (7, 1, 4), (5, 6, 1)  # padding on both sides, and rows of one token


def test_logits_loss_and_all_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is the reference")
    from benchmarks.torch_conv import TorchConvSeq2Seq

    cfg = Config(**NARROW | dict(dropout=0.0, target_vocab=13))
    torch.manual_seed(0)
    theirs = TorchConvSeq2Seq(dataclasses.asdict(cfg))
    for parameter in theirs.parameters():  # no bias is 0 and no direction of length 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    batch = rows(sentences(*LENGTHS))
    source, inputs, labels = (
        torch.tensor(x, dtype=torch.long)
        for x in (batch.source, batch.target_inputs, batch.target_labels)
    )
    real, hidden = batch.target_segments > 0, torch.tensor(batch.source_segments == 0)
    places = torch.tensor(np.flatnonzero(real))
    wanted = theirs.output(theirs(source, inputs, hidden))
    loss = theirs.loss(source, inputs, labels, hidden, places, 0.1)
    loss.backward()

    model, params = ConvSeq2Seq(cfg), from_torch(theirs)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes(cfg))

    def mean_loss(params):
        def apply(params, batch, rng, train):
            y = model.apply({"params": params}, batch, train=train)
            outputs.append(y)
            return y

        outputs = []
        total, weight = translation.loss_sum(
            apply, params, batch, smoothing=0.1, train=False
        )
        return total / weight, outputs[0]

    step = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (actual_loss, y), gradients = step(params)
    y, gradients = jax.device_get((y, gradients))
    np.testing.assert_allclose(y[real], wanted.detach()[real], atol=1e-5)
    np.testing.assert_allclose(actual_loss, loss.item(), atol=1e-5)
    expected = jax.device_get(from_torch(theirs, gradients=True))
    expected = flatten_dict(expected, sep="/")
    for path, gradient in flatten_dict(gradients, sep="/").items():
        size = np.abs(expected[path]).max()
        np.testing.assert_allclose(gradient / size, expected[path] / size, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "source", "target", "parameters"),
    [
        ("bentrevett", 7853, 5893, 37_351_173),  # of the notebook
        # 2 tables of 100, 2 of positions, 7 convolutions, 3 pairs of attention maps,
        # 4 maps in and out, logits: weights, lengths and biases
        (
            *("iwslt", 100, 100),
            2 * (100 + 1024) * 256
            + 7 * (3 * 256 + 2) * 512
            + (6 + 4) * (256 + 2) * 256
            + (256 + 2) * 100,
        ),
    ],
)
def test_parameters_are_as_many_as_published(size, source, target, parameters):
    cfg = Config(**SIZES[size], source_vocab=source, target_vocab=target)
    assert count(cfg) == parameters


def test_initial_values_are_the_published_ones():
    """Section 3.5: N(0, 4 p / inputs) before gates, N(0, p / inputs) behind dropout."""
    cfg = Config(
        **SIZES["tiny"] | dict(tie="none", dropout=0.36, decoder_kernels=(5,)),
        **dict(source_vocab=50, target_vocab=200),
    )
    model, key = ConvSeq2Seq(cfg), jax.random.key(0)
    params = jax.jit(lambda key: init_params(model, key, translation.example()))(key)
    flat = {path: np.asarray(x) for path, x in flatten_dict(params, sep="/").items()}
    kept = 0.8
    for path, deviation in {
        "encoder/layer_1/convolution/kernel": 2 * kept * (3 * 128) ** -0.5,
        "decoder/layer_2/convolution/kernel": 2 * kept * (5 * 128) ** -0.5,
        "encoder/project_in/kernel": kept * 128**-0.5,
        "decoder/project_out/kernel": 128**-0.5,
        "decoder/layer_0/cross_attention/query/kernel": 128**-0.5,
        "output/kernel": kept * 128**-0.5,
        "source_embedding/table": 0.1,
        "target_positions/table": 0.1,
    }.items():
        assert flat[path].std() == pytest.approx(deviation, rel=0.03), path
    for path, x in flat.items():
        if path.endswith("scale"):  # so the map is the one that was drawn
            kernel = flat[path.replace("scale", "kernel")].reshape(-1, x.size)
            length = np.linalg.norm(kernel, axis=0).reshape(x.shape)
            np.testing.assert_allclose(x, length, rtol=1e-6)


def test_a_token_reaches_as_many_columns_as_the_kernels_add_up_to():
    """1 + layers * (kernel - 1), exactly, within its own sentence of the row."""
    model, params = tiny(
        **dict(encoder_widths=(8,) * 2, decoder_widths=(8,) * 2),
        **dict(decoder_kernels=(3,), encoder_gradient="sum"),
    )
    reached = jax.jit(lambda params: reach(model, params, PACKED, width=E))
    by_source, by_target = reached(params)
    segments, t = PACKED.target_segments[0], np.arange(9)
    real, back = segments > 0, t[:, None] - t
    own = segments[:, None] == segments
    near = own & (0 <= back) & (back < 1 + 2 * (3 - 1))
    np.testing.assert_array_equal((by_target > 0)[real], near[real])
    visible = segments[:, None] == PACKED.source_segments[0]
    np.testing.assert_array_equal((by_source > 0)[real], visible[real])


def test_a_source_token_reaches_as_many_columns_of_the_encoder():
    cfg = dict(encoder_widths=(8,) * 2, decoder_widths=(8,) * 2)
    model, params = tiny(**cfg)
    segments = jnp.asarray(PACKED.source_segments[:1])

    def keys(x):
        call = functools.partial(model.apply, {"params": params})
        return call(x, method=lambda m, x: m.encoder(x, segments, train=False))[0]

    x = np.random.default_rng(0).normal(size=(1, 9, E)).astype(np.float32)
    moved = jax.jit(jax.jacobian(lambda x: jnp.sum(keys(x), -1)))(x)[:, 0]
    t, own = np.arange(9), segments[0][:, None] == segments[0]
    near = own & (np.abs(t[:, None] - t) <= 2)  # 1 + 2 (3 - 1) columns
    np.testing.assert_array_equal(np.abs(moved).max(-1) > 0, near)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sentence_gets_the_same_logits_alone_padded_and_packed(variant):
    model, params = tiny(**VARIANTS[variant])
    alone = logits(model, params, rows(PAIRS[:1]))[0]
    padded, packed = (logits(model, params, batch) for batch in (PADDED, PACKED))
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(padded[0, :5], alone)
    close(packed[0, :5], alone)
    close(packed[1, 4:9], alone)
    close(packed[0, 5:9], padded[1, :4])


def decoded(model, params, batch, tokens, parents=lambda t: None):
    """Logits [B, W, T, V] of decoding ``tokens`` [B, W, T] step by step."""
    call = functools.partial(model.apply, {"params": params})
    source = batch.source, batch.source_segments
    memory = jax.jit(functools.partial(call, train=False, method="encode"))(*source)
    size = dict(width=tokens.shape[1], max_length=tokens.shape[2])
    cache = call(memory, source[1], **size, method="init_cache")
    step = jax.jit(functools.partial(call, method="step"))
    steps = []
    for t in range(tokens.shape[2]):
        if parents(t) is not None:
            cache = cache.select(parents(t))
        y, cache = step(tokens[:, :, t], cache)
        steps.append(y)
    return np.stack(steps, axis=2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_decoding_with_the_cache_equals_the_full_forward_pass(variant):
    model, params = tiny(**VARIANTS[variant])
    cached = decoded(model, params, PADDED, PADDED.target_inputs[:, None])[:, 0]
    wanted = logits(model, params, PADDED)
    np.testing.assert_allclose(cached, wanted, atol=1e-5)


def test_a_hypothesis_goes_on_from_the_parent_that_select_names():
    model, params = tiny()
    both = np.stack([PADDED.target_inputs, np.roll(PADDED.target_inputs, 3, 1)], 1)
    swap = np.array([[1, 0], [0, 0]])
    cached = decoded(model, params, PADDED, both, lambda t: swap if t == 4 else None)
    for row, parents in enumerate(swap):
        for w, parent in enumerate(parents):
            tokens = np.concatenate([both[:, parent, :4], both[:, w, 4:]], axis=1)
            wanted = logits(model, params, PADDED._replace(target_inputs=tokens))[row]
            np.testing.assert_allclose(cached[row, w, 4:], wanted[4:], atol=1e-5)


def test_a_beam_holds_hypotheses_of_the_score_that_the_model_gives_them():
    model, params = tiny()
    (tokens, scores, lengths), *_ = decode(
        model, params, [pair[0] for pair in PAIRS], beam=3, length_penalty=0.0, offset=2
    )
    for hypothesis, score, length in zip(tokens, scores, lengths, strict=True):
        labels = hypothesis[:length]
        batch = rows([(PAIRS[0][0], labels)])
        inputs = np.concatenate([[[1]], labels[None, :-1]], axis=1).astype(np.int32)
        y = logits(model, params, batch._replace(target_inputs=inputs))[0]
        gains = jax.nn.log_softmax(y)[np.arange(length), labels]
        assert gains.sum() == pytest.approx(score, abs=1e-4)


def test_the_audit_passes():
    model, params = tiny(decoder_kernels=(3, 4))  # so that the last sees the first
    report = audit_transformer(model, params, show=False)
    assert report.passed, report
    assert all(check.measured is not None for check in report)


def test_layers_that_attend_are_those_that_are_named():
    model, params = tiny(attention_layers=(-1,))
    watched = jax.jit(
        functools.partial(model.apply, train=False, mutable=["intermediates"])
    )
    _, kept = watched({"params": params}, PADDED)
    ((layer, of_layer),) = kept["intermediates"]["decoder"].items()
    (weights,) = of_layer["cross_attention"]["weights"]
    assert layer == "layer_1" and weights.shape == (2, 1, 9, 9)
    np.testing.assert_allclose(weights[0, 0].sum(-1), 1.0, rtol=1e-5)
    assert not weights[0, ..., 5:].any()


ONE = dict(encoder_widths=(8,))  # one layer of the encoder; the decoder keeps two


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradients(model, params):
    def total(params):
        rngs = {"dropout": jax.random.key(0)}
        y = model.apply({"params": params}, PADDED, train=True, rngs=rngs)
        return jnp.sum(jnp.sin(y))

    return jax.value_and_grad(total)(params)


def test_gradients_of_the_encoder_are_scaled_by_the_attention_layers():
    """Of two layers: by 1 / 2, or 1 / 4; its token vectors have a way round it."""
    _, whole = loss_and_gradients(*tiny(**ONE, encoder_gradient="sum"))
    for rule, factor in (("half_mean", 1 / 4), ("mean", 1 / 2)):
        _, scaled = loss_and_gradients(*tiny(**ONE, encoder_gradient=rule))
        for part, by in (("encoder", factor), ("decoder", 1.0)):
            jax.tree.map(
                lambda a, b, by=by: np.testing.assert_allclose(a, by * b, atol=1e-5),
                *(scaled[part], whole[part]),
            )


def test_what_is_computed_again_changes_neither_loss_nor_gradients():
    """The dropout in it included."""
    kept, again = (loss_and_gradients(*tiny(**ONE, remat=r)) for r in ("none", "full"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), kept, again)


def test_bfloat16_activations_give_float32_logits_near_the_exact_ones():
    model, params = tiny()
    half = ConvSeq2Seq(dataclasses.replace(model.cfg, dtype="bfloat16"))
    rough, exact = (logits(m, params, PADDED) for m in (half, model))
    assert rough.dtype == np.float32
    assert 1e-4 < np.abs(rough - exact).max() / exact.std() < 0.1


LIVE = {  # see tests/test_knobs.py
    **dict.fromkeys(("dtype", "remat", "init", "positions", "tie"), {}),
    "attention_projections": {},
    "embedding_width": 7,
    "output_width": 7,
    "encoder_widths": (6,),
    "decoder_widths": (6,),
    "encoder_kernels": (5,),
    "decoder_kernels": (4,),
    "attention_layers": dict(decoder_widths=(8, 8), attention_layers=(0,)),
    "length_scale": False,
    "weight_norm": False,
    "max_length": 20,
    "source_vocab": 12,
    "target_vocab": 12,
}
APART = {
    "layout": "of one choice",
    "attention": "tests/test_knobs.py",
    "dropout": "acts on initial values and while training, see above",
    "encoder_gradient": "acts on gradients alone, see above",
}


def test_every_knob_changes_the_programs_of_its_role():
    fields = {field.name for field in dataclasses.fields(Config)}
    assert LIVE.keys() | APART.keys() == fields
    one = dict(encoder_widths=(8,), decoder_widths=(8,), decoder_kernels=(3,))
    base = Config(**NARROW | dict(output_width=E) | one)
    batch = jax.tree.map(lambda x: np.ones((2, 3), np.int32), translation.example())
    assert_roles(base, LIVE, ConvSeq2Seq, batch)


REFUSED = {
    r"model.layout='scanned'; choose from \(unrolled\)": dict(layout="scanned"),
    r"model.encoder_widths=\(\) must be numbers": dict(encoder_widths=()),
    r"model.decoder_kernels=\(0,\) must be numbers": dict(decoder_kernels=(0,)),
    "model.encoder_kernels=.* one for each of model": dict(encoder_kernels=(3, 3, 3)),
    "model.attention_layers=.* from -2 to 1": dict(attention_layers=(2,)),
    "model.attention_projections='shared' needs": dict(attention_projections="shared"),
    "model.tie='two_way' needs model.output_width=5": dict(tie="two_way"),
    "model.tie='three_way' needs one vocabulary": dict(
        tie="three_way", output_width=E, target_vocab=12
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_together_is_refused_in_one_line(words):
    values = section(Config).to_dict() | NARROW | REFUSED[words]
    with pytest.raises(ConfigError, match=words) as caught:
        build(Config, values)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="rows of 9 tokens are longer than model.max"):
        logits(*tiny(max_length=8), PADDED)
