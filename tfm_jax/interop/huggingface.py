"""Folders as transformers writes them: a model out of one, and one out of a model."""

import functools
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.data.batch import Batch
from tfm_jax.infer.decode import Special, decode
from tfm_jax.interop import generation, marian, safetensors_io
from tfm_jax.models import transformer

CONFIG, GENERATION = "config.json", "generation_config.json"


class Imported(NamedTuple):
    """A model of another library, ready to be run, trained further or ablated.

    Attributes:
        config: of the model. model: Linen module. params: nested dict, float32.
        special: token ids for decoding.
        force_eos: whether the last token that a limit allows must be EOS.
        tokenizer: None; sentences are token ids that end in EOS.
    """

    config: transformer.Config
    model: transformer.Transformer
    params: dict
    special: Special
    force_eos: bool
    tokenizer: None = None

    def logits(self, source, target):
        """Teacher forcing without dropout, every product in float32.

        Args:
            source: [B, S] ids, padding (``special.pad``) on the right only.
            target: [B, T] ids that the decoder is fed; all of them count, since the
                first one may be the padding token.
        Returns: [B, T, V] float32.
        Raises: ValueError for padding between tokens and for ids out of range.
        """
        source = _ids(source, self.config.source_vocab, "source")
        target = _ids(target, self.config.target_vocab, "target")
        segments = (source != self.special.pad).astype(np.int32)
        if (np.diff(segments) > 0).any():
            raise ValueError(f"source has padding {self.special.pad} before a token")
        real = np.ones_like(target)
        batch = Batch(source, segments, None, target, target, real, None)
        with jax.default_matmul_precision("float32"):
            return _logits(self.model, self.params, batch)

    def decode(self, sources, **options) -> list:
        """Greedy or beam search over source ids; see ``infer.decode.decode``."""
        options = {"special": self.special, "force_eos": self.force_eos} | options
        return decode(self.model, self.params, sources, **options)


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


def load_huggingface(folder) -> Imported:
    """Loads a MarianMT folder: ``config.json`` and safetensors, whole or in shards.

    Raises:
        ValueError: another model type, pickles, fields without counterpart here, or
            tensors that are unknown, missing or of another shape; all are listed.
        FileNotFoundError: a file is missing.
    """
    folder = Path(folder)
    values = _json(folder / CONFIG)
    decoding = _json(folder / GENERATION) if (folder / GENERATION).is_file() else None
    config = marian.read_config(values)
    special, force_eos = generation.read(marian.DEFAULTS | values, decoding)
    params = marian.to_params(config, safetensors_io.read(folder))
    return Imported(
        config=config,
        model=transformer.Transformer(config),
        params=jax.tree.map(jnp.asarray, params),
        special=special,
        force_eos=force_eos,
    )


def save_huggingface(
    folder, params, config: transformer.Config, *, special=None, force_eos=False
) -> None:
    """Writes a folder that ``transformers.MarianMTModel.from_pretrained`` reads.

    The tokenizer is not written.

    Args:
        folder: new or empty.
        params: nested dict for ``Transformer(config)``, unrolled or scanned.
        special: token ids, by default those of our tokenizers.
        force_eos: whether the last token that a limit allows must be EOS.

    Raises:
        ValueError: the config or the parameters have no counterpart; all are listed.
        FileExistsError: the folder is not empty.
    """
    folder = Path(folder)
    ids = generation.write(special or Special(), force_eos)
    values = marian.write_config(config) | ids
    tensors = marian.to_tensors(config, params)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    for name, content in ((CONFIG, values), (GENERATION, ids)):
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        (folder / name).write_text(text, "utf-8")
    safetensors_io.write(folder, tensors)


def _json(path):
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not an object")
    return content


def _ids(tokens, vocab, side):
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"{side} must be integers [B, T], not {tokens.shape}")
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab:
        raise ValueError(f"{side} has ids outside of 0 .. {vocab - 1}")
    return tokens.astype(np.int32)
