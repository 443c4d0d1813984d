"""Identity: what a run of a study is called after, its configuration and its data."""

import functools
import hashlib
from typing import TYPE_CHECKING

from tfm_jax.api import DATA_FILES, judge_name, prepare, renamed, to_json

if TYPE_CHECKING:
    from tfm_jax.api import Experiment

SCHEMA = 1  # another one makes every run another run
ADDED = {  # later knob -> what was done before: at that, it is in no name
    "data.heldout_words_least": 0,
    "data.heldout_words_most": 0,
    "eval.judge": "",
    "mesh.matmul_precision": "default",
    "model.embedding_scale": False,
    "model.lm.embedding_scale": False,
    "model.lm.loss_chunk": 0,
    "model.loss_chunk": 0,  # of short rows or few tokens
    "model.text.embedding_scale": False,
    "optim.cut_after_steps": 50_000,
    "optim.cut_every_steps": 10_000,
    "optim.cut_factor": 0.5,
    "optim.cut_patience": 1,
    "train.extended_at": 0,
    "train.skip_sigma": 0.0,
    "train.stop_metric": "loss",
    "train.stop_patience": 0,
}
# family -> knobs of ``ADDED`` that it had before others
HAD = {"transformer": {"model.embedding_scale"}}
# section of the data -> the source that reads it
READ_BY = {
    "counting": "counting",
    "mechanism": "mechanisms",
    "nearest": "nearest",
    "scenes": "scenes",
}
SHOWN = ("eval.pictures", "eval.samples")


def identity(
    experiment: "Experiment", *, probe: str = "", repeat: int = 0,
    vmapped: bool = False, first: "Experiment | None" = None,
) -> str:  # fmt: skip
    """12 hexadecimal digits: equal for runs that must give equal numbers.

    sha256 of the configuration without what changes no number, of the content of the
    data and of the judge wherever they lie, of ``repeat``, which tells apart runs of
    one content that are made to be compared, of ``vmapped``: products of many runs
    round otherwise, and of the ``first`` run.
    """
    sections = experiment.as_dict()
    for knob in _cosmetic(experiment):
        *outer, last = knob.split(".")
        functools.reduce(dict.__getitem__, outer, sections).pop(last)
    sections = {name: knobs for name, knobs in sections.items() if knobs != {}}
    for path, before in ADDED.items():
        *outer, knob = path.split(".")
        section = functools.reduce(lambda x, name: x.get(name, {}), outer, sections)
        had = path in HAD.get(experiment.model_name, ())
        if section.get(knob) == before and not had:
            del section[knob]
    for knob in DATA_FILES:
        sections["data"].pop(knob.removeprefix("data."), None)
    for name, source in READ_BY.items():
        if sections["data"].get("source") != source:
            sections["data"].pop(name, None)  # is not read
    if judge := experiment.eval.judge:
        sections["eval"]["judge"] = judge_name(judge) or judge
    sections = renamed.former(sections)  # a new name makes no other run
    content = {"schema": SCHEMA, "probe": probe, "repeat": repeat, "config": sections}
    if vmapped:
        content["vmapped"] = True
    if first:
        content["first"] = identity(first)
    content["fingerprint"] = prepare(experiment).fingerprint
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:12]


def _cosmetic(experiment):
    """Knobs that change no number of a run."""
    measured_with = experiment.workload.measured_with
    shown = {*SHOWN} - {*measured_with}
    measures = ["eval.", *measured_with]  # but for what is logged or drawn of it
    if experiment.eval.average_last > 1:
        measures.append("checkpoint.")  # which checkpoints there are counts
    return [
        knob
        for knob, role in experiment.roles().items()
        if role == "operation"
        and (knob in shown or not knob.startswith(tuple(measures)))
    ]
