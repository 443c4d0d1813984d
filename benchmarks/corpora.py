"""Memory and time that a text larger than memory needs.

    python -m benchmarks.corpora --megabytes=200 --folder=/tmp/corpora
    python -m benchmarks.corpora --megabytes=2000 --folder=/tmp/corpora

Text of random words, as frequent as Zipf says, is written once for each size. One step
of a tiny language model is then trained three times, each in a process of its own: the
first prepares, the second reads and verifies what the first has kept, the third knows
that it has not changed. Last, batches are gathered from arrays of tokens, and from
whole rows of int32, of the first million tokens, in turns in one process.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tfm_jax.data.arrays.tokenized import TokenizedDocuments
from tfm_jax.data.batch import CausalBatch
from tfm_jax.data.batches import Order, train_batches
from tfm_jax.data.prepared import Prepared
from tfm_jax.data.rows.causal import LAYOUTS, causal_rows

WORDS, EXPONENT, LINE, BLOCK = 30_000, 1.1, 12, 100_000
LETTERS = np.array([*"etaoinshrdlucmfwypvbgkjqxz"])


def write_text(path, megabytes):
    """So much ASCII text in lines of LINE words."""
    random = np.random.default_rng(0)
    lengths = random.integers(2, 11, WORDS)
    chances = np.geomspace(1, 0.02, len(LETTERS))
    words = [
        "".join(random.choice(LETTERS, n, p=chances / chances.sum())) for n in lengths
    ]
    frequency = 1 / np.arange(1, WORDS + 1) ** EXPONENT
    ends = np.cumsum(frequency / frequency.sum())
    with open(path, "w") as file:
        while file.tell() < megabytes * 1e6:
            drawn = np.searchsorted(ends, random.random(BLOCK)).clip(max=WORDS - 1)
            for first in range(0, BLOCK, LINE):
                file.write(" ".join(words[n] for n in drawn[first : first + LINE]))
                file.write("\n")


def start(config, workdir, cache):
    """One step of training: seconds to it, of processors, and memory at its most."""
    shutil.rmtree(workdir, ignore_errors=True)
    flags = [f"--config.{name}={value}" for name, value in config.items()]
    command = [sys.executable, "-m", "tfm_jax.main", f"--workdir={workdir}", *flags]
    began, first = time.monotonic(), None
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen(
        [*command, "--config=configs/shakespeare_char.py"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    for line in process.stdout:
        if line.startswith("first step done"):
            first = time.monotonic() - began
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return {
        "first_step_seconds": round(first, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_rss_mb": round(used.ru_maxrss / 1e3),
    }


def batches(ids, folder, layout, length=256, count=200, rounds=5):
    """Microseconds of a processor for a batch of 16,384 tokens: of tokens, of rows."""
    lengths = np.random.default_rng(0).integers(10, 2 * length, len(ids) // length)
    lengths = lengths[np.cumsum(lengths + 1) < len(ids)]
    ids = ids[: np.sum(lengths + 1) + 1]
    text = TokenizedDocuments(ids, lengths.astype(np.uint32), separated=True)
    gathered, arms = causal_rows(text, length, layout=layout), {}
    for name, field in gathered._asdict().items():
        if field is not None:
            np.save(folder / f"{layout}-{name}.npy", np.asarray(field))
    whole = {
        name: field
        and np.asarray(np.load(folder / f"{layout}-{name}.npy", mmap_mode="r"))
        for name, field in gathered._asdict().items()
    }
    for name, rows in {"gathered": gathered, "whole": CausalBatch(**whole)}.items():
        data = Prepared(None, [rows], [], [], {}, {}, "", {}, None)
        arms[name] = train_batches(
            Order(prefetch=0),
            data,
            batch_tokens=16_384,
            total_batches=count * rounds,
            seed=0,
        )
    seconds = {name: [] for name in arms}
    for number in range(rounds):
        for name in [*arms] if number % 2 else [*arms][::-1]:
            began = time.process_time()
            for _ in range(count):
                next(arms[name])
            seconds[name].append((time.process_time() - began) / count)
    return {name: round(1e6 * min(each)) for name, each in seconds.items()}


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/corpora"))
    parser.add_argument("--document", default="line")
    parser.add_argument("--layout", default="joined")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    path, cache = args.folder / f"{args.megabytes}.txt", args.folder / "cache"
    if not path.exists():
        write_text(path.with_suffix(".part"), args.megabytes)
        path.with_suffix(".part").rename(path)
    shutil.rmtree(cache, ignore_errors=True)
    config = {
        "data.train_files": path,
        "data.valid_share": 0.0005,
        "data.document": args.document,
        "data.layout": args.layout,
        "tokenizer.kind": "byte_bpe",
        "tokenizer.vocab": 8_000,
        "train.total_steps": 1,
        "optim.warmup_steps": 1,
    }
    runs = {}
    for name in ("cold", "verified", "warm"):
        runs[name] = start(config, args.folder / "run", cache)
        print(name, runs[name], flush=True)
    report = json.loads((args.folder / "run" / "data_report.json").read_text())
    tokens = report["train"]["tokens"]
    work = runs["cold"]["cpu_seconds"] - runs["warm"]["cpu_seconds"]
    name = "ids" if args.layout == "joined" else "rows"
    entry = next(cache.glob(f"tfm_jax/data/*/train-0-{name}.npy"))  # or a link to it
    ids = np.load(entry, mmap_mode="r")[:4_000_000]
    result = runs | {
        "megabytes": args.megabytes,
        "tokens": tokens,
        "tokens_per_cpu_second": round(tokens / work),
        "kept_mb": round(sum(x.stat().st_size for x in entry.parent.iterdir()) / 1e6),
        "batch_microseconds": {n: batches(ids, args.folder, n) for n in LAYOUTS},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
