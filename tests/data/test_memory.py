"""Memory that data larger than memory needs while it is prepared and read."""

import json
import subprocess
import sys

import pytest

BEGIN = r"""
import json, re, sys
from pathlib import Path

import numpy as np

from tfm_jax.data import cache

def peak():
    "Megabytes; those of getrusage begin at what the parent had."
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1e3
"""

TEXT = """
from tfm_jax.data.batches import train_batches
from tfm_jax.data.rows import causal, masked, sentence_pairs
from tfm_jax.data.tokenizers import vocabularies

folder, document, layout = Path(sys.argv[1]), *sys.argv[2:]
tokenizer = vocabularies.train_text_tokenizer("byte", [])
tokenizer = tokenizer.with_special(["[CLS]", "[SEP]", "[MASK]"])
# The library needs seconds for ten million bytes, and gives the same ids.
tokenizer.encode = lambda texts: [
    np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts
]
for name in ("small", "large"):
    settings = dict(
        source="files", train_files=(str(folder / name),), length=256, document=document
    )
    if layout == "masked":
        kind, pairs = masked.KIND, sentence_pairs.Config(kind="none")
        cfg = masked.Config(**settings, sentences="line", pairs=pairs)
    else:
        kind, cfg = causal.KIND, causal.Config(**settings, layout=layout)
    sections = kind, cfg, vocabularies.Config(kind="byte"), folder / "cache"
    data = cache.prepared(*sections, tokenizer=tokenizer)._replace(augment=None)
    count = data.train[0].shape[0] // 256
    for _ in train_batches(cfg, data, batch_tokens=65536, total_batches=count, seed=0):
        pass
    print(json.dumps([peak(), data.report["train"]["tokens"]]))
"""

PAIRS = """
from tfm_jax.data.rows.pairs import KIND, Config
from tfm_jax.data.sources import text_files
from tfm_jax.data.tokenizers import bilingual

folder = Path(sys.argv[1])
text_files._PIECE = 1 << 20  # of files whose sha256 is computed
tokenizer = bilingual.train_tokenizer(bilingual.Config(kind="byte"), [], [])
# A token for every fourth letter, in less time than the library needs.
tokenizer.encode = lambda lines, side: [
    np.append(np.frombuffer(line.encode(), np.uint8)[::4], 2).astype(np.int32)
    for line in lines
]
for name in ("small", "large"):
    files = tuple(str(folder / f"{name}.{side}") for side in (0, 1))
    cfg = Config(
        source="parallel",
        train_files=files,
        source_length=160,
        target_length=160,
    )
    data = cache.prepared(KIND, cfg, None, folder / "cache", tokenizer=tokenizer)
    print(json.dumps([peak(), data.report["train"]["source_tokens"]]))
"""


def growth(program, *arguments):
    """(more megabytes for the large text than for the small one, its tokens)."""
    ran = subprocess.run(
        [sys.executable, "-c", BEGIN + program, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    (before, _), (after, tokens) = map(json.loads, ran.stdout.splitlines())
    return after - before, tokens


@pytest.mark.parametrize(
    "settings", [("file", "joined"), ("line", "packed"), ("file", "masked")]
)
def test_memory_does_not_grow_with_running_text(tmp_path, settings):
    """Rows of 12 million more tokens in memory would be 190 to 240 MB."""
    line = "a line of text that is as long as those of people are\n"
    for name, millions in (("small", 3), ("large", 15)):
        with open(tmp_path / name, "w") as file:
            for _ in range(millions):
                file.write(line * (1_000_000 // len(line)))
    megabytes, tokens = growth(TEXT, tmp_path, *settings)
    assert tokens > 13_000_000
    assert megabytes < 130  # most are files that are mapped


def test_memory_does_not_grow_with_sentence_pairs(tmp_path):
    """Lists of 54 MB more of text and of its tokens would be 240 MB."""
    letters = "a line of text that is as long as those of people who write " * 4
    for name, millions in (("small", 3), ("large", 30)):
        for side in (0, 1):
            with open(tmp_path / f"{name}.{side}", "w") as file:
                for n in range(millions):
                    file.writelines(
                        letters[: 150 + (n + k) % 80] + "\n" for k in range(5_300)
                    )
    megabytes, tokens = growth(PAIRS, tmp_path)
    assert tokens > 7_000_000
    assert megabytes < 20  # most are a few numbers a pair
