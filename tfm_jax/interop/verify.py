"""The same inputs through a folder's model here and in its library, compared."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.interop import diffusers, folders, huggingface, texts
from tfm_jax.interop.diffusers import ImportedDenoiser
from tfm_jax.interop.imported import (
    Imported,
    ImportedImages,
    ImportedPairs,
    ImportedText,
)

TOLERANCE = 1e-4  # absolute, on logits
OUTPUTS = ("last_hidden_state", "logits_per_image", "sample")  # besides logits
LONGEST = 64  # tokens of a row, where the model takes as many
# heads whose last output is sequence-level
SEQUENCE_LEVEL = ("classify", "pair", "pretraining")


class Rows(NamedTuple):
    """``tokens`` [B, T], ``lengths`` [B], ``types`` [B, T] or None."""

    name: str
    tokens: np.ndarray
    lengths: np.ndarray
    types: np.ndarray | None = None
    pixels: np.ndarray | None = None  # of an image for each, see ``Images``

    @property
    def real(self) -> np.ndarray:
        """[B, T] bool: what is not padding."""
        return np.arange(self.tokens.shape[1]) < self.lengths[:, None]


class Images(NamedTuple):
    """``pixels`` [B, height, width, C], float; with noise ``times`` and ``labels``."""

    name: str
    pixels: np.ndarray
    times: np.ndarray | None = None
    labels: np.ndarray | None = None


class Probes(NamedTuple):
    """How models of one kind are asked.

    Attributes:
        inputs: what was loaded -> random inputs, each with a ``name``.
        differences: (what was loaded, ask the reference, inputs) -> ``Difference``s.
        texts: whether they read texts, too.
        library: key of REFERENCES.
    """

    inputs: Callable
    differences: Callable
    texts: bool = False
    library: str = "transformers"


class Difference(NamedTuple):
    """One output on some rows: the largest absolute difference, and value there."""

    rows: str
    output: str
    difference: float
    value: float


def compare(
    folder: str | Path, *, say: Callable = lambda line: None
) -> list[Difference]:
    """Loads ``folder`` here and with its library, and asks both the same.

    The reference computes in float64, so that all rounding is ours. Besides random rows
    of ids, or images, models of text read TEXTS, of which ``AutoTokenizer`` must make
    the ids that we make.

    Args: say: gets a line on what could not be compared, or only with a change.
    Raises: ConfigError if torch or the library is absent, or ``folder`` is not read.
    """
    try:
        loaded = folders.load(folder)
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"{folder}: {error}") from error
    probes = next(row for cls, row in PROBES.items() if isinstance(loaded, cls))
    try:
        torch, library = map(importlib.import_module, ("torch", probes.library))
    except ImportError as error:
        raise ConfigError(
            f"verify needs both torch and {probes.library}: {error}; "
            f"pip install torch {probes.library}"
        ) from error
    folder = huggingface.local(folder)
    load = REFERENCES[probes.library]
    model = load(loaded, folder, library, torch.float64, say).eval()

    def ask(*inputs, **fields):
        fields = {k: torch.tensor(x) for k, x in fields.items() if x is not None}
        with torch.no_grad():
            outputs = model(*map(torch.tensor, inputs), **fields)
        return {
            name: x.numpy()
            for name, x in outputs.items()
            if name.endswith("logits") or name in OUTPUTS
        }

    each = probes.differences
    lines = [line for some in probes.inputs(loaded) for line in each(loaded, ask, some)]
    try:
        ours = texts.read(folder, loaded) if probes.texts else {}
    except DataError as error:
        say(f"texts are not compared: {error}")
        return lines
    for name, rows in ours.items():
        where = Path(folder, rows.tokenizer)
        tokenizer = library.AutoTokenizer.from_pretrained(where)
        differ = sum(_differs(tokenizer, row) for row in rows.rows)
        lines.append(Difference(name, "token ids", differ, len(rows.rows)))
        if rows.compared and not differ:
            lines += each(loaded, ask, _padded(name, rows.rows, loaded))
    return lines


def _differs(tokenizer, row):
    """Whether ``AutoTokenizer`` makes other ids or types of a text."""
    theirs = tokenizer(*row.text)
    types = row.types is not None and theirs.get("token_type_ids") != row.types
    return theirs["input_ids"] != row.ids or types


def _padded(name, rows, loaded):
    """Rows of texts as ``Rows``."""
    lengths = np.array([len(row.ids) for row in rows])
    pad = loaded.special.pad if isinstance(loaded, Imported) else 0
    tokens = np.full((len(rows), lengths.max()), pad)
    types = None if rows[0].types is None else np.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, : len(row.ids)] = row.ids
        if types is not None:
            types[number, : len(row.ids)] = row.types
    return Rows(name, tokens, lengths, types)


def random_rows(loaded: Any) -> Iterator[Rows]:
    """Rows of one token, of as many as fit, padded, and with types if there are any."""
    config, rng = loaded.config, np.random.default_rng(0)
    pairs = isinstance(loaded, Imported)
    vocab = min(config.source_vocab, config.target_vocab) if pairs else config.vocab
    words = [n for n in range(vocab) if not pairs or n != loaded.special.pad]
    longest = min(LONGEST, config.max_length)
    mixed = (longest, 1, (longest + 1) // 2, min(3, longest))
    wanted = {"one token": (1,), "full rows": (longest,) * 2, "padded rows": mixed}
    if getattr(config, "types", 1) > 1:
        wanted["padded rows with types"] = mixed
    for name, lengths in wanted.items():
        shape = len(lengths), max(lengths)
        tokens = rng.choice(words, shape)
        rows = Rows(name, tokens, np.array(lengths))
        tokens[~rows.real] = loaded.special.pad if pairs else 0
        if name.endswith("types"):
            types = np.where(rows.real, rng.integers(0, config.types, shape), 0)
            rows = rows._replace(types=types)
        yield rows


def random_images(loaded: Any) -> Iterator[Images]:
    """One image, and several, of the model's size."""
    config, rng = loaded.config, np.random.default_rng(0)
    for name, count in {"one image": 1, "images": 3}.items():
        pixels = rng.normal(size=(count, *config.image, config.channels))
        yield Images(name, pixels.astype(np.float32))


def random_pairs(loaded: Any) -> Iterator[Rows]:
    """Several images with a text each, of any length."""
    config, rng = loaded.config, np.random.default_rng(0)
    *_, images = random_images(loaded)
    longest = min(LONGEST, config.longest or LONGEST)
    lengths = np.array([longest, 1, (longest + 1) // 2])
    tokens = rng.integers(1, config.text.vocab, (len(lengths), longest))
    rows = Rows("pairs", tokens, lengths, pixels=images.pixels)
    tokens[~rows.real] = 0
    yield rows


def random_noise(loaded: Any) -> Iterator[Images]:
    """The same as images with noise, each at a time of its own, with a label if any."""
    rng, labels = np.random.default_rng(1), loaded.config.labels
    for images in random_images(loaded):
        count = len(images.pixels)
        given = np.arange(count) % labels if labels else None
        yield images._replace(times=rng.uniform(0, 999, count), labels=given)


def table(differences: list[Difference]) -> str:
    """What was compared, one output a line, and the verdict."""
    heads = "rows", "output", "largest difference", "largest value"
    lines = [
        (d.rows, d.output, f"{d.difference:.2g}", f"{d.value:.4g}") for d in differences
    ]
    sizes = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    text = "\n".join(
        f"{rows:<{sizes[0]}}  {output:<{sizes[1]}}  "
        f"{difference:>{sizes[2]}}  {value:>{sizes[3]}}"
        for rows, output, difference, value in (heads, *lines)
    )
    verdict = "PASS: no" if passed(differences) else "FAIL: an"
    return f"{text}\n{verdict} output differs by more than {TOLERANCE:g}"


def passed(differences: list[Difference]) -> bool:
    """Whether all differences are within the tolerance, which NaN is not."""
    return all(d.difference <= TOLERANCE for d in differences)


def _of_text(loaded, ask, rows):
    """Differences of a model of one-sided text."""
    head = loaded.config.head
    ours = jax.tree.leaves(loaded.logits(rows.tokens, rows.lengths, rows.types))
    if head == "span":  # [B, 2, T]
        ours = [ours[0][:, 0], ours[0][:, 1]]
    choices = {"mc_token_ids": rows.lengths - 1} if len(ours) > 1 else {}
    theirs = ask(
        input_ids=rows.tokens,
        attention_mask=rows.real.astype(int),
        token_type_ids=rows.types,
        **(choices if head == "classify" else {}),
    )
    for number, (x, (name, y)) in enumerate(zip(ours, theirs.items(), strict=True), 1):
        whole = head in SEQUENCE_LEVEL and number == len(ours)
        x = np.asarray(x).reshape(y.shape)  # theirs drops the axis of one label
        yield _difference(rows.name, name, *((x, y) if whole else _at(rows, x, y)))


def _of_pairs(loaded, ask, rows):
    """Differences of a model of pairs; the target has no padding."""
    targets = rows.tokens[:, ::-1]
    ours = loaded.logits(rows.tokens, targets)
    theirs = ask(
        input_ids=rows.tokens,
        attention_mask=rows.real.astype(int),
        decoder_input_ids=targets.copy(),
    )
    for name, y in theirs.items():
        yield _difference(rows.name, name, np.asarray(ours), y)


def _of_images(loaded, ask, images):
    """Differences of an encoder of images."""
    theirs = ask(pixel_values=np.moveaxis(images.pixels, -1, 1).astype(np.float64))
    ((name, y),) = theirs.items()
    yield _difference(images.name, name, np.asarray(loaded.logits(images.pixels)), y)


def _of_noise(loaded, ask, images):
    """Differences of a denoising model."""
    given = np.moveaxis(images.pixels, -1, 1).astype(np.float64), images.times
    theirs = ask(*given, class_labels=images.labels)["sample"]
    ours = loaded.denoise(images.pixels, images.times, images.labels)
    yield _difference(images.name, "sample", ours, np.moveaxis(theirs, 1, -1))


def _of_image_text(loaded, ask, rows):
    """Differences of a model of images and texts, by its vectors and by its head."""
    given = dict(
        pixel_values=np.moveaxis(rows.pixels, -1, 1).astype(np.float64),
        input_ids=rows.tokens,
        attention_mask=rows.real.astype(int),
    )
    found = loaded.scores(rows.pixels, rows.tokens, rows.lengths)
    for head, ours in zip((False, True), found, strict=True):
        theirs = ask(**given, use_image_text_matching_head=head)["logits_per_image"]
        name = "matching" if head else "cosines"
        yield _difference(rows.name, name, np.asarray(ours), theirs)


def _in_transformers(loaded, folder, library, dtype, say):
    del say
    theirs = huggingface.describe(loaded.config, huggingface.model_type(folder))
    if "architectures" not in theirs:
        raise ConfigError(
            f"{folder} has model_type={theirs['model_type']!r}, which transformers has "
            "not; there is nothing to compare with"
        )
    cls = getattr(library, theirs["architectures"][0])
    return cls.from_pretrained(folder, dtype=dtype)


def _in_diffusers(loaded, folder, library, dtype, say):
    row = diffusers.row_of(loaded.config)
    cls = getattr(library, row.class_name)
    model = cls.from_pretrained(folder, torch_dtype=dtype)
    if changed := row.as_published(model):
        say(f"{row.class_name} is compared {changed}")
    return model


# library -> (what was loaded, folder, module of the library, dtype, say) -> its model
REFERENCES = {"transformers": _in_transformers, "diffusers": _in_diffusers}
PROBES = {  # what loading returns -> how it is asked
    Imported: Probes(random_rows, _of_pairs, texts=True),
    ImportedText: Probes(random_rows, _of_text, texts=True),
    ImportedImages: Probes(random_images, _of_images),
    ImportedPairs: Probes(random_pairs, _of_image_text),
    ImportedDenoiser: Probes(random_noise, _of_noise, library="diffusers"),
}


def _at(rows, *arrays):
    return [x[rows.real] for x in arrays]


def _difference(rows, name, ours, theirs):
    return Difference(
        rows, name, float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    )
