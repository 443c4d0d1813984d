"""What a training or evaluation batch of sequence pairs holds."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Sequence pairs in rows; every field is int32, B rows.

    A row holds one or more pairs. Segment 0 is padding, 1.. number the pairs of a
    row, and the same number on both sides belongs together. Positions restart at 0
    in every segment. At padding every field is 0.
    """

    source: np.ndarray  # [B, S] tokens, each segment ends in EOS
    source_segments: np.ndarray  # [B, S]
    source_positions: np.ndarray  # [B, S]
    target_inputs: np.ndarray  # [B, T] each segment is BOS, then its labels shifted
    target_labels: np.ndarray  # [B, T] each segment ends in EOS
    target_segments: np.ndarray  # [B, T]
    target_positions: np.ndarray  # [B, T]
