"""MarianMT in transformers: tables of fields and of modules, each read both ways.

Source: Junczys-Dowmunt et al. 2018, arXiv:1804.00344, as ``MarianMTModel`` of
transformers 5, whose Post-LN layers are those of Vaswani et al. 2017.
Deviates from Vaswani et al. 2017, and so do the models read here:
    - all sines of a position come before all cosines (``positions`` sinusoidal_halves);
    - layer norms have epsilon 1e-5;
    - the logits have a bias;
    - decoding starts with the padding token, which is then a real target input;
    - the activation may be SiLU (all of OPUS-MT) or GELU instead of ReLU;
    - dropout on attention weights and activations, where the configuration has it.
Deviates from the reference: the row of the padding token in an embedding table is
    trained like any other, there it gets no gradient as an input; layers are not
    dropped as a whole (``encoder_layerdrop``, ``decoder_layerdrop`` must be 0).
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from tfm_jax.config import build
from tfm_jax.decode.search import TokenIds
from tfm_jax.interop.imported import Imported
from tfm_jax.interop.maps import generation
from tfm_jax.interop.problems import cut
from tfm_jax.interop.tensors import fields, storage
from tfm_jax.interop.tensors.name_map import NameMap
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.models import transformer
from tfm_jax.objectives import translation
from tfm_jax.ops.positions import sinusoid_halves

# our field -> the reference's; where those are several, they must be equal
FIELDS = {
    "width": ("d_model",),
    "heads": ("encoder_attention_heads", "decoder_attention_heads"),
    "ffn_width": ("encoder_ffn_dim", "decoder_ffn_dim"),
    "encoder_depth": ("encoder_layers",),
    "decoder_depth": ("decoder_layers",),
    "source_vocab": ("vocab_size",),
    "target_vocab": ("decoder_vocab_size",),
    "max_length": ("max_position_embeddings",),
    "embedding_scale": ("scale_embedding",),
    "dropout": ("dropout",),
    "attention_dropout": ("attention_dropout",),
    "activation_dropout": ("activation_dropout",),
}
ACTIVATIONS = fields.ACTIVATIONS | {"silu": ("swish", "silu")}
# our tie -> share_encoder_decoder_embeddings, tie_word_embeddings
TIES = {"three_way": (True, True), "two_way": (False, True), "none": (False, False)}
FIXED = dict(  # our fields that the reference cannot vary
    norm="post",
    norm_kind="layernorm",
    norm_eps=1e-5,
    residual=True,
    positions="sinusoidal_halves",
    score="scaled_dot",
    mask_style="before",
    windows=(),
    biases="all",
)
THEIRS_FIXED = dict(  # the reference's fields that we cannot vary
    model_type="marian",
    is_encoder_decoder=True,
    encoder_layerdrop=0.0,
    decoder_layerdrop=0.0,
)
DEFAULTS = dict(  # of the reference, for what older files leave out
    THEIRS_FIXED,
    d_model=1024,
    encoder_attention_heads=16,
    decoder_attention_heads=16,
    encoder_ffn_dim=4096,
    decoder_ffn_dim=4096,
    encoder_layers=12,
    decoder_layers=12,
    vocab_size=58101,
    decoder_vocab_size=None,  # vocab_size
    max_position_embeddings=1024,
    scale_embedding=False,
    dropout=0.1,
    attention_dropout=0.0,
    activation_dropout=0.0,
    activation_function="gelu",
    pad_token_id=58100,
    decoder_start_token_id=58100,
    share_encoder_decoder_embeddings=True,
    tie_word_embeddings=True,
    eos_token_id=0,
    forced_eos_token_id=0,
)

# module of one of our layers -> module of the reference's layer
LAYER = {
    "self_attention/query": "self_attn.q_proj",
    "self_attention/key": "self_attn.k_proj",
    "self_attention/value": "self_attn.v_proj",
    "self_attention/out": "self_attn.out_proj",
    "self_attention_residual/norm_after": "self_attn_layer_norm",
    "cross_attention/query": "encoder_attn.q_proj",
    "cross_attention/key": "encoder_attn.k_proj",
    "cross_attention/value": "encoder_attn.v_proj",
    "cross_attention/out": "encoder_attn.out_proj",
    "cross_attention_residual/norm_after": "encoder_attn_layer_norm",
    "ffn/up": "fc1",
    "ffn/down": "fc2",
    "ffn_residual/norm_after": "final_layer_norm",
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_SOURCE = "model.encoder.embed_tokens.weight"
_TARGET = "model.decoder.embed_tokens.weight"
_HEAD = "lm_head.weight"
OUTSIDE = {  # by the tie, because tied tables are one parameter
    "three_way": {"embedding/table": ("model.shared.weight", _SOURCE, _TARGET, _HEAD)},
    "two_way": {
        "source_embedding/table": (_SOURCE,),
        "target_embedding/table": (_TARGET, _HEAD),
    },
    "none": {
        "source_embedding/table": (_SOURCE,),
        "target_embedding/table": (_TARGET,),
        "output/kernel": (_HEAD,),
    },
}
BIAS = "final_logits_bias"
# computed here; the reference never writes them, but older files hold them
POSITIONS = (
    "model.encoder.embed_positions.weight",
    "model.decoder.embed_positions.weight",
)

_OURS = re.compile(r"(encoder|decoder)/layer_(\d+)/(.+)/(\w+)")


@dataclasses.dataclass(frozen=True)
class MarianMap(NameMap):
    """How transformers calls and stores an encoder-decoder Transformer."""

    imported: ClassVar[type] = Imported

    def read_config(self, values: dict) -> Any:
        values = DEFAULTS | values
        if values["decoder_vocab_size"] is None:
            values["decoder_vocab_size"] = values["vocab_size"]
        fields.check(values, transformer.Config, FIELDS)
        problems = fields.fixed(values, THEIRS_FIXED)
        for called in FIELDS.values():
            if len({values[name] for name in called}) > 1:
                given = " and ".join(f"{name}={values[name]}" for name in called)
                problems.append(f"{given} must be equal")
        both = values["share_encoder_decoder_embeddings"], values["tie_word_embeddings"]
        tie = next((ours for ours, theirs in TIES.items() if theirs == both), "")
        if not tie:
            share, tied = map(cut, both)
            problems.append(
                f"share_encoder_decoder_embeddings={share} with "
                f"tie_word_embeddings={tied}; choose from {tuple(TIES.values())}"
            )
        names_of = fields.inverse(ACTIVATIONS)
        activation = fields.chosen(values, "activation_function", names_of, problems)
        fields.refuse(problems)
        ours = {ours: values[called[0]] for ours, called in FIELDS.items()} | FIXED
        ours |= dict(activation=activation, tie=tie, output_bias=True)
        return build(transformer.Config, fields.complete(transformer.Config, ours))

    def write_config(self, cfg: Any) -> dict:
        problems = [
            f"model.{name}={getattr(cfg, name)!r} must be {expected!r}"
            for name, expected in FIXED.items()
            if getattr(cfg, name) != expected
        ]
        if cfg.activation not in ACTIVATIONS:
            problems.append(
                f"model.activation={cfg.activation!r}; choose from {tuple(ACTIVATIONS)}"
            )
        problems += fields.head_sizes(cfg)
        fields.refuse(problems, "MarianMT")
        share, tie = TIES[cfg.tie]
        return THEIRS_FIXED | {
            **{
                name: getattr(cfg, ours)
                for ours, them in FIELDS.items()
                for name in them
            },
            "architectures": ["MarianMTModel"],
            "activation_function": ACTIVATIONS[cfg.activation][0],
            "share_encoder_decoder_embeddings": share,
            "tie_word_embeddings": tie,
            "dtype": "float32",
        }

    def to_params(self, cfg: Any, tensors: Mapping[str, np.ndarray]) -> dict:
        rest = {name: x for name, x in tensors.items() if name not in POSITIONS}
        params = storage.to_params(self.table(cfg), rest)
        shape = cfg.max_length, cfg.width
        for name in set(POSITIONS) & set(tensors):
            stored, expected = np.asarray(tensors[name], np.float32), None
            if stored.shape == shape:  # which bounds what is computed
                expected = np.asarray(sinusoid_halves(jnp.arange(shape[0]), shape[1]))
            if expected is None or not np.allclose(stored, expected, atol=1e-3):
                raise ValueError(
                    f"{name} is not the sinusoid table [{cfg.max_length}, {cfg.width}] "
                    "that the model computes; trained positions are not Marian's"
                )
        return params

    def to_tensors(self, cfg: Any, params: Any) -> dict:
        """A model without bias gets zeros."""
        tensors = storage.to_tensors(self.table(cfg), to_unrolled(params))
        if not cfg.output_bias:
            tensors[BIAS] = np.zeros((1, cfg.target_vocab), np.float32)
        return tensors

    def read_ids(self, values: dict, decoding: dict | None) -> Any:
        special, force_eos = generation.read(DEFAULTS | values, decoding)
        return dict(special=special, force_eos=force_eos)

    def write_ids(  # type: ignore[override]  # ids of decoding, no labels
        self, special: Any = None, force_eos: bool = False
    ) -> tuple[dict, dict | None]:
        ids = generation.write(special or TokenIds(), force_eos)
        return ids, ids

    def table(self, cfg: Any) -> dict[str, storage.Stored]:
        """Path of each parameter of a model to its place in the reference."""
        model = self.family.model(dataclasses.replace(cfg, layout="unrolled"))
        shapes = storage.shapes(model, translation.example)
        return {path: _stored(cfg, path, shape) for path, shape in shapes.items()}


def _stored(cfg, path, ours):
    if path == "output_bias":
        return storage.Stored((BIAS,), (1, *ours), ours)
    if layer := _OURS.fullmatch(path):
        side, index, module, leaf = layer.groups()
        called = (f"model.{side}.layers.{index}.{LAYER[module]}.{LEAVES[leaf]}",)
    else:
        called = OUTSIDE[cfg.tie][path]
    return storage.stored(called, path, ours)


MARIAN = MarianMap("marian", transformer.FAMILY)
HUGGINGFACE = (MARIAN,)
