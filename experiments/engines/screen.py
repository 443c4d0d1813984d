"""What a study shows while it runs."""

import contextlib
import sys
import time
from typing import Any

from rich import progress

from experiments.runs import attempts
from tfm_jax.api import say, shown


@contextlib.contextmanager
def screen(total: int, done: int) -> Any:
    """A bar for the study and one for each run; lines only where nobody watches."""
    if not sys.stdout.isatty():
        yield Lines(total, done)
        return
    with progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    ) as bars:
        yield Bars(bars, total, done)


class Lines:
    """One line for each start and end, and a failure's last log lines at once."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done

    def started(self, cell: Any, slot: Any) -> None:
        """Names the run and where it runs."""
        self._print(f"start   {cell.directory.name}  on {slot.name}")

    def ended(self, cell: Any, status: Any, again: Any) -> None:
        """How it ended; the end of its log if it failed."""
        self.done += status.finished
        word = f"{'again' if again else status.name:7}"
        took = f"{status.seconds:.0f} s"
        self._print(f"{word} {cell.directory.name}  {took}  [{self.done}/{self.total}]")
        if status.name == "failed":
            lines = status.error.splitlines()
            self._print("\n".join(f"        | {line}" for line in lines))

    def tick(self, running: Any) -> None:
        """Nothing: a log is no place for a bar."""

    def _print(self, text):
        say(text)


class Bars(Lines):
    """The same with bars below."""

    def __init__(self, bars: progress.Progress, total: int, done: int) -> None:
        super().__init__(total, done)
        self._bars, self._of, self._looked = bars, {}, 0.0
        self._all = bars.add_task("study", total=total, completed=done)

    def tick(self, running: Any) -> None:
        """Once a second."""
        if time.monotonic() - self._looked < 1.0:
            return
        self._looked = time.monotonic()
        running = {cell.directory: cell for cell in running}
        for directory in set(self._of) - set(running):
            self._bars.remove_task(self._of.pop(directory))
        for directory, cell in running.items():
            step, total = attempts.progress(cell)
            if directory not in self._of:
                self._of[directory] = self._bars.add_task(
                    shown(directory.name), total=total
                )
            self._bars.update(self._of[directory], completed=step)
        self._bars.update(self._all, completed=self.done)

    def _print(self, text):
        self._bars.console.print(shown(text), markup=False, highlight=False)
