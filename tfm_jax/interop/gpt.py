"""GPT-1, GPT-2 and GPT-Neo: name maps and configurations, one table for both ways.

Source: Radford et al. 2018 and 2019, Black et al. 2021, as ``OpenAIGPTLMHeadModel``,
``GPT2LMHeadModel`` and ``GPTNeoForCausalLM`` of transformers 5; the head "classify"
with one label as its ``...DoubleHeadsModel``, each choice being a row of its own.
GPT-1 and GPT-2 store query, key and value as one matrix, and matrices [in, out].
Deviates from the reference: GPT-1's dropout of whole tables, as in its released code,
    is not told to transformers, which drops the sums of vectors; the last token of a
    row is classified, which is where ``mc_token_ids`` has to point.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping

import numpy as np

from tfm_jax.config import build
from tfm_jax.data.batch import TextBatch
from tfm_jax.interop import fields, names, windows
from tfm_jax.interop.problems import listed
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.models import gpt

BUFFERS = re.compile(r"(.*\.)?attn\.(attention\.)?(masked_)?bias|(.*\.)?position_ids")
_LAYER = re.compile(r"stack/layer_(\d+)/(.+)/(\w+)")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "table": "weight"}
_FUSED = {"query": 0, "key": 1, "value": 2}
# their fields of the head "classify" that we cannot vary
_SUMMARY = dict(
    summary_type="cls_index",
    summary_use_proj=True,
    summary_activation=None,
    summary_proj_to_labels=True,
)
_HEADS = {  # parameters that stand on the model, their matrices are [out, in]
    "output/kernel": "lm_head.weight",
    "classify/out/kernel": "multiple_choice_head.summary.weight",
    "classify/out/bias": "multiple_choice_head.summary.bias",
}
_SUMMARY_DROPOUT, _SUMMARY_RATE = "summary_first_dropout", 0.1  # and its default


@dataclasses.dataclass(frozen=True)
class Reference:
    """How transformers calls and stores one family.

    Attributes:
        model_type: theirs. architectures: our head -> their class.
        fields: our field -> theirs.
        activation: their field for it; activations: ours -> their names.
        values: our fields that they cannot vary -> the value.
        fixed: their fields that we cannot vary -> the value, which is the default.
        defaults: of fields, for what a file leaves out.
        outside: our module -> theirs, without ``transformer.``.
        layer: module of one of our layers -> theirs.
        transposed: matrices are [out, in].
        read, write: what turns their fields into ours and back where one of them is
            not one of ours.
    """

    model_type: str
    architectures: Mapping[str, str]
    fields: Mapping[str, str]
    activation: str
    activations: Mapping[str, tuple[str, ...]]
    values: Mapping[str, object]
    fixed: Mapping[str, object]
    defaults: Mapping[str, object]
    outside: Mapping[str, str]
    layer: Mapping[str, str]
    transposed: bool
    read: Callable[[dict], dict] = lambda values: {}
    write: Callable[[gpt.Config], dict] = lambda cfg: {}

    def read_config(self, values: dict) -> gpt.Config:
        """The model that the content of a ``config.json`` describes.

        What the file leaves out has the default of transformers.

        Raises: ValueError listing every field that has no counterpart.
        """
        values = dict(self.fixed) | dict(self.defaults) | values
        heads = {theirs: ours for ours, theirs in self.architectures.items()}
        head = heads.get(fields.architecture(values), "lm")
        theirs = {ours: (name,) for ours, name in self.fields.items()}
        if head == "classify":
            values = {_SUMMARY_DROPOUT: _SUMMARY_RATE} | _SUMMARY | values
            theirs["head_dropout"] = (_SUMMARY_DROPOUT,)
        inner = self.fields.get("ffn_width", "")
        if inner and values[inner] is None:
            values[inner] = _four_times(values[self.fields["width"]])
        fields.check(values, gpt.Config, theirs)
        expected = {"model_type": self.model_type} | dict(self.fixed)
        expected |= _SUMMARY if head == "classify" else {}
        problems = fields.fixed(values, expected)
        activations = fields.inverse(self.activations)
        activation = fields.chosen(values, self.activation, activations, problems)
        fields.refuse(problems)
        ours = {ours: values[name] for ours, (name,) in theirs.items()}
        ours |= dict(self.values) | self.read(values) | {"activation": activation}
        ours.setdefault("ffn_width", 4 * ours["width"])
        if head == "classify":
            ours |= dict(head=head, labels=1)
        return build(gpt.Config, fields.complete(gpt.Config, ours))

    def write_config(self, cfg: gpt.Config) -> dict:
        """The content of ``config.json`` for ``cfg``, token ids apart.

        Raises: ValueError listing every field that the reference cannot represent.
        """
        told = fields.of_tensors(gpt.Config)
        problems = [
            f"model.{name}={getattr(cfg, name)!r} must be {expected!r}"
            for name, expected in self.values.items()
            if name in told and getattr(cfg, name) != expected
        ]
        if cfg.activation not in self.activations:
            problems.append(
                f"model.activation={cfg.activation!r}; "
                f"choose from {tuple(self.activations)}"
            )
        sizes = {cfg.head_key_size * cfg.heads, cfg.head_value_size * cfg.heads}
        if sizes != {cfg.width}:
            problems.append("model.key_size and model.value_size must be width / heads")
        if "ffn_width" not in self.fields and cfg.ffn_width != 4 * cfg.width:
            problems.append(f"model.ffn_width={cfg.ffn_width} must be 4 * width")
        if cfg.head not in self.architectures:
            problems.append(
                f"model.head={cfg.head!r}; choose from {tuple(self.architectures)}"
            )
        if cfg.head == "classify" and cfg.labels != 1:
            problems.append(f"model.labels={cfg.labels} must be 1")
        others = {}
        try:
            others = self.write(cfg)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            called = f"transformers' {self.model_type}"
            raise ValueError(f"{called} has no counterpart: {listed(problems)}")
        if cfg.head == "classify":
            others |= _SUMMARY | {_SUMMARY_DROPOUT: cfg.head_dropout}
        return {
            "model_type": self.model_type,
            "architectures": [self.architectures[cfg.head]],
            **self.fixed,
            **{theirs: getattr(cfg, ours) for ours, theirs in self.fields.items()},
            **others,
            self.activation: self.activations[cfg.activation][0],
            "dtype": "float32",
        }

    def to_params(self, cfg: gpt.Config, tensors) -> dict:
        """Nested dict of float32 parameters for the unrolled ``Gpt(cfg)``.

        Raises: ValueError listing all that is unknown, missing or does not fit.
        """
        rest = {name: x for name, x in tensors.items() if not BUFFERS.fullmatch(name)}
        return names.to_params(self.table(cfg), rest)

    def to_tensors(self, cfg: gpt.Config, params) -> dict[str, np.ndarray]:
        """The inverse of ``to_params``, of any layout."""
        return names.to_tensors(self.table(cfg), to_unrolled(params))

    def table(self, cfg: gpt.Config) -> dict[str, names.Stored]:
        """Path of each parameter of ``Gpt(cfg)`` to its place in the reference."""
        model = gpt.Gpt(dataclasses.replace(cfg, layout="unrolled"))
        return {
            path: self._stored(path, shape, cfg)
            for path, shape in names.shapes(model, example()).items()
        }

    def _stored(self, path, ours, cfg):
        layer = _LAYER.fullmatch(path)
        if path in _HEADS:
            shape = ours[::-1]
            return names.Stored((_HEADS[path],), shape, ours, transposed=len(ours) > 1)
        if layer:
            index, module, leaf = layer.groups()
            name = f"h.{index}.{self.layer[module]}.{_LEAVES[leaf]}"
        else:
            module, _, leaf = path.rpartition("/")
            name = f"{self.outside[module]}.{_LEAVES[leaf]}"
        called = (f"transformer.{name}", name)  # the second: files of the bare model
        if path == "embedding/table" and cfg.tie_embeddings:
            called = (*called, "lm_head.weight")
        if leaf == "table":
            return names.Stored(called, ours, ours)
        inputs = 2 if module.endswith("/out") else 1  # [H, K] are contracted
        inputs = inputs if leaf == "kernel" else 0
        shape = math.prod(ours[:inputs]), math.prod(ours[inputs:])
        shape = shape if leaf == "kernel" else shape[1:]
        if not self.transposed and module.rpartition("/")[2] in _FUSED:
            part = _FUSED[module.rpartition("/")[2]]
            whole = (*shape[:-1], 3 * shape[-1])
            return names.Stored(called, whole, ours, part=(part, 3))
        if leaf == "kernel" and self.transposed:
            return names.Stored(called, shape[::-1], ours, transposed=True)
        return names.Stored(called, shape, ours)


def example() -> TextBatch:
    """The smallest batch, for shapes only."""
    ones = np.ones((1, 2), np.int32)
    return TextBatch(ones, ones)


def _four_times(width):
    return 4 * width if type(width) is int else width


def _read_scale(values):
    fields.refuse(fields.fixed_type(values, "scale_attn_weights", bool))
    return {"score": "scaled_dot" if values["scale_attn_weights"] else "dot"}


def _write_scale(cfg):
    scores = {"scaled_dot": True, "dot": False}
    if cfg.score not in scores:
        raise ValueError(f"model.score={cfg.score!r}; choose from {tuple(scores)}")
    return {"scale_attn_weights": scores[cfg.score]}


_VALUES = dict(
    norm_kind="layernorm",
    residual=True,
    positions="learned",
    mask_style="before",
    activation_dropout=0.0,
)
_GPT_FIELDS = {
    "width": "n_embd",
    "heads": "n_head",
    "depth": "n_layer",
    "vocab": "vocab_size",
    "max_length": "n_positions",
    "norm_eps": "layer_norm_epsilon",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
    "embedding_dropout": "embd_pdrop",
    "tie_embeddings": "tie_word_embeddings",
}
_DEFAULTS = dict(
    n_embd=768,
    n_head=12,
    n_layer=12,
    layer_norm_epsilon=1e-5,
    resid_pdrop=0.1,
    attn_pdrop=0.1,
    embd_pdrop=0.1,
    tie_word_embeddings=True,
)
_FUSED_LAYER = {
    "self_attention/query": "attn.c_attn",
    "self_attention/key": "attn.c_attn",
    "self_attention/value": "attn.c_attn",
    "self_attention/out": "attn.c_proj",
    "ffn/up": "mlp.c_fc",
    "ffn/down": "mlp.c_proj",
}
_PRE = {
    "self_attention_residual/norm_before": "ln_1",
    "ffn_residual/norm_before": "ln_2",
}
_OUTSIDE = {"embedding": "wte", "position": "wpe", "stack/final_norm": "ln_f"}

GPT1 = Reference(
    model_type="openai-gpt",
    architectures={
        "lm": "OpenAIGPTLMHeadModel",
        "classify": "OpenAIGPTDoubleHeadsModel",
    },
    fields=_GPT_FIELDS,
    activation="afn",
    activations={  # its "gelu" is the approximation
        "gelu_tanh": ("gelu",),
        "relu": ("relu",),
        "silu": ("silu", "swish"),
    },
    values=_VALUES
    | dict(norm="post", score="scaled_dot", windows=(), biases="all")
    | dict(residual_init="plain"),
    fixed={},
    defaults=_DEFAULTS | dict(vocab_size=40478, n_positions=512, afn="gelu"),
    outside={"embedding": "tokens_embed", "position": "positions_embed"},
    layer=_FUSED_LAYER
    | {
        "self_attention_residual/norm_after": "ln_1",
        "ffn_residual/norm_after": "ln_2",
    },
    transposed=False,
)
GPT2 = Reference(
    model_type="gpt2",
    architectures={
        "lm": "GPT2LMHeadModel",
        "classify": "GPT2DoubleHeadsModel",
    },
    fields=_GPT_FIELDS | {"ffn_width": "n_inner"},
    activation="activation_function",
    activations=fields.ACTIVATIONS,
    values=_VALUES | dict(norm="pre", windows=(), biases="all"),
    fixed=dict(scale_attn_by_inverse_layer_idx=False, add_cross_attention=False),
    defaults=_DEFAULTS
    | dict(vocab_size=50257, n_positions=1024, n_inner=None)
    | dict(activation_function="gelu_new", scale_attn_weights=True),
    outside=_OUTSIDE,
    layer=_FUSED_LAYER | _PRE,
    transposed=False,
    read=_read_scale,
    write=_write_scale,
)
NEO = Reference(
    model_type="gpt_neo",
    architectures={"lm": "GPTNeoForCausalLM"},
    fields={
        "width": "hidden_size",
        "heads": "num_heads",
        "depth": "num_layers",
        "vocab": "vocab_size",
        "max_length": "max_position_embeddings",
        "ffn_width": "intermediate_size",
        "norm_eps": "layer_norm_epsilon",
        "dropout": "resid_dropout",
        "attention_dropout": "attention_dropout",
        "embedding_dropout": "embed_dropout",
        "tie_embeddings": "tie_word_embeddings",
    },
    activation="activation_function",
    activations=fields.ACTIVATIONS,
    values=_VALUES
    | dict(norm="pre", score="dot", biases="not_qkv", residual_init="plain"),
    fixed={},
    defaults=dict(
        tie_word_embeddings=True,
        hidden_size=2048,
        num_heads=16,
        num_layers=24,
        vocab_size=50257,
        max_position_embeddings=2048,
        intermediate_size=None,
        layer_norm_epsilon=1e-5,
        resid_dropout=0.0,
        attention_dropout=0.0,
        embed_dropout=0.0,
        activation_function="gelu_new",
        attention_types=[[["global", "local"], 12]],
        window_size=256,
    ),
    outside=_OUTSIDE,
    layer={
        "self_attention/query": "attn.attention.q_proj",
        "self_attention/key": "attn.attention.k_proj",
        "self_attention/value": "attn.attention.v_proj",
        "self_attention/out": "attn.attention.out_proj",
        "ffn/up": "mlp.c_fc",
        "ffn/down": "mlp.c_proj",
    }
    | _PRE,
    transposed=True,
    read=windows.read,
    write=windows.write,
)
