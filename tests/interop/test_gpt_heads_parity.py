"""GPT with a head for multiple choice and the imported models compute the same."""

import dataclasses

import numpy as np
import pytest

from tests.interop.text_reference import (
    NOT_ASKED,
    assert_parity,
    assert_round_trip,
    make,
    mean_cross_entropy,
    text,
    torch,
)
from tfm_jax.interop import load_huggingface, save_huggingface
from tfm_jax.interop.maps.gpt import GPT1, GPT2, NEO
from tfm_jax.models.gpt import Config

SIZE = dict(n_embd=16, n_head=2, n_layer=2, n_positions=16, vocab_size=23)
SHAPES = {
    "OpenAIGPTDoubleHeadsModel": (GPT1, SIZE | dict(summary_first_dropout=0.3)),
    "GPT2DoubleHeadsModel": (GPT2, SIZE | dict(tie_word_embeddings=False)),
}
RIGHT = 2  # of four choices


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported, the folder between, its name map)."""
    reference, fields = SHAPES[request.param]
    model = make(request.param, **fields)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "ln_" in path and path.endswith("weight"):
                parameter.add_(1.0)
    folder = tmp_path_factory.mktemp("choices")
    model.save_pretrained(folder)
    return model, load_huggingface(folder), folder, reference


def test_logits_both_losses_and_every_gradient_are_equal(pair):
    """Radford et al. 2018, section 3.2: that of the words counts half."""
    model, imported, _, reference = pair
    assert imported.config.head == "classify" and imported.config.labels == 1
    batch = text(imported.config.vocab)
    words = np.where(batch.segments > 0, batch.tokens, NOT_ASKED)
    wanted = model(
        input_ids=torch.tensor(batch.tokens).long(),
        attention_mask=torch.tensor(batch.segments).long(),
        mc_token_ids=torch.tensor(batch.segments.sum(-1) - 1).long(),
        labels=torch.tensor(words).long(),
        mc_labels=torch.tensor([RIGHT]),
    )

    def loss_of(y):
        choice = mean_cross_entropy(y.labels.T, np.array([RIGHT]))
        return choice + 0.5 * mean_cross_entropy(y.lm_logits[:, :-1], words[:, 1:])

    assert_parity(
        model,
        wanted.mc_loss + 0.5 * wanted.loss,
        [wanted.logits, wanted.mc_logits[:, None]],
        imported,
        batch,
        reference.to_params,
        loss_of,
        # softmax over the choices does not see what all of them have in common
        blind=("key/bias", "classify/out/bias"),
    )


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    """This class of the reference's alone writes a tied table as the head's."""
    model, imported, folder, reference = pair
    renamed = {"lm_head.weight": "transformer.tokens_embed.weight"}
    renamed = renamed if reference is GPT1 else {}
    assert_round_trip(model, imported, folder, tmp_path / "new", renamed)


def test_a_head_that_the_reference_calls_otherwise_is_refused(tmp_path):
    small = Config(width=8, heads=2, ffn_width=32, depth=1, vocab=11, head="classify")
    one = dataclasses.replace(small, labels=1, head_dropout=0.2)
    assert GPT2.read_config(GPT2.write_config(one)) == one
    for change, message in (
        (dict(summary_type="last"), "summary_type='last' must be 'cls_index'"),
        (dict(summary_activation="tanh"), "summary_activation='tanh' must be None"),
    ):
        with pytest.raises(ValueError, match=message):
            GPT2.read_config(GPT2.write_config(one) | change)
    with pytest.raises(ValueError, match="model.labels=2 must be 1"):
        save_huggingface(tmp_path / "new", {}, small)
    with pytest.raises(ValueError, match="model.head='classify'; choose from"):
        NEO.write_config(one)
