"""MarianMT of transformers and the imported model compute the same."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.interop.reference import EOS, PAD, SHAPES, make, sentences, torch
from tfm_jax.data.batch import PairBatch
from tfm_jax.decode.search import decode
from tfm_jax.interop import load_huggingface
from tfm_jax.interop.maps import marian
from tfm_jax.objectives import translation

LENGTHS = (7, 1, 4, 11)  # of the sources: padding, and a row that is EOS alone
LABELS = (5, 1, 9, 3)


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported from the folder the reference wrote)."""
    model = make(request.param)
    folder = tmp_path_factory.mktemp("marian")
    model.generation_config.bad_words_ids = [[PAD]]
    model.save_pretrained(folder)
    return model, load_huggingface(folder)


def labels(config):
    """[B, T] int64, each row ends in EOS and is filled with -100."""
    rng = np.random.default_rng(1)
    ids = np.full((len(LABELS), max(LABELS)), -100)
    for row, length in enumerate(LABELS):
        ids[row, : length - 1] = rng.integers(1, PAD, length - 1)
        ids[row, length - 1] = EOS
    return ids


def shifted(ids):
    """What the decoder is fed to be asked for the labels ``ids``."""
    ids = np.where(ids == -100, PAD, ids)
    return np.concatenate([np.full((len(ids), 1), PAD), ids[:, :-1]], axis=1)


def ask(model, source, target):
    """Keyword arguments for the reference."""
    return dict(
        input_ids=torch.tensor(source),
        attention_mask=torch.tensor(source != PAD).long(),
        **target,
    )


def test_logits_are_equal_at_every_target_position(pair):
    model, imported = pair
    source = sentences(model.config, LENGTHS)
    target = shifted(labels(model.config))
    with torch.no_grad():
        decoder = {"decoder_input_ids": torch.tensor(target)}
        expected = model(**ask(model, source, decoder)).logits.numpy()
    found = imported.logits(source=source, target=target)
    assert found.shape == expected.shape and expected.std() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_loss_and_every_gradient_are_equal(pair):
    model, imported = pair
    source, wanted = sentences(model.config, LENGTHS), labels(model.config)
    for module in model.modules():  # the reference gives inputs of padding no gradient
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    model.zero_grad()
    model.final_logits_bias.requires_grad_(True)
    loss = model(**ask(model, source, {"labels": torch.tensor(wanted)})).loss
    loss.backward()
    grads = {n: p.grad.numpy() for n, p in model.named_parameters() if p.requires_grad}
    grads[marian.BIAS] = model.final_logits_bias.grad.numpy()
    expected = flatten_dict(marian.MARIAN.to_params(imported.config, grads), sep="/")

    real = (wanted != -100).astype(np.int32)
    segments = (source != PAD).astype(np.int32)
    batch = PairBatch(source, segments, None, shifted(wanted), wanted, real, None)

    def mean_loss(params):
        def apply(params, batch, *, rng, train):
            return imported.model.apply({"params": params}, batch, train=train)

        total, weight = translation.loss_sum(apply, params, batch, train=False)
        return total / weight

    step = jax.jit(jax.value_and_grad(mean_loss))
    found_loss, found = jax.device_get(step(imported.params))
    np.testing.assert_allclose(found_loss, loss.item(), rtol=0, atol=1e-5)
    found = flatten_dict(found, sep="/")
    assert set(found) == set(expected)
    largest = max(np.abs(x).max() for x in expected.values())
    for path, grad in expected.items():
        # softmax does not see the key bias: all of its gradient is rounding
        noise = 1e-6 * largest if path.endswith("key/bias") else 0.0
        scale = np.abs(grad).max()
        error = np.abs(found[path] - grad).max()
        assert error <= 1e-4 * scale + noise, f"{path}: {error} of {scale}"


@pytest.mark.parametrize(
    "pair, beam, force_eos",
    [
        ("swish, one table", 4, True),
        ("relu, tied output", 1, True),
        ("gelu, nothing tied", 4, False),
    ],
    indirect=["pair"],
)
def test_decoding_finds_what_generate_finds(pair, beam, force_eos):
    model, imported = pair
    offset = 3
    source = sentences(model.config, LENGTHS, seed=2)
    found = decode(
        imported.model,
        imported.params,
        [row[row != PAD] for row in source],
        beam=beam,
        length_penalty=0.0,
        offset=offset,
        batch_sentences=len(source),
        special=imported.special,
        force_eos=force_eos,
    )
    left = []  # how far from its limit each hypothesis ends
    for row, (tokens, scores, lengths) in zip(source, found, strict=True):
        length = int((row != PAD).sum())
        best = model.generate(
            **ask(model, row[None, :length], {}),
            num_beams=beam,
            num_return_sequences=beam,
            do_sample=False,
            length_penalty=0.0 if beam > 1 else None,
            early_stopping=False,
            max_length=None,
            max_new_tokens=length + offset,
            forced_eos_token_id=EOS if force_eos else None,
            return_dict_in_generate=True,
            output_scores=True,
        )
        expected = best.sequences.numpy()[:, 1:]
        for i in range(beam):
            kept = int((expected[i] != PAD).sum())
            assert tokens[i, : lengths[i]].tolist() == expected[i, :kept].tolist()
            left.append(length + offset - kept)
        if beam > 1:
            np.testing.assert_allclose(
                scores, best.sequences_scores.numpy(), rtol=0, atol=2e-5
            )
    assert max(left) > 0
