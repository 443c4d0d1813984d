"""What the batches, and the rows, of each kind of data hold; B rows.

Those of text begin with the fields of `TextBatch`, which models read; objectives read
the rest: ``labels`` are what the logits are scored against, ``weights`` how much each
of them counts. Integers are int32. A row may hold several texts, which do not see each
other: segment 0 is padding, 1.. number the texts of a row, positions restart at 0 in
every segment, and at padding every field is 0.
"""

from typing import Any, NamedTuple

Array = Any  # of NumPy on the host, of JAX in a program

FORMER = {"target_positions": "places"}  # field -> its name in fingerprints and dumps


class PairBatch(NamedTuple):
    """Sequence pairs; segments of one number on both sides belong together."""

    source: Array  # [B, S] tokens, each segment ends in EOS
    source_segments: Array  # [B, S]
    source_positions: Array | None  # [B, S]; None: one pair a row
    target_inputs: Array  # [B, T] each segment is BOS, then its labels shifted
    target_labels: Array  # [B, T] each segment ends in EOS
    target_segments: Array  # [B, T]
    target_positions: Array | None  # [B, T]


class TextBatch(NamedTuple):
    """What models read of text."""

    tokens: Array  # [B, T]
    segments: Array  # [B, T]
    positions: Array | None = None  # [B, T]; None: one text a row
    types: Array | None = None  # [B, T] 0 in sentence A, 1 in sentence B

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): rows, and tokens of a row."""
        return self.tokens.shape


class CausalBatch(NamedTuple):
    """Text, and the token after each."""

    tokens: Array
    segments: Array
    positions: Array | None
    types: Array | None
    labels: Array  # [B, T]
    weights: Array  # [B, T] float32

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): rows, and tokens of a row."""
        return self.tokens.shape


class MaskedBatch(NamedTuple):
    """Text of which some tokens are masked; without labels none is yet."""

    tokens: Array
    segments: Array
    positions: Array | None = None
    types: Array | None = None
    labels: Array | None = None  # [B, M] the original tokens
    weights: Array | None = None  # [B, M] float32
    target_positions: Array | None = None  # [B, M] columns; None: all, M is T
    pair_labels: Array | None = None  # [B] 0: sentence B follows A, 1: not

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): rows, and tokens of a row."""
        return self.tokens.shape


class LabelledBatch(NamedTuple):
    """Texts, or pairs of them, with a class or a number each."""

    tokens: Array
    segments: Array
    positions: Array | None
    types: Array | None
    labels: Array  # [B] int32 classes or float32 numbers
    weights: Array  # [B] float32

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): rows, and tokens of a row."""
        return self.tokens.shape


class TaggedBatch(NamedTuple):
    """Texts with a tag at the first token of every word."""

    tokens: Array
    segments: Array
    positions: Array | None
    types: Array | None
    labels: Array  # [B, T]
    weights: Array  # [B, T] float32

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): rows, and tokens of a row."""
        return self.tokens.shape


class SpanBatch(NamedTuple):
    """Questions and texts, and where in the row the answer stands."""

    tokens: Array
    segments: Array
    positions: Array | None
    types: Array | None
    labels: Array  # [B, 2] first and last column; 0, 0: no answer here
    weights: Array  # [B, 2] float32

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): rows, and tokens of a row."""
        return self.tokens.shape


class ImageTextBatch(NamedTuple):
    """Text with images between its tokens, and the token after each."""

    tokens: Array
    segments: Array
    positions: Array | None
    types: Array | None
    labels: Array  # [B, T]
    weights: Array  # [B, T] float32
    images: Array  # [B, images, height, width, C] uint8, in order; 0 behind the last
    image_counts: Array  # [B] how many of them are real
    image_index: Array  # [B, T] images at or before the token; 0: none

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): rows, and tokens of a row."""
        return self.tokens.shape


class ImageBatch(NamedTuple):
    """Images with a class each; of a mixture, the class of the other image, too."""

    images: Array  # [B, height, width, C] uint8, which models normalise
    labels: Array  # [B]
    weights: Array  # [B] float32
    mixed_labels: Array | None = None  # [B] of the images that are mixed in
    mixed_shares: Array | None = None  # [B] float32, how much of the label they are

    @property
    def shape(self) -> tuple[int, int]:
        """(B, 1): a row is one image."""
        return len(self.labels), 1


class NoisyBatch(NamedTuple):
    """What denoising models read: images with noise, and how much of it."""

    images: Array  # [B, H, W, C] float32
    times: Array  # [B] float32, in [0, 1000) whatever the number of steps is
    labels: Array | None = None  # [B]; the number of labels: none
