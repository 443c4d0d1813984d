"""BLIP-2 of transformers with a GPT-2 as its language model, and ours."""

from types import SimpleNamespace

import numpy as np

from tests.interop.test_qformer_parity import LENGTHS, QUERYING, REAL, VISION
from tests.interop.text_reference import (
    NOT_ASKED,
    assert_parity,
    make,
    mean_cross_entropy,
    torch,
)
from tests.layers.weights import normal
from tfm_jax.config import build, widened, with_defaults
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.interop.maps.gpt import GPT2
from tfm_jax.interop.maps.qformer import BLIP2
from tfm_jax.interop.tensors import storage
from tfm_jax.models import qformer
from tfm_jax.models.blip2 import Blip2, Config

V, Q, IMAGE = 31, 4, 30
SIZES = dict(
    vision=dict(width=20, heads=2, ffn_width=28, depth=2, activation="gelu")
    | dict(image_size=(12,), patch_size=(4,)),
    text=dict(width=24, heads=3, ffn_width=40, depth=3),
    lm=dict(width=16, heads=2, ffn_width=28, depth=2, max_length=16),
    queries=Q,
    vocab=V,
)
REFERENCE = dict(
    vision_config=VISION,
    qformer_config=QUERYING | dict(use_qformer_text_input=False),
    text_config=dict(model_type="gpt2", n_embd=16, n_head=2, n_layer=2, n_inner=28)
    | dict(n_positions=16, vocab_size=V, bos_token_id=1, eos_token_id=1),
    num_query_tokens=Q,
    image_token_index=IMAGE,
)


def to_params(cfg, tensors):
    """Tensors by the reference's names as our tree."""
    language, theirs = {}, {}
    for name, x in tensors.items():
        if name.startswith("language_model."):
            language[name.removeprefix("language_model.")] = x
        else:
            theirs[name] = x
    kernel, bias = (theirs.pop(f"language_projection.{x}") for x in ("weight", "bias"))
    reader = widened(cfg, qformer.Config)
    return {
        **storage.to_params(BLIP2.table(reader), theirs),
        "projection": {"kernel": kernel.T, "bias": bias},
        "lm": GPT2.to_params(cfg.language(), language),
    }


def test_logits_loss_and_every_gradient_are_those_of_transformers():
    """That puts the queries where a text has tokens for them: here in front of it.

    Deviates: the reference would also learn the first token, behind the last query. It
    has no label here, since our rows all begin with the same one.
    """
    model = make("Blip2ForConditionalGeneration", **REFERENCE).double()
    tokens = np.random.default_rng(0).integers(1, IMAGE, REAL.shape) * REAL
    labels = np.where(REAL, tokens, NOT_ASKED)
    labels[:, 0] = NOT_ASKED
    front = ((0, 0), (Q, 0))
    images = normal(9, len(LENGTHS), 12, 12, 3)
    pixels = torch.tensor(np.moveaxis(images, -1, 1))
    outputs = model(
        pixel_values=pixels.double(),
        input_ids=torch.tensor(np.pad(tokens, front, constant_values=IMAGE)),
        attention_mask=torch.tensor(np.pad(REAL, front, constant_values=True)).long(),
        labels=torch.tensor(np.pad(labels, front, constant_values=NOT_ASKED)),
    )
    cfg = build(Config, with_defaults(Config, SIZES))
    state = {name: x.float().numpy() for name, x in model.state_dict().items()}
    state.pop("language_model.lm_head.weight")
    ours = SimpleNamespace(config=cfg, model=Blip2(cfg), params=to_params(cfg, state))
    segments, one = REAL.astype(np.int32), np.ones(len(LENGTHS), np.int32)
    batch = ImageTextBatch(
        *(tokens, segments, None, None, None, None),
        *(images[:, None], one, segments),
    )
    after = np.pad(labels[:, 1:], ((0, 0), (0, 1)), constant_values=NOT_ASKED)
    assert_parity(
        *(model, outputs.loss, [outputs.logits[:, Q:]], ours, batch, to_params),
        lambda logits: mean_cross_entropy(logits, after),
    )
