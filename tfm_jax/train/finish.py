"""Finish: scores of the held-out data after the last step, and what people look at."""

import logging
from pathlib import Path
from typing import Any

import jax

from tfm_jax.runs import pictures
from tfm_jax.runs.log import read_history, spoken
from tfm_jax.runs.process import runtime
from tfm_jax.runs.storage import weights
from tfm_jax.runs.workdir import replace
from tfm_jax.terminal import one_line, say
from tfm_jax.train.state import averaged


def final_params(workdir: Path, state: Any, cfg: Any) -> Any:
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
            cfg.average_last,
            workdir,
            len(folders),
        )
    mean = weights.average(folders, ema=state.ema is not None)
    return jax.tree.map(lambda p, m: jax.device_put(m, p.sharding), params, mean)


def finish(run: Any, log: Any) -> dict:
    """Scores the held-out sets, and their variants, and leaves it all in the workdir.

    That is ``results.json``, files of the evaluator, such as ``translations-test.txt``,
    with ``eval.pictures`` ``curve.png``, ``confusion-test.png`` of classes,
    ``samples-valid.png`` of images that are drawn, and ``attention.png`` of a model
    that has one.

    Args: run: ``Training`` after its last step. log: ``MetricsLog``.
    """
    evaluator, workdir = run.evaluator, run.workdir
    is_main_process = jax.process_index() == 0
    params = final_params(workdir, run.state, evaluator.cfg)
    results = {"step": run.step, "memory_bytes": runtime.peak_memory()}
    results |= {"stopped": run.stopped} if run.stopped else {}
    confusions, samples = {}, {}
    scored = {split: (evaluator, split) for split in ("valid", "test")}
    scored |= {name: (other, "valid") for name, other in evaluator.variants.items()}
    for name, (each, split) in scored.items():
        final = each.final(params, split, poll=run.poll)
        if not final.scores:
            continue
        results[name] = final.scores
        log.write(run.step, f"final_{name}", final.scores)
        if is_main_process:
            show(name, final)
            for file, text in final.files.items():
                path = workdir / file
                replace(path.with_stem(f"{path.stem}-{name}"), text)
            if final.confusion:
                confusions[name] = final.confusion
            if final.images is not None:
                samples[name] = final.images
    drawn = evaluator.cfg.pictures
    maps = _attention(evaluator, params) if drawn else None
    if is_main_process:
        replace(workdir / "results.json", results)
        if drawn:
            _draw(workdir, run.experiment.workload, maps, confusions, samples)
    return results


def show(name: str, scored: Any) -> None:
    """Prints the scores of a split and its lines."""
    say(f"{name}: {spoken(scored.scores)}")
    for line in scored.lines:
        say(f"  {one_line(line)}")


def _attention(evaluator, params):
    """`AttentionMaps` of the pair that is pictured, if any; all processes call it."""
    if not (pictured := evaluator.pictured):
        return None
    model, tokenizer, *pair = pictured
    with evaluator.unrolled(params) as (_, params):
        return pictures.attention_maps(model, params, tokenizer, *pair)


def _draw(workdir, workload, maps, confusions, samples):
    drawn = [workdir / "curve.png"]
    pictures.curve(read_history(workdir), workload, drawn[0])
    for name, matrix in confusions.items():
        drawn.append(workdir / f"confusion-{name}.png")
        pictures.confusion(matrix, drawn[-1])
    for name, images in samples.items():
        drawn.append(workdir / f"samples-{name}.png")
        pictures.images(images, drawn[-1])
    if maps is not None and maps.kinds:
        drawn.append(workdir / "attention.png")
        pictures.attention(maps, drawn[-1])
    say("see " + ", ".join(map(str, drawn)))
