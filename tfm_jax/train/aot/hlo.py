"""Compiled programs as text: what devices send each other, and what memory moves.

Loops count as often as they run, where that is a constant of the program.
"""

import functools
import math
import re
from collections import Counter
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# kind -> bytes that a chip sends, of an array of one byte over k chips in a ring
_SENT = {
    "all-reduce": lambda k: 2 * (k - 1) / k,
    "all-gather": lambda k: (k - 1) / k,
    "reduce-scatter": lambda k: (k - 1) / k,
    "all-to-all": lambda k: (k - 1) / k,
}
# they name what is there
_FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast after-all partition-id "
    "replica-id opt-barrier optimization-barrier add-dependency iota domain".split()
)
_NAMES_TOO = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound")
_SLICES = ("dynamic-slice", "slice", "gather")
_WRITES = ("dynamic-update-slice", "scatter")

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))"
)
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Program(NamedTuple):
    """What one device does, from beginning to end.

    Attributes:
        counts: kind of collective -> how many. sizes: their arrays [bytes], before a
            reduction and after a gathering, whole in both.
        sent: bytes that leave a device in them, in rings.
        moved: bytes of its main memory that are read or written.
        unknown_loops: whose bodies count once, because nothing says how often they run.
    """

    counts: dict[str, int]
    sizes: dict[str, int]
    sent: float
    moved: float
    unknown_loops: int


class _Collective(NamedTuple):
    """One of a program, which ``channel`` tells from others.

    TPUs begin, go on with and end one in several fusions, all of the same channel; of
    others some may have one channel, too.
    """

    kind: str
    size: int
    chips: int
    channel: str


class _Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str


def read(text: str) -> Program:
    """``compiled.as_text()`` -> what it does.

    Fused operations count with what they read and write in all; of what is sliced, or
    written into, the slice counts. Of the branches of a condition the costliest counts.
    Arrays in other memory than the main one (VMEM of a TPU) are not moved.
    """
    total = _Reader(text).total()
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    sent = 0.0
    for key, times in total.items():
        if isinstance(key, _Collective):
            counts[key.kind] += times
            sizes[key.kind] += times * key.size
            sent += times * key.size * _SENT.get(key.kind, lambda k: 1)(key.chips)
    return Program(
        dict(counts), dict(sizes), sent, total["moved"], total["unknown loops"]
    )


class _Reader:
    def __init__(self, text):
        self.computations, self.entry = {}, ""
        here = None
        for line in text.splitlines():
            if header := _HEADER.match(line):
                here = self.computations.setdefault(header[2], {})
                self.entry = header[2] if header[1] else self.entry
            elif line == "}":
                here = None
            elif here is not None and (match := _INSTRUCTION.match(line)):
                here[match[1]] = _parsed(match[1], match[2])
                if line.lstrip().startswith("ROOT"):
                    here[""] = here[match[1]]
        self.total = functools.cache(lambda: self._of(self.entry))

    def _of(self, name, fused=False):
        """Sums of a computation."""
        total: Counter = Counter()
        there = self.computations.get(name, {})
        for key, one in there.items():
            if key:
                _add(total, self._of_instruction(one, there, name, fused))
        return total

    def _of_instruction(self, one, there, computation, fused):
        kind = one.opcode.removesuffix("-start")
        called = dict(_CALLED.findall(one.rest))
        total = Counter()
        if one.opcode == "while":
            times = self._trips(one, called)
            total["unknown loops"] += times is None
            _add(total, self._of(called["body"], fused), times or 1)
        elif one.opcode == "conditional":
            names = "".join(",".join(x) + "," for x in _BRANCHES.findall(one.rest))
            names = [name.strip(" %") for name in names.split(",") if name.strip(" %")]
            branches = [self._of(name, fused) for name in names]
            _add(total, max(branches, key=lambda x: x["moved"], default=Counter()))
        elif kind in COLLECTIVES:
            if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"  # as TPUs have it: a slice of the sum stays
            size, chips = _bytes_of(one.operands, there), _group(one.rest)
            size *= chips if kind == "all-gather" else 1
            channel = re.search(r"channel_id=(\d+)", one.rest)
            known = fused and channel
            channel = channel[1] if known else f"{computation} {one.name}"
            total[_Collective(kind, size, chips, channel)] += 1
        elif one.opcode in ("call", "async-start", "fusion"):
            name = called.get("calls") or called.get("to_apply", "")
            inside = self._of(name, fused or one.opcode == "fusion")
            _add(total, inside)
        if not fused:
            total["moved"] += self._moved(one, there)
        return total

    def _trips(self, one, called):
        """How often a loop runs; None: not known."""
        if known := _TRIPS.search(one.rest):
            return int(known[1])
        condition = self.computations[called["condition"]]
        root = condition.get("")
        if root is None or "direction=LT" not in root.rest:
            return None  # those of jax.lax.scan count upwards from 0
        for name in root.operands:
            if name in condition and condition[name].opcode == "constant":
                return int(re.findall(r"constant\((\d+)\)", condition[name].rest)[0])
        return None

    def _moved(self, one, there):
        if one.opcode in _FREE or one.opcode in ("while", "conditional", "call"):
            return 0
        if one.opcode.endswith("-done") or any(
            f'"{n}"' in one.rest for n in _NAMES_TOO
        ):
            return 0
        if one.opcode.endswith("-start"):  # (operands, result, ...), in two memories
            sizes = _arrays(one.shape)
            return (
                max(sizes)
                if sizes and one.opcode.startswith("copy")
                else min((size for size in sizes if size > 8), default=0)
            )
        if one.opcode == "fusion":
            name = dict(_CALLED.findall(one.rest)).get("calls", "")
            read = sum(
                min(self._read(name, number), size)
                for number, operand in enumerate(one.operands)
                if (size := _main_bytes(there, operand))
            )
            written = sum(_arrays(one.shape, main=True))
            return read + min(self._written(name), written)
        if one.opcode in _SLICES:
            return 2 * sum(_arrays(one.shape, main=True))
        if one.opcode in _WRITES:
            return 2 * _main_bytes(
                there, one.operands[-1 if "sca" in one.opcode else 1]
            )
        read = sum(_main_bytes(there, operand) for operand in one.operands)
        return read + sum(_arrays(one.shape, main=True))

    @functools.cache  # noqa: B019, the object is of one program and soon gone
    def _read(self, computation, number):
        """Bytes of a parameter that a fused computation reads."""
        there = self.computations.get(computation, {})
        for key, one in there.items():
            if key and one.opcode == "parameter" and f"parameter({number})" in one.rest:
                return self._used(computation, one.name)
        return 0

    def _used(self, computation, name):
        there, total = self.computations[computation], 0
        for key, user in there.items():
            if not key or name not in user.operands:
                continue
            if user.opcode == "bitcast":
                total += self._used(computation, user.name)
            elif user.opcode in _SLICES and user.operands[0] == name:
                total += sum(_arrays(user.shape))
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
                continue  # it is written into
            elif user.opcode == "fusion":
                inner = dict(_CALLED.findall(user.rest)).get("calls", "")
                total += self._read(inner, user.operands.index(name))
            else:
                return sum(_arrays(there[name].shape))
        return total

    def _written(self, computation):
        """Bytes that a fused computation writes."""
        there = self.computations.get(computation, {})
        return self._result(there, there[""]) if "" in there else math.inf

    def _result(self, there, one):
        if one.opcode == "tuple":
            return sum(self._result(there, there[name]) for name in one.operands)
        if one.opcode == "bitcast" and one.operands[0] in there:
            return self._result(there, there[one.operands[0]])
        if one.opcode == "dynamic-update-slice":
            return sum(_arrays(there[one.operands[1]].shape))
        if one.opcode == "fusion":
            return self._written(dict(_CALLED.findall(one.rest)).get("calls", ""))
        return sum(_arrays(one.shape))


def _parsed(name, text):
    """An instruction, of what stands right of its ``=``."""
    end = _closing(text) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    inside = rest[len(opcode) :]
    inside = inside[: _closing(inside)]
    return _Instruction(name, shape, opcode, tuple(_NAME.findall(inside)), rest)


def _closing(text):
    """Where the bracket ends that ``text`` begins with."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return index + 1
    return len(text)


def _arrays(shape, *, main=False):
    """Bytes of each array of a shape; ``main``: of those in main memory alone."""
    sizes = []
    for dtype, dims, layout in _ARRAY.findall(shape):
        bits = 8 if dtype == "pred" else int((re.findall(r"\d+", dtype) or ["0"])[0])
        elements = math.prod(map(int, dims.split(","))) if dims else 1
        elsewhere = re.search(r"S\([1-9]", layout)
        sizes.append(0 if main and elsewhere else elements * bits // 8)
    return sizes


def _main_bytes(there, name):
    return sum(_arrays(there[name].shape, main=True)) if name in there else 0


def _bytes_of(names, there):
    return sum(sum(_arrays(there[name].shape)) for name in names if name in there)


def _group(rest):
    """Chips that a collective is among."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sizes = dict(part.split("=") for part in mesh[1].split(","))
        parts = [axis.rpartition(")") for axis in mesh[2].split(",") if axis]
        # an axis, or :(N)M, a part of M devices of it
        return math.prod(int(n if part else sizes[n]) for part, _, n in parts)
    if iota := re.search(r"replica_groups=\[(?:\d+,)*?(\d+)\]<=", rest):
        return int(iota[1])
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(listed[1].split(","))
    return 1


def _add(total, other, times=1):
    for key, value in other.items():
        if isinstance(key, _Collective):  # one, however many computations speak of it
            total[key] = max(total[key], value * times)
        else:
            total[key] += value * times
