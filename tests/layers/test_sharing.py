import pytest

from tfm_jax.layers.parts import DECODER, ENCODER, FFN, SELF
from tfm_jax.layers.sharing import SHARES, shared_from


@pytest.mark.parametrize("share", SHARES)
def test_layers_share_with_the_first_of_their_group(share):
    first = [0, 0, 2, 2, 4]  # two layers a group, the last one is alone
    for layer, owners in enumerate(shared_from(share, 3, (DECODER,) * 5)):
        for part, owner in zip(DECODER, owners, strict=True):
            shares = part.kind in SHARES[share]
            assert owner == (first[layer] if shares else layer)


def test_a_part_is_shared_with_the_first_layer_of_the_group_that_has_it():
    layers = (ENCODER, DECODER, (FFN, SELF), DECODER)
    assert shared_from("all", 1, layers) == [(0, 0), (0, 1, 0), (0, 0), (0, 1, 0)]


@pytest.mark.parametrize("depth", [1, 4, 12])
def test_as_many_groups_as_layers_share_nothing(depth):
    layers = (ENCODER,) * depth
    assert shared_from("all", depth, layers) == shared_from("none", 1, layers)
    assert set(shared_from("all", 1, layers)) == {(0, 0)}
