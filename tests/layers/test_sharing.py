import pytest

from tfm_jax.layers.sharing import SHARES, lenders


@pytest.mark.parametrize("share", SHARES)
def test_layers_borrow_from_the_first_of_their_group(share):
    shared = SHARES[share]
    first = [0, 0, 2, 2, 4]  # two layers a group, the last one is alone
    for layer, found in enumerate(lenders(share, 3, 5)):
        assert found.attention == (first[layer] if shared.attention else layer)
        assert found.ffn == (first[layer] if shared.ffn else layer)


@pytest.mark.parametrize("depth", [1, 4, 12])
def test_as_many_groups_as_layers_share_nothing(depth):
    assert lenders("all", depth, depth) == lenders("none", 1, depth)
    assert {x.ffn for x in lenders("all", 1, depth)} == {0}
