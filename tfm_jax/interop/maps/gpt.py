"""GPT-1, GPT-2 and GPT-Neo in transformers.

Source: Radford et al. 2018 and 2019, Black et al. 2021, as ``OpenAIGPTLMHeadModel``,
``GPT2LMHeadModel`` and ``GPTNeoForCausalLM`` of transformers 5; the head "classify"
with one label as its ``...DoubleHeadsModel``, each choice being a row of its own.
GPT-1 and GPT-2 store query, key and value as one matrix, and matrices [in, out].
Deviates from the reference: GPT-1's dropout of whole tables, as in its released code,
    is not told to transformers, which drops the sums of vectors; the last token of a
    row is classified, which is where ``mc_token_ids`` has to point.
"""

from typing import Any

from tfm_jax.interop.maps.decoders import DecoderMap
from tfm_jax.interop.problems import cut
from tfm_jax.interop.tensors import fields
from tfm_jax.models import gpt


def _read_scale(values):
    fields.refuse(fields.fixed_type(values, "scale_attn_weights", bool))
    return {"score": "scaled_dot" if values["scale_attn_weights"] else "dot"}


def _write_scale(cfg):
    scores = {"scaled_dot": True, "dot": False}
    if cfg.score not in scores:
        raise ValueError(f"model.score={cfg.score!r}; choose from {tuple(scores)}")
    return {"scale_attn_weights": scores[cfg.score]}


def _read_windows(values: dict) -> dict:
    """Our field ``windows``. Raises: ValueError if it is none."""
    fields.refuse(fields.fixed_type(values, "window_size", int))
    sizes = {"global": 0, "local": values["window_size"]}
    kinds = _layer_kinds(values["attention_types"], values["num_layers"])
    if kinds is None or len(kinds) != values["num_layers"] or {*kinds} - {*sizes}:
        raise ValueError(
            f"attention_types={cut(values['attention_types'])} must name 'global' or "
            f"'local' for num_layers={values['num_layers']} layers"
        )
    windows = tuple(sizes[kind] for kind in kinds)
    for period in range(1, len(windows) + 1):
        cycled = windows[:period] * len(windows)
        if cycled[: len(windows)] == windows:
            return {"windows": windows[:period] if any(windows) else ()}
    raise AssertionError("a sequence is its own period")


def _layer_kinds(repeated, most):
    """The words of [[words, times], ...]; None if it is something else."""
    kinds = []
    for pair in repeated if isinstance(repeated, list) else [None]:
        words, times = pair if isinstance(pair, list) and len(pair) == 2 else (0, 0)
        named = isinstance(words, list) and all(isinstance(x, str) for x in words)
        if not named or type(times) is not int or not 0 <= times <= most:
            return None
        kinds += words[:most] * times
        if len(kinds) > most:
            return None
    return kinds


def _write_windows(cfg: Any) -> dict:
    """Their kinds of layers. Raises: ValueError for windows of several sizes."""
    windows = [cfg.window(layer) for layer in range(cfg.depth)]
    sizes = {w for w in windows if w}
    if len(sizes) > 1:
        raise ValueError(f"model.windows={cfg.windows} must have one size beside 0")
    period = len(cfg.windows) or 1
    repeats = cfg.depth // period if cfg.depth % period == 0 else 1
    kinds = ["local" if w else "global" for w in windows[: cfg.depth // repeats]]
    return {
        "attention_types": [[kinds, repeats]],
        "window_size": max(sizes, default=256),
    }


_VALUES = dict(
    norm_kind="layernorm",
    residual=True,
    positions="learned",
    embedding_scale=False,
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

GPT1 = DecoderMap(
    model_type="openai-gpt",
    family=gpt.FAMILY,
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
    | dict(
        norm="post", score="scaled_dot", windows=(), biases="all", residual_init="plain"
    ),
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
GPT2 = DecoderMap(
    model_type="gpt2",
    family=gpt.FAMILY,
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
    | dict(
        vocab_size=50257,
        n_positions=1024,
        n_inner=None,
        activation_function="gelu_new",
        scale_attn_weights=True,
    ),
    outside=_OUTSIDE,
    layer=_FUSED_LAYER | _PRE,
    transposed=False,
    read=_read_scale,
    write=_write_scale,
)
NEO = DecoderMap(
    model_type="gpt_neo",
    family=gpt.FAMILY,
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
    read=_read_windows,
    write=_write_windows,
)
HUGGINGFACE = (GPT1, GPT2, NEO)
