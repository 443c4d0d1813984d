"""Submit: hands the missing runs of a study to a scheduler."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.runs.cells import seeds_flag
from tfm_jax.api import ConfigError, say

if TYPE_CHECKING:
    from experiments.plan import Plan


def submit(
    options: argparse.Namespace,
    plan: "Plan",
    indices: Sequence[int],
    given: dict[str, str],
) -> None:
    """Hands runs to the scheduler ``options.engine``; says what to do next.

    Args: indices: of the runs in ``plan.json``. given: ``--engine-option``, by name.
    Raises: ConfigError for an option that the scheduler does not take, or lacks.
    """
    ENGINES[options.engine](options, plan, indices, given)


def _slurm(options, plan, indices, given):
    from experiments.engines import slurm

    tail = again(options, plan, plan.root.parent.absolute())
    jobs = slurm.submit(
        plan.spec,
        plan.root,
        indices,
        time_limit=given.pop("time", ""),
        options=given,
        command=[sys.executable, "-m", "experiments.run", *tail],
        jobs=options.jobs,
    )
    names = " and ".join(jobs)
    say(f"submitted as job {names}; the same command with `status` tells how it is")


def _kubernetes(options, plan, indices, given):
    from experiments.engines import kubernetes

    places = {k: given.pop(k) for k in ("image", "claim", "mount") if k in given}
    if not {"image", "claim"} <= set(places):
        raise ConfigError(
            "--engine kubernetes needs --engine-option image=IMAGE and "
            "--engine-option claim=PERSISTENT_VOLUME_CLAIM"
        )
    prefix = "selector."
    labels = [name for name in given if name.startswith(prefix)]
    selector = {name.removeprefix(prefix): given.pop(name) for name in labels}
    tail = again(options, None, places.get("mount", "/studies"))
    path = kubernetes.submit(
        plan.spec,
        plan.root,
        indices,
        resources=given,
        selector=selector,
        command=["python", "-m", "experiments.run", *tail],
        jobs=options.jobs,
        **places,
    )
    say(f"kubectl create --filename {path}")


ENGINES = {"slurm": _slurm, "kubernetes": _kubernetes}


def again(options: argparse.Namespace, plan: "Plan | None", out: Any) -> list[str]:
    """Arguments that make this study again elsewhere, to run one cell of it.

    Args: plan: whose own file is then named by its whole path; None: as it was given.
    """
    study = options.study
    if plan and plan.path:
        study = f"{plan.path.absolute()}:{plan.scale}"
    tail = [study, "one", *(f"--set={text}" for text in options.settings)]
    if options.seeds:
        tail.append(f"--seeds={seeds_flag(options.seeds)}")
    if options.until_decided is not None:
        tail.append(f"--until-decided={options.until_decided}")
    return [*tail, f"--out={out}"]
