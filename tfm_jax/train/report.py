"""What a finished run leaves for people: scores, translations and two pictures."""

import json
from pathlib import Path

import jax

from tfm_jax.train import pictures, runtime, weights
from tfm_jax.train.log import read_history, spoken
from tfm_jax.train.mesh import on_this_host
from tfm_jax.train.state import averaged
from tfm_jax.train.terminal import say
from tfm_jax.train.workdir import replace


def final_params(workdir: Path, state, cfg):
    """The parameters that are scored: of the last step, or a mean of checkpoints.

    Args: cfg: the ``eval`` section; ``average_last`` above 1 averages checkpoints, as
        Vaswani et al. 2017, section 6.1.
    """
    params = averaged(state)
    if cfg.average_last == 1:
        return params
    folders = weights.numbered(workdir / weights.DIRECTORY)[-cfg.average_last :]
    mean = weights.average(folders, ema=state.ema is not None)
    return jax.tree.map(lambda p, m: jax.device_put(m, p.sharding), params, mean)


def finish(run, log) -> dict:
    """Scores both held-out sets and writes the results into the workdir.

    Leaves ``results.json``, ``translations-SPLIT.txt``, ``curve.png`` and
    ``attention.png``, and prints the scores and some translations.
    """
    evaluator, workdir = run.evaluator, run.workdir
    params = final_params(workdir, run.state, evaluator.cfg)
    results = {"step": run.step, "memory_bytes": runtime.peak_memory()}
    for split in ("valid", "test"):
        pairs = getattr(run.data, split)
        if not pairs.source:
            continue
        scores = evaluator.loss(params, split, poll=run.poll)
        text, hypotheses = evaluator.translations(params, pairs, poll=run.poll)
        results[split] = scores | text
        log.write(run.step, f"final_{split}", results[split])
        if jax.process_index() == 0:
            lines = zip(pairs.source, hypotheses, pairs.target, strict=True)
            rows = ["\t".join(row) for row in lines]
            path = workdir / f"translations-{split}.txt"
            header = "source\ttranslation\treference"
            replace(path, "\n".join([header, *rows]) + "\n")
            _show(split, results[split], rows[: evaluator.cfg.samples])
    params = on_this_host(params)
    if jax.process_index() == 0:
        replace(workdir / "results.json", json.dumps(results, indent=1) + "\n")
        _draw(run, params)
    return results


def _show(split, scores, rows):
    say(f"{split}: {spoken(scores)}")
    for row in rows:
        source, translation, reference = row.split("\t")
        verdict = "" if translation == reference else f"   (reference: {reference})"
        say(f"  {source} -> {translation}{verdict}")


def _draw(run, params):
    pictures.curve(read_history(run.workdir), run.workdir / "curve.png")
    split = run.data.test if run.data.test.source else run.data.valid
    drawn = [run.workdir / "curve.png"]
    if split.source:
        maps = pictures.attention_maps(
            run.evaluator.decoder,
            params,
            run.data.tokenizer,
            split.source[0],
            split.target[0],
        )
        pictures.attention(maps, run.workdir / "attention.png")
        drawn.append(run.workdir / "attention.png")
    say("see " + ", ".join(map(str, drawn)))
