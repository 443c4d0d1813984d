"""What was compiled, as a table for people."""

from collections.abc import Mapping
from typing import Any

from tfm_jax.train.costs import memory

GIB, MIB = 2**30, 2**20
BYTES = (*memory.KINDS, "decoder's copy", "other arguments", "temporaries")


def text(result: Mapping[str, Any]) -> str:
    """The result of ``mode.compile_run`` as a page."""
    named = ", ".join(f"{k}={n}" for k, n in result["mesh"].items())
    kind = result["device"] and f" ({result['device']})"
    lines = [f"{result['topology']}{kind}, mesh {named}", ""]
    lines += _table(result["steps"], result["peaks"].get("memory"))
    lines += _replicated(result["replicated"])
    lines += ["", *_estimated(result)]
    lines += [f"assumed: {line}" for line in result["assumed"]]
    return "\n".join([*lines, "", _verdict(result["fits"])])


def row(result: Mapping[str, Any]) -> str:
    """One mesh of a sweep in a line."""
    sizes = "  ".join(f"{k}={n:<4}" for k, n in result["mesh"].items())
    step = result["steps"]["train"]
    if "bytes" not in step:
        return f"{sizes}  does not fit: {_size(step['refused'].get('wanted'))}"
    seconds = result["estimate"].get("seconds")
    cost = f"  {_milliseconds(seconds)}" if seconds else ""
    sent = sum(one["bytes"] for one in step["collectives"].values())
    fits = "  does not fit" if step["fits"] is False else ""
    return f"{sizes}  {_size(step['peak'])}, collectives {_size(sent)}{cost}{fits}"


def _table(steps, limit):
    names = [*steps]
    rows = [["", *names], ["size", *(one["size"] for one in steps.values())]]
    rows.append(["devices", *(str(one["devices"]) for one in steps.values())])

    def put(label, cell):
        rows.append([label, *(cell(one) for one in steps.values())])

    there = {kind for one in steps.values() for kind in one.get("bytes", {})}
    for kind in filter(there.__contains__, BYTES):
        put(kind, lambda one, kind=kind: _size(one.get("bytes", {}).get(kind)))
    put("peak of a device", lambda one: _size(one.get("peak", _wanted(one))))
    if limit:
        put("it has", lambda one: _size(limit))
        put("fits", lambda one: "yes" if one["fits"] else "NO")
    put(
        "FLOPs of all devices",
        lambda one: f"{one['flops']:.4g}" if "flops" in one else "?",
    )
    put("memory moved", lambda one: _size(one.get("moved")))
    sent = dict.fromkeys(
        k for one in steps.values() for k in one.get("collectives", {})
    )
    for kind in sent:
        put(kind, lambda one, kind=kind: _collective(one.get("collectives", {}), kind))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([each[0].ljust(widths[0]), *map(str.rjust, each[1:], widths[1:])])
        for each in rows
    ]
    for name, one in steps.items():
        loops = one.get("unknown_loops")
        lines += [f"{name}: {one.get('uncounted')}"] * ("uncounted" in one)
        lines += [f"{name}: {loops} loops of unknown length count once"] * bool(loops)
        if "refused" in one:
            lines.append(f"{name}: {one['refused']['said']}")
    return lines


def _replicated(arrays):
    return [""] * bool(arrays) + [
        f"whole on every device: {one['name']} {one['shape']}, {_size(one['bytes'])}"
        for one in arrays
    ]


def _estimated(result):
    estimate, peaks = result["estimate"], result["peaks"]
    if not estimate:
        return ["no estimate: nothing is known of these devices, or it does not fit"]
    terms = ("products", "memory", "collectives")
    parts = [f"{name} {_milliseconds(estimate[name])}" for name in terms]
    return [
        f"estimate of a train step: {_milliseconds(estimate['seconds'])}, MFU "
        f"{estimate['mfu']:.1%}; {', '.join(parts)}",
        f"assumed: {peaks['flops'] / 1e12:,.0f} TFLOP/s of bfloat16, "
        f"{peaks['bandwidth'] / 1e9:,.0f} GB/s of memory, "
        f"{peaks['interconnect'] / 1e9:,.0f} GB/s between devices, of each",
    ]


def _verdict(fits):
    return {
        None: "whether it fits is not known; nothing was run",
        True: "it fits; nothing was run",
        False: "it does not fit; nothing was run",
    }[fits]


def _wanted(one):
    return one.get("refused", {}).get("wanted")


def _collective(there, kind):
    one = there.get(kind)
    return f"{one['count']:,}, {_size(one['bytes'])}" if one else "-"


def _size(count):
    if count is None:
        return "-"
    unit, name = (GIB, "GiB") if count >= GIB else (MIB, "MiB")
    return f"{count / unit:,.2f} {name}"


def _milliseconds(seconds):
    ms = 1e3 * seconds
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.3g} ms"
