"""TensorBoard: an event file beside the record."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tfm_jax.runs.trackers.follower import Record, RunInfo


def write(records: Iterator[list[Record]], info: RunInfo) -> None:
    """Scalars, samples and hyper-parameters, as an event file in ``tensorboard/``."""
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder, step = info.workdir / "tensorboard", info.step + 1
    folder.mkdir(parents=True, exist_ok=True)
    # Without an experiment of their own TensorBoard makes a table of all runs below
    # one folder: a row a run, a column for each knob and each scalar.
    _, begins, ends = summary.hparams(dict(info.knobs), {})
    with contextlib.closing(EventsWriter(os.path.join(folder, "events"))) as writer:
        # What an earlier process logged from this step on is hidden.
        start = SessionLog(status=SessionLog.START)
        writer.write_event(Event(step=step, file_version="brain.Event:2"))
        writer.write_event(Event(step=step, session_log=start))
        if info.knobs:
            writer.write_event(Event(summary=begins, step=step))
        for ready in records:
            for record in ready:
                for made in _summaries(record, info.workdir, summary, ends):
                    event = Event(summary=made, step=record.step, wall_time=record.time)
                    writer.write_event(event)
            writer.flush()


def _summaries(record, workdir, summary, ends):
    if record.kind == "end":
        return [ends] if record.values["finished"] else []
    made = [summary.scalar(tag, value) for tag, value in record.numbers().items()]
    if record.kind == "samples":
        made += [summary.text(f"samples/{n}", x) for n, x in record.values.items()]
    if record.kind == "pictures":
        for name, path in record.values.items():
            pixels = np.asarray(Image.open(workdir / path).convert("RGB"))
            made.append(summary.image(name, pixels, dataformats="HWC"))
    return made
