"""What a finished run leaves for people: scores, translations and two pictures."""

import contextlib
import dataclasses
import logging
import re
from pathlib import Path

import jax

from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.pairs import encode_pairs
from tfm_jax.data.sources.bitext import Pairs
from tfm_jax.mesh import on_this_host
from tfm_jax.runs import pictures, runtime, weights
from tfm_jax.runs.log import read_history, spoken
from tfm_jax.runs.workdir import replace
from tfm_jax.terminal import one_line, say
from tfm_jax.train.evaluate import NOTHING
from tfm_jax.train.state import averaged


def final_params(workdir: Path, state, cfg):
    """The parameters that are scored: of the last step, or a mean of checkpoints.

    Args: cfg: the ``eval`` section; ``average_last`` above 1 averages checkpoints, as
        Vaswani et al. 2017, section 6.1.
    """
    params = averaged(state)
    if cfg.average_last == 1:
        return params
    folders = weights.newest_sound(workdir / weights.DIRECTORY, cfg.average_last)
    if len(folders) < cfg.average_last:
        logging.warning(
            "eval.average_last=%d, but %s has %d sound checkpoints, which are averaged",
            *(cfg.average_last, workdir, len(folders)),
        )
    mean = weights.average(folders, ema=state.ema is not None)
    return jax.tree.map(lambda p, m: jax.device_put(m, p.sharding), params, mean)


def left_out(report: dict) -> str:
    """What was read and has no part in a split: " (left out: 3 of train)", or "".

    Args: report: of the data, see ``data_report.json``.
    """
    counts = {}
    for split in ("train", "valid", "test"):
        said = report.get(split, {})
        counts[split] = said.get("read", 0) - said.get("kept", said.get("read", 0))
        counts[split] += said.get("malformed", {}).get("lines", 0)
        files = said.get("files", {}).values()
        counts[split] += sum(file.get("misplaced", 0) for file in files)
    words = [f"{count:,} of {split}" for split, count in counts.items() if count > 0]
    return f" (left out: {', '.join(words)})" if words else ""


def finish(run, log) -> dict:
    """Scores both held-out sets and writes the results into the workdir.

    Leaves ``results.json``, ``translations-SPLIT.txt``, ``curve.png`` and
    ``attention.png``, and prints the scores and some translations.
    """
    evaluator, workdir = run.evaluator, run.workdir
    params = final_params(workdir, run.state, evaluator.cfg)
    results = {"step": run.step, "memory_bytes": runtime.peak_memory()}
    for split in ("valid", "test"):
        pairs = run.data.examples.get(split, NOTHING)
        if not pairs.source:
            continue
        scores = evaluator.loss(params, split, poll=run.poll)
        text, hypotheses = evaluator.translations(params, pairs, poll=run.poll)
        results[split] = scores | text
        log.write(run.step, f"final_{split}", results[split])
        if jax.process_index() == 0:
            rows = list(zip(pairs.source, hypotheses, pairs.target, strict=True))
            write_translations(workdir / f"translations-{split}.txt", rows)
            _show(split, results[split], rows[: evaluator.cfg.samples])
    params = on_this_host(params)
    if jax.process_index() == 0:
        replace(workdir / "results.json", results)
        _draw(run, params)
    return results


def _show(split, scores, rows):
    say(f"{split}: {spoken(scores)}")
    for source, translation, reference in rows:
        verdict = "" if translation == reference else f"   (reference: {reference})"
        say(f"  {one_line(f'{source} -> {translation}{verdict}')}")


def write_translations(path: Path, rows) -> None:
    r"""Writes a header and tab-separated lines; ``read_translations`` is its inverse.

    A line break, tab or backslash inside of a text is ``\n``, ``\r``, ``\t`` or ``\\``.
    Args: rows: (source, translation, reference) each.
    """
    lines = ["\t".join(text.translate(_ESCAPES) for text in row) for row in rows]
    text = "\n".join(["source\ttranslation\treference", *lines, ""])
    replace(path, text)


def read_translations(path: Path) -> list[tuple[str, ...]]:
    """(source, translation, reference) of each line but the first."""
    _, *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [tuple(map(_unescaped, line.split("\t"))) for line in lines]


_SPELLED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPES = str.maketrans(_SPELLED)
_CHARACTERS = {spelled: character for character, spelled in _SPELLED.items()}


def _unescaped(text):
    return re.sub(r"\\.", lambda found: _CHARACTERS.get(found[0], found[0]), text)


def _draw(run, params):
    pictures.curve(read_history(run.workdir), run.workdir / "curve.png")
    held_out = run.data.examples
    split = held_out["test"] if held_out["test"].source else held_out["valid"]
    drawn = [run.workdir / "curve.png"]
    for pair in _fitting(run.experiment.data, run.data.tokenizer, split):
        maps = pictures.attention_maps(
            run.evaluator.decoder, params, run.data.tokenizer, *pair
        )
        pictures.attention(maps, run.workdir / "attention.png")
        drawn.append(run.workdir / "attention.png")
    say("see " + ", ".join(map(str, drawn)))


def _fitting(cfg, tokenizer, pairs):
    """The first (source, target) that fits a row; nothing if there is none."""
    cfg = dataclasses.replace(cfg, overlong="drop")
    for pair in zip(pairs.source, pairs.target, strict=True):
        with contextlib.suppress(DataError):
            encode_pairs(cfg, tokenizer, Pairs(*([x] for x in pair)), "valid")
            return [pair]
    return []
