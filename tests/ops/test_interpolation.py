"""Interpolated grids are those of PyTorch."""

import numpy as np
import pytest
import torch

from tfm_jax.ops.interpolation import INTERPOLATIONS, interpolate


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(24, 24), (5, 17), (3, 2), (14, 9)])
def test_a_grid_of_another_size_is_that_of_pytorch(kind, size):
    grid = np.random.default_rng(0).normal(size=(14, 9, 3)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.tensor(grid).double().permute(2, 0, 1)[None],
        size=size,
        mode=kind,
        align_corners=False,
    )
    wanted = wanted[0].permute(1, 2, 0).numpy()
    resized = interpolate(grid, size, kind)
    np.testing.assert_allclose(resized, wanted, rtol=0, atol=2e-6)
    if size == (14, 9):
        np.testing.assert_array_equal(resized, grid)


def test_a_grid_that_is_learnt_anew_begins_at_zero():
    grid = np.ones((3, 2, 4), np.float32)
    assert not np.any(interpolate(grid, (5, 6), "zeros"))
    assert {*INTERPOLATIONS} == {"bilinear", "bicubic", "zeros"}
