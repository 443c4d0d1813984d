"""Collective: what the processes of a run do at the same point, in any thread."""

import json
import secrets
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tfm_jax.runs.process import peers
from tfm_jax.runs.process.exits import InfrastructureError, one_line


class Collective:
    """Steps that all processes take, of which each knows how the others fared.

    Attributes:
        name: the same in all processes, once they have met.
    """

    def __init__(self) -> None:
        self.name = secrets.randbelow(2**31)
        self._steps = 0

    def meet(self) -> None:
        """Return when all processes are here; of main threads, it is a collective."""
        if jax.process_count() > 1:
            name = multihost_utils.broadcast_one_to_all(np.int32(self.name))
            self.name = int(name)

    def all(self, work: Callable[[], Any]) -> list[Any]:
        """What ``work()`` returns in each process, in order.

        Args: work: what it returns is told the others as JSON.
        Raises: its error; InfrastructureError if only another process had one.
        """
        if jax.process_count() == 1:
            return [work()]
        answer: dict[str, Any] = {}
        failed: Exception | None = None
        try:
            answer["result"] = work()
        except Exception as error:
            failed, answer["error"] = error, one_line(error)
        key = f"tfm_jax/collective/{self.name}"
        if self._steps > 1:  # whose answers all have, as they began the next step
            peers.forget(f"{key}/{self._steps - 2}/")
        said = peers.exchange(f"{key}/{self._steps}", json.dumps(answer))
        self._steps += 1
        if failed:
            raise failed
        answers = [json.loads(text) for text in said]
        for process, answer in enumerate(answers):
            if "error" in answer:
                raise InfrastructureError(f"process {process}: {answer['error']}")
        return [answer["result"] for answer in answers]

    def first(self, work: Callable[[], Any]) -> Any:
        """What ``work()`` returns in process 0, which alone does it."""
        return self.all(lambda: work() if jax.process_index() == 0 else None)[0]
