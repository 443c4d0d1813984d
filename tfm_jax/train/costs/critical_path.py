"""Critical path of a traced function: products that must wait for each other."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal

from tfm_jax.train.costs.flops import OPAQUE, PRODUCTS, Uncountable, inner_jaxprs

NOT_REACHED = -math.inf


def longest_chain(function: Callable, *arguments: Any) -> int:
    """Length of the longest chain of products that wait for each other.

    No number of processors computes ``function(*arguments)`` in fewer products or
    convolutions, one after the other. A loop counts as often as its steps depend on
    each other: attention has one chain for rows of any length, that of a recurrence
    grows with them.

    Source: Vaswani et al. 2017, section 4, "minimum number of sequential operations".
    Args: arguments: arrays or ``jax.ShapeDtypeStruct``.
    Raises: Uncountable for a loop of unknown length and for an opaque kernel.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return int(max(_ends(jaxpr, [0] * len(jaxpr.invars)), default=0))


def _ends(jaxpr: Jaxpr, begins: Sequence[float]) -> list[float]:
    """Length of the chain at each result, where those at the inputs are ``begins``."""
    at = dict(zip(jaxpr.invars, begins, strict=True))

    def read(variables):
        return [
            NOT_REACHED if isinstance(v, Literal) else at.get(v, NOT_REACHED)
            for v in variables
        ]

    for equation in jaxpr.eqns:
        after = _after(equation, read(equation.invars))
        at |= zip(equation.outvars, after, strict=True)
    return read(jaxpr.outvars)


def _after(equation, before):
    name = equation.primitive.name
    if name in OPAQUE:
        raise Uncountable(f"it has {name!r}, into which nothing can look")
    if name == "scan":
        return _after_scan(equation.params, before)
    if name == "cond":
        branches = (
            _ends(each.jaxpr, before[1:]) for each in equation.params["branches"]
        )
        return [max(*ends, before[0]) for ends in zip(*branches, strict=True)]
    for jaxpr in inner_jaxprs(equation.params):
        if len(jaxpr.invars) == len(before):
            return _ends(jaxpr, before)
    longest = max(before, default=NOT_REACHED) + (name in PRODUCTS)
    return [longest] * len(equation.outvars)


def _after_scan(parameters, before):
    body, consts = parameters["jaxpr"].jaxpr, parameters["num_consts"]
    carried = parameters["num_carry"]
    fixed, carry = before[:consts], before[consts : consts + carried]
    slices = before[consts + carried :]
    stacked = [NOT_REACHED] * (len(body.outvars) - carried)
    for _ in range(parameters["length"]):
        ends = _ends(body, [*fixed, *carry, *slices])
        carry = ends[:carried]
        stacked = list(map(max, stacked, ends[carried:]))
    return [*carry, *stacked]
