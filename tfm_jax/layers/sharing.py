"""Which layers of a stack own their parameters, and which borrow those of another."""

from typing import NamedTuple


class Shared(NamedTuple):
    """Which sub-layers the layers of a group have in common, their norms included."""

    attention: bool
    ffn: bool


SHARES = {  # Lan et al. 2020, arXiv:1909.11942, section 3.1 and table 4
    "none": Shared(False, False),
    "attention": Shared(True, False),
    "ffn": Shared(False, True),
    "all": Shared(True, True),
}


class Lenders(NamedTuple):
    """Numbers of the layers whose parameters a layer uses."""

    attention: int
    ffn: int


def group(layer: int, groups: int, depth: int) -> int:
    """Number of the group of ``layer``.

    Source: Lan et al. 2020 divide layers evenly; transformers rounds in floating point,
    and checkpoints are laid out by that: layer 9 of 18 is in group 6 of 14, not 7.
    """
    return int(layer / (depth / groups))


def lenders(share: str, groups: int, depth: int) -> list[Lenders]:
    """For each layer, in order; the first layer of a group lends what it shares.

    Args:
        share: a key of SHARES.
        groups: see ``group``; at most ``depth``.
    """
    shared = SHARES[share]
    of = [group(layer, groups, depth) for layer in range(depth)]
    first = [of.index(number) for number in of]
    return [
        Lenders(first[i] if shared.attention else i, first[i] if shared.ffn else i)
        for i in range(depth)
    ]
