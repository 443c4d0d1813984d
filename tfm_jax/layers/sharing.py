"""Cross-layer parameter sharing: which layer each part shares its parameters from."""

from collections.abc import Container, Sequence

from tfm_jax.layers.parts import PARTS, Part

SHARES: dict[
    str, Container[str]
] = {  # kinds of parts that a group of layers shares, their norms included
    # Lan et al. 2020, arXiv:1909.11942, section 3.1 and table 4
    "none": (),
    "attention": ("self_attention", "cross_attention"),
    "ffn": ("feed_forward",),
    "all": PARTS,
}


def group(layer: int, groups: int, depth: int) -> int:
    """Number of the group of ``layer``.

    Source: Lan et al. 2020 divide layers evenly; transformers rounds in floating point,
    and checkpoints are laid out by that: layer 9 of 18 is in group 6 of 14, not 7.
    """
    return int(layer / (depth / groups))


def shared_from(
    share: str, groups: int, layers: Sequence[Sequence[Part]]
) -> list[tuple[int, ...]]:
    """For each part of each layer, the number of the layer that has its parameters.

    That is the first layer of the group with an equal part, if its kind is shared.

    Args:
        share: a key of SHARES.
        groups: see ``group``; at most the number of layers.
        layers: the parts of each layer.
    """
    of = [group(i, groups, len(layers)) for i in range(len(layers))]

    def owner(i, part):
        if part.kind not in SHARES[share]:
            return i
        first = of.index(of[i])
        return next(j for j in range(first, i + 1) if part in layers[j])

    return [tuple(owner(i, part) for part in x) for i, x in enumerate(layers)]
