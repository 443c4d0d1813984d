"""Runs on images that take a second: a perceptron of digits, or of files made here."""

import dataclasses
import gzip

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.layers.arch import Execution
from tfm_jax.models.family import Family
from tfm_jax.settings.configure import configure


@dataclasses.dataclass(frozen=True)
class Config(Execution):
    """One hidden layer."""

    width: int = knob(16, "of the hidden layer", low=1)
    labels: int = knob(10, "classes", low=1)
    image_size: tuple[int, ...] = knob((8,), "pixels")
    channels: int = knob(1, "of a pixel", low=1)

    @property
    def image(self):
        """(height, width) in pixels."""
        return self.image_size[0], self.image_size[-1]


class Perceptron(nn.Module):
    """[B, H, W, C] uint8 images -> [B, classes] logits."""

    cfg: Config

    @nn.compact
    def __call__(self, batch, *, train: bool):
        cfg, x = self.cfg, batch.images
        if self.is_initializing():
            x = np.zeros((1, *cfg.image, cfg.channels), np.uint8)
        x = jnp.asarray(x, jnp.float32).reshape(len(x), -1) / 255
        x = nn.relu(nn.Dense(cfg.width, name="hidden")(x))
        return nn.Dense(cfg.labels, name="output")(x)


FAMILY = Family("pixels", Config, Perceptron, {}, learns={"classify_images": ()})


def get_config(*, data=None, model=None, pictures=False, **train):
    """A run of a few steps on the digits of scikit-learn."""
    return configure(
        *(FAMILY.name, "classify_images"),
        model=model or {},
        data={"test_share": 0.1, **(data or {})},
        optim=dict(peak_lr=1e-2, warmup_steps=1),
        train=dict(total_steps=6, batch_tokens=32, log_every_steps=2) | train,
        eval=dict(every_steps=3, batch_tokens=128, pictures=pictures),
        checkpoint=dict(every_steps=3),
        mesh=dict(data=1, cpu_devices=8),
    )


def write_idx(path, array):
    """``array`` of uint8 as an IDX file, gzipped if its name ends in .gz."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)
