"""Profile: some train steps as a trace, for TensorBoard and Perfetto."""

from pathlib import Path
from typing import Any, Self

import jax

from tfm_jax.config import ConfigError
from tfm_jax.terminal import say

FOLDER = "profile"


class Profile:
    """Traces the steps that ``--profile=FROM,STEPS`` asks for, and what lies between.

    Args: asked: "FROM,STEPS": the first step, which is 1, 2, ..., and how many; "":
        none. total: steps of the run. workdir: gets the trace, in ``profile/``.
    Raises: ConfigError for what are no steps of the run.
    """

    def __init__(self, asked: str, total: int, workdir: Path) -> None:
        self.first = self.last = 0
        self.folder, self._traces = workdir / FOLDER, False
        if not asked:
            return
        parts = asked.split(",")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ConfigError(
                f"--profile={asked}; write FROM,STEPS: the first step and how many, "
                "such as 10,5"
            )
        self.first, count = map(int, parts)
        self.last = self.first + count - 1
        if not 1 <= self.first <= self.last <= total:
            raise ConfigError(
                f"--profile={asked} is steps {self.first} to {self.last}; choose some "
                f"from 1 to train.total_steps={total}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()

    def begin(self, made: int) -> None:
        """Tells that so many steps are made already."""
        if 0 < self.first <= made:
            say(f"step {self.first} is made already: there is no profile of it")

    def before(self, step: int) -> None:
        """Tells that ``step`` is about to be made."""
        if step == self.first:
            jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
            self._traces = True

    def after(self, step: int, metrics: Any) -> None:
        """Tells that ``step`` is under way, and gives these."""
        if self._traces and step == self.last:
            jax.block_until_ready(metrics)
            self._stop()

    def _stop(self):
        if self._traces:
            self._traces = False
            jax.profiler.stop_trace()
            say(f"profile of steps {self.first} to {self.last}: {self.folder}")
