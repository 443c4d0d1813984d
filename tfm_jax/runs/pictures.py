"""Pictures of a run: its learning curve, confused classes, and who looks at whom."""

import functools
import io
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from tfm_jax.data.batch import PairBatch
from tfm_jax.data.tokenizers.bilingual import BOS
from tfm_jax.knobs import no_choice
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.mesh import fetch
from tfm_jax.metrics.confusion import Confusion
from tfm_jax.runs.workdir import replacing
from tfm_jax.terminal import spelled
from tfm_jax.workloads.workload import Workload

NAMED, NUMBERED = 64, 20  # most classes whose names, and whose counts, are drawn
LARGE = 256  # most pixels a side of an image that is not made smaller

KINDS = {  # name -> (stack, attention of its blocks)
    "encoder": ("encoder", "self_attention"),
    "decoder": ("decoder", "self_attention"),
    "cross": ("decoder", "cross_attention"),
}


class AttentionMaps(NamedTuple):
    """Attention weights of one sentence pair.

    Attributes:
        encoder: [L, H, S, S], decoder: [L, H, T, T], cross: [L, H, T, S] float32, of
            the L layers that have such attention; L is 0 where none has.
        source: S token labels. inputs: T labels of what the decoder reads.
        outputs: T labels of what it predicts there.
    """

    encoder: np.ndarray
    decoder: np.ndarray
    cross: np.ndarray
    source: list[str]
    inputs: list[str]
    outputs: list[str]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of attention that the model has."""
        return tuple(kind for kind in KINDS if len(getattr(self, kind)))

    def __repr__(self):
        shapes = (f"{kind} {list(getattr(self, kind).shape)}" for kind in self.kinds)
        pair = f"{' '.join(self.source)!r} -> {' '.join(self.outputs)!r}"
        return f"AttentionMaps({pair}: {', '.join(shapes) or 'no attention'})"

    def plot(self, kind: str = "cross", layer: int | None = None) -> Any:
        """``attention`` of these maps."""
        return attention(self, kind=kind, layer=layer)


def attention_maps(
    model: nn.Module, params: Any, tokenizer: Any, source: str, target: str
) -> AttentionMaps:
    """Weights of every layer and head while ``target`` is predicted from ``source``.

    Args:
        model: an unrolled module. source, target: in the training text's form.
    """
    source_ids = tokenizer.encode([source], "source")[0]
    target_ids = tokenizer.encode([target], "target")[0]
    inputs = np.concatenate([[BOS], target_ids[:-1]]).astype(np.int32)
    ones = np.ones_like
    batch = PairBatch(
        *(source_ids[None], ones(source_ids)[None], None),
        *(inputs[None], target_ids[None], ones(inputs)[None], None),
    )
    with nn.logical_axis_rules(()):  # one sentence: nothing to spread over devices
        kept = fetch(intermediates(model, to_unrolled(params), batch))

    def layers(stack, name):
        weights = [*weights_of(kept.get(stack, {}), name).values()]
        return np.stack(weights) if weights else np.zeros((0, 0, 0, 0), np.float32)

    return AttentionMaps(
        **{kind: layers(*place) for kind, place in KINDS.items()},
        source=tokenizer.tokens(source_ids, "source"),
        inputs=tokenizer.tokens(inputs, "target"),
        outputs=tokenizer.tokens(target_ids, "target"),
    )


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def intermediates(
    model: nn.Module, params: Any, *inputs: Any, method: Any = "__call__"
) -> Any:
    """What the modules of ``model`` keep while it reads ``inputs``, by their names."""
    options = dict(train=False, mutable=["intermediates"], method=method)
    _, kept = model.apply({"params": params}, *inputs, **options)
    return kept.get("intermediates", {})


def weights_of(stack: Mapping[str, Any], name: str) -> dict[int, np.ndarray]:
    """Number of a layer -> weights [H, T, S] of the first row.

    Args: stack: what its layers keep. name: of the attention, which not all may have.
    """
    kept = {
        int(layer.rpartition("_")[2]): parts[name]["weights"][0][0]
        for layer, parts in stack.items()
        if name in parts
    }
    return {number: np.asarray(kept[number]) for number in sorted(kept)}


def numbered(layer: int | None, count: int) -> int:
    """Number of one of ``count`` layers, from 0 or from -1 backwards; None: the last.

    Raises: ValueError for one that there is not.
    """
    layer = -1 if layer is None else layer
    if layer not in range(-count, count):
        raise ValueError(f"layer={layer} must be from {-count} to {count - 1}")
    return layer % count


def attention(
    maps: AttentionMaps,
    path: str | Path | None = None,
    *,
    kind: str = "cross",
    layer: int | None = None,
) -> Any:
    """Draws one kind of attention, a panel a head; ``path`` saves it as PNG.

    Args: kind: one of ``maps.kinds``. layer: index, by default the last.
    Returns: the matplotlib figure; layers and heads are numbered as in the arrays.
    Raises: ValueError for a kind of attention, or a layer, that the model has not.
    """
    if not maps.kinds:
        raise ValueError(f"kind={kind!r}: this model has no attention")
    if kind not in maps.kinds:
        raise ValueError(no_choice("kind", kind, maps.kinds))
    layers = getattr(maps, kind)
    layer = numbered(layer, len(layers))
    weights = layers[layer]
    columns = maps.inputs if kind == "decoder" else maps.source
    rows = {"encoder": maps.source, "decoder": maps.inputs, "cross": maps.outputs}[kind]
    fonts, known = drawable_fonts()
    tokens = {*columns, *rows}
    columns, rows = ([legible(x, known) for x in side] for side in (columns, rows))
    title = f"{kind} attention, layer {layer}: a row adds up to 1"
    if not tokens >= {*columns, *rows}:
        title += "\nspelled out: what no installed font draws"
    # "$" is a token like any other
    text = dict(fontsize=7, parse_math=False, fontfamily=fonts)
    across = min(len(weights), 4)
    down = -(-len(weights) // across)
    wide, high = (0.07 * max(map(len, labels), default=0) for labels in (rows, columns))
    size = (
        max(4.2, 1.2 + wide + across * (0.5 + 0.2 * len(columns))),  # the title's
        down * (0.8 + high + 0.2 * len(rows)),
    )
    figure = canvas(size)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for head, axis in enumerate(axes):
        if head >= len(weights):
            axis.axis("off")
            continue
        image = axis.imshow(
            weights[head], vmin=0, vmax=1, cmap="viridis", aspect="auto"
        )
        axis.set_title(f"head {head}", fontsize=9)
        axis.set_xticks(range(len(columns)), columns, rotation=90, **text)
        labels = rows if head % across == 0 else []
        axis.set_yticks(range(len(rows)), labels, **text)
    bar = figure.colorbar(image, ax=[*axes], fraction=0.05)
    bar.set_label("weight", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    return save(figure, path)


# further fonts for tokens, where they are installed: matplotlib's own has no Hangul, no
# kana and no Han characters
FONTS = (
    *("Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans KR"),
    *("NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo", "Hiragino Sans"),
    *("Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei", "Arial Unicode MS"),
)


@functools.cache
def drawable_fonts() -> tuple[list[str], frozenset[int]]:
    """(names of fonts that are there, code points that one of them draws)."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    names = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
    charmaps = (
        font_manager.get_font(font_manager.findfont(name)).get_charmap()
        for name in names
    )
    return names, frozenset().union(*charmaps)


def legible(label: str, known: Collection[int]) -> str:
    """``label``, with what no font draws in Latin letters or as code points: ⟨U+4E2D⟩.

    Source: the names of Hangul syllables and kana in the Unicode Standard, which are
    their sounds.
    """
    return "".join(c if ord(c) in known else _sound(c) for c in label)


def _sound(character):
    named = _SOUNDS.fullmatch(unicodedata.name(character, ""))
    return named[1].lower() if named else spelled(character)


_SOUNDS = re.compile(r"(?:HANGUL SYLLABLE|(?:HIRA|KATAKA)\w+ LETTER)(?: SMALL)? (\w+)")


def curve(
    history: list[dict], workload: Workload, path: str | Path | None = None
) -> Any:
    """Draws training and validation loss against steps; ``path`` saves it as PNG."""
    figure = canvas((6.4, 3.6))
    axis = figure.subplots()
    score = workload.score_of("loss")
    for kind, field, style in (("train", "loss", "-"), ("valid", score, "o-")):
        rows = [(r["step"], r.get(field)) for r in history if r["kind"] == kind]
        points = [(step, y) for step, y in rows if isinstance(y, int | float)]
        if points:
            axis.plot(*zip(*points, strict=True), style, label=f"{kind} {field}", ms=3)
    axis.set_xlabel("step")
    axis.set_ylabel(workload.loss_unit)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()
    return save(figure, path)


def confusion(matrix: Confusion, path: str | Path | None = None) -> Any:
    """Draws how often each class is taken for each, as shares of the true ones."""
    counts, names = np.asarray(matrix.counts), matrix.names
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(3.6, min(1.2 + 0.3 * len(names), 16.0))
    figure = canvas((side + 1, side))
    axis = figure.subplots()
    image = axis.imshow(shares, vmin=0, vmax=1, cmap="viridis")
    fonts, known = drawable_fonts()
    if len(names) <= NAMED:
        text = dict(fontsize=7, parse_math=False, fontfamily=fonts)
        labels = [legible(name, known) for name in names]
        axis.set_xticks(range(len(names)), labels, rotation=90, **text)
        axis.set_yticks(range(len(names)), labels, **text)
    if len(names) <= NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            color = "black" if shares[row, column] > 0.5 else "white"
            text = dict(ha="center", va="center", fontsize=6, color=color)
            axis.text(column, row, f"{count:.0f}" if count else "", **text)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    figure.colorbar(image, fraction=0.05).set_label("share of the true class")
    return save(figure, path)


def images(
    pixels: np.ndarray, path: str | Path | None = None, names: Sequence[str] = ()
) -> Any:
    """Draws images [N, H, W, C] uint8, ten in a row; ``path`` saves it as PNG.

    Of other images than coloured ones the first channel is drawn, in grey. Images of up
    to ``LARGE`` pixels a side are not made smaller.

    Args: names: of their classes, which stand above them.
    Raises: ValueError for another number of axes.
    """
    if pixels.ndim != 4:
        raise ValueError(f"images {pixels.shape} must be [n, height, width, channels]")
    count, height, width, channels = pixels.shape
    across = min(max(count, 1), 10)
    down = max(-(-count // across), 1)
    longest, gap = max(height, width), 1 + max(height, width) // 16
    side = max(0.6, 1.2 * min(longest, LARGE) / 100)  # inches of an image
    room = math.ceil(0.17 / side * longest) if len(names) else 0
    step = np.array([height + gap + room, width + gap])
    sheet = np.full((*(step * [down, across]), 3), 255, np.uint8)
    places = [step * divmod(n, across) + step - [height, width] for n in range(count)]
    shown = pixels if channels == 3 else pixels[..., :1]
    for (row, column), image in zip(places, shown, strict=True):
        sheet[row : row + height, column : column + width] = image
    figure = canvas(tuple(side * step[::-1] * [across, down] / longest))
    figure.set_layout_engine("none")  # the sheet fills it
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(sheet, aspect="auto", interpolation="nearest")
    axis.axis("off")
    fonts, known = drawable_fonts() if len(names) else ((), frozenset())
    text = dict(fontsize=7, parse_math=False, fontfamily=fonts, ha="center")
    for (row, column), name in zip(places, names, strict=False):
        above = column + (width - 1) / 2, row - 0.5 - room / 8
        axis.text(*above, legible(name, known), va="bottom", **text)
    return save(figure, path)


def _archive(pixels, labels, path):
    """What ``data.source=npz`` reads."""
    with replacing(path) as file:
        np.savez(file, images=pixels, labels=labels)


# suffix of a file -> (images [N, H, W, C] uint8, names [N] of their classes, or zeros,
# path): writes it
FILES: dict[str, Callable] = {
    ".png": lambda pixels, names, path: images(
        pixels, path, names if names.dtype.kind == "U" else ()
    ),
    ".npz": _archive,
}


def canvas(size: tuple[float, float]) -> Any:
    """An empty matplotlib figure of so many inches that notebooks show."""
    from matplotlib.figure import Figure  # no global state, no display

    class Picture(Figure):
        def _repr_png_(self):  # what a notebook shows
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Picture(figsize=size, layout="constrained", dpi=120)


def save(figure: Any, path: str | Path | None) -> Any:
    """``figure``, which lies at ``path``, if there is one, as PNG."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(path)) as file:
            figure.savefig(file, format="png")
    return figure
