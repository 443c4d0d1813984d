"""Recurrent models as modules of PyTorch: ``torch.nn.GRU``, ``LSTM`` and ``Linear``.

A folder has ``config.json``, whose fields are ours because transformers has no such
model, and the state dict of

    source_embedding, target_embedding   or embedding, which is both
    encoder.rnn              GRU or LSTM of all layers
    bridge.K.S               Linear that state S of the decoder's layer K is made with
    decoder.rnn              GRU or LSTM; its first layer reads the embedded token, then
                             the context, then the readout before
    decoder.attention        query, key and score, Linear
    decoder.readout          Linear of the state, then the context, then the token
    decoder.output           Linear; its weight may be the embedding's

PyTorch has two bias vectors of a layer, which are added, but for the candidate of a
GRU, whose second one the reset gate multiplies. The sum is read; it is written to the
first, and zeros to the second.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tfm_jax.config import build
from tfm_jax.decode.search import TokenIds
from tfm_jax.interop.imported import Imported
from tfm_jax.interop.maps import generation
from tfm_jax.interop.tensors import fields, storage
from tfm_jax.interop.tensors.name_map import NameMap
from tfm_jax.layers.recurrent.bridge import BOTH
from tfm_jax.models import rnn_seq2seq
from tfm_jax.objectives import translation
from tfm_jax.ops.recurrence import CELLS

_TYPE = "rnn_seq2seq"
_FIRST, _SECOND, _OWN = "input/bias", "recurrent/bias", "candidate_bias"
_WEIGHTS = {"input": "ih", "recurrent": "hh"}
_LEAVES = {"kernel": "weight", "bias": "bias"}
_TABLES = ("source_embedding", "target_embedding", "embedding")
_TIED = {"two_way": "target_embedding", "three_way": "embedding"}
_OUTPUT = "decoder.output.weight"
_OUTSIDE = {
    **{f"{name}/table": f"{name}.weight" for name in _TABLES},
    "decoder/output/kernel": _OUTPUT,
    "decoder/output_bias": "decoder.output.bias",
    "decoder/readout/kernel": "decoder.readout.weight",
    "decoder/readout/bias": "decoder.readout.bias",
}
_LAYER = re.compile(
    r"(?P<side>.*?)layer_(?P<k>\d+)/((?P<direction>\w+ward)/)?(?P<map>\w+)/(?P<leaf>\w+)"
)
_ATTENTION = re.compile(r"decoder/layer_\d+/cross_attention/(\w+?)(?:/(\w+))?")
_BRIDGE = re.compile(r"bridge/layer_(\d+)/map_(\d+)/(\w+)")


def from_torch_rnn(tensors: Mapping[str, Any]) -> dict:
    """Parameters of our layers out of the state dict of ``torch.nn.GRU`` or ``LSTM``.

    Args: tensors: arrays, or tensors on the CPU, by the names that PyTorch has.
    Returns: "layer_K" -> "forward" and, where there is one, "backward" -> parameters of
        a ``RecurrentLayer``; the whole is what an encoder has, and one of its
        directions what a layer of a decoder has.
    Raises: ValueError for what is missing, unknown (no biases, a projection) or does
        not fit.
    """
    arrays = {name: np.asarray(x) for name, x in tensors.items()}
    width = arrays.get("weight_hh_l0", np.zeros((1, 1))).shape[-1]
    columns = len(arrays.get("weight_hh_l0", ()))
    if columns not in {cell.gates * width for cell in CELLS.values()}:
        raise ValueError(
            f"weight_hh_l0 has {columns} rows, not those of a torch.nn.GRU or LSTM"
        )
    directions = BOTH if "weight_ih_l0_reverse" in arrays else BOTH[:1]
    depth = next(k for k in itertools.count() if f"weight_ih_l{k}" not in arrays)
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(depth):
        inputs = len(directions) * width if k else arrays["weight_ih_l0"].shape[-1]
        for direction in directions:
            where = f"layer_{k}/{direction}"
            shapes[f"{where}/input/kernel"] = (inputs, columns)
            shapes[f"{where}/recurrent/kernel"] = (width, columns)
            shapes[f"{where}/{_FIRST}"] = shapes[f"{where}/{_SECOND}"] = (columns,)
    return _folded(storage.to_params(_table(shapes, _layer), arrays))


def to_torch_rnn(layers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of ``from_torch_rnn``: ``load_state_dict`` takes it as tensors."""
    flat = _unfolded(flatten_dict(layers, sep="/"))
    shapes = {path: np.shape(x) for path, x in flat.items()}
    return storage.to_tensors(_table(shapes, _layer), unflatten_dict(flat, sep="/"))


@dataclasses.dataclass(frozen=True)
class RecurrentMap(NameMap):
    """How the state dict of a PyTorch model of such modules is read and written."""

    imported: ClassVar[type] = Imported

    def read_config(self, values: dict) -> Any:
        cls = rnn_seq2seq.Config
        named = fields.of_tensors(cls)
        fields.refuse([f"{name} is missing" for name in named if name not in values])
        depths = {name: (name,) for name in named if name.endswith("_depth")}
        fields.check(values, cls, depths)
        ours = {name: values[name] for name in named}
        return build(cls, fields.complete(cls, ours))

    def write_config(self, cfg: Any) -> dict:
        ours = {name: getattr(cfg, name) for name in fields.of_tensors(type(cfg))}
        return {"model_type": self.model_type} | ours

    def to_params(self, cfg: Any, tensors: Mapping[str, np.ndarray]) -> dict:
        return _folded(storage.to_params(self.table(cfg), tensors))

    def to_tensors(self, cfg: Any, params: Any) -> dict:
        flat = _unfolded(flatten_dict(params, sep="/"))
        return storage.to_tensors(self.table(cfg), unflatten_dict(flat, sep="/"))

    def read_ids(self, values: dict, decoding: dict | None) -> Any:
        ids = generation.write(TokenIds(), force_eos=False)
        special, force_eos = generation.read(ids | values, decoding)
        return dict(special=special, force_eos=force_eos)

    def write_ids(  # type: ignore[override]  # ids of decoding, no labels
        self, special: Any = None, force_eos: bool = False
    ) -> tuple[dict, dict | None]:
        return generation.write(special or TokenIds(), force_eos), None

    def table(self, cfg: Any) -> dict[str, storage.Stored]:
        """Path of each parameter, biases as PyTorch has them, to its place there."""

        def names(path):
            if path.endswith("/table") and path.startswith(_TIED.get(cfg.tie, " ")):
                return _OUTSIDE[path], _OUTPUT
            return _name(path, both=cfg.bidirectional)

        return _table(_shapes(cfg), names)


@functools.lru_cache(maxsize=16)
def _shapes(cfg):
    """Path of each parameter, biases as PyTorch has them, to its shape."""
    model = rnn_seq2seq.RNNSeq2Seq(cfg)
    shapes = storage.shapes(model, translation.example)
    zeros = {path: np.broadcast_to(0.0, shape) for path, shape in shapes.items()}
    return {path: x.shape for path, x in _unfolded(zeros).items()}


def _table(
    shapes: Mapping[str, tuple[int, ...]], names: Callable
) -> dict[str, storage.Stored]:
    stored = {
        path: storage.stored(names(path), path, shape) for path, shape in shapes.items()
    }
    return {  # a score [1, A] is one row of a matrix there
        path: place._replace(shape=place.ours) if path.endswith("score") else place
        for path, place in stored.items()
    }


def _name(path, *, both):
    """A parameter's names; a direction that is alone is no reverse one there."""
    if path in _OUTSIDE:
        return (_OUTSIDE[path],)
    if bridge := _BRIDGE.fullmatch(path):
        layer, state, leaf = bridge.groups()
        return (f"bridge.{layer}.{state}.{_LEAVES[leaf]}",)
    if attention := _ATTENTION.fullmatch(path):
        module, leaf = attention.groups()
        return (f"decoder.attention.{module}.{_LEAVES[leaf or 'kernel']}",)
    return _layer(path, both=both)


def _layer(path, *, both=True):
    side, k, _, direction, module, leaf = _LAYER.fullmatch(path).groups()
    where = f"{side[:-1]}.rnn." if side else ""
    reverse = "_reverse" if both and direction == "backward" else ""
    return (f"{where}{_LEAVES[leaf]}_{_WEIGHTS[module]}_l{k}{reverse}",)


def _folded(params):
    """Our biases, of those that PyTorch has."""
    flat = flatten_dict(params, sep="/")
    for path in [path for path in flat if path.endswith(_SECOND)]:
        where = path.removesuffix(_SECOND)
        first, second = flat[f"{where}{_FIRST}"], flat.pop(path)
        summed = _summed(flat[f"{where}recurrent/kernel"])
        flat[f"{where}{_FIRST}"] = first + np.where(summed, second, 0)
        if not summed.all():
            flat[f"{where}{_OWN}"] = second[~summed]
    return unflatten_dict(flat, sep="/")


def _unfolded(flat):
    """The inverse of ``_folded``, by paths."""
    flat = dict(flat)
    for path in [path for path in flat if path.endswith("recurrent/kernel")]:
        where = path.removesuffix("recurrent/kernel")
        own = np.ravel(flat.pop(f"{where}{_OWN}", ()))
        rest = np.zeros(np.shape(flat[path])[-1] - len(own))
        flat[f"{where}{_SECOND}"] = np.concatenate([rest, own]).astype(np.float32)
    return flat


def _summed(kernel):
    """[G * H] bool, columns of which only the sum of both biases counts."""
    width, columns = kernel.shape
    (cell,) = (c for c in CELLS.values() if c.gates * width == columns)
    return np.arange(columns) < columns - width * cell.bias


RNN_SEQ2SEQ = RecurrentMap(_TYPE, rnn_seq2seq.FAMILY)
HUGGINGFACE = (RNN_SEQ2SEQ,)
