"""Plan, run and report a study.

Usage:
  python -m experiments.run STUDY[:SCALE] [COMMAND] [OPTION ...]
  python -m experiments.run --config=FILE[:SIZE] --axis KNOB=V1,V2 ... [COMMAND] ...
  python -m experiments.run new NAME
  python -m experiments.run list

  STUDY     a file of experiments/studies/ without .py, any FILE.py, or the NAME of a
            study of your own: runs/studies/NAME/study.py
  new       writes a commented study file to begin with
  list      names of all studies, their scales and questions

  plan      what would run: arms, rates, seeds, sizes, what is done and what is missing,
            and the smallest effects that can be detected; with --topology=v5e:2x4 (see
            docs/scale.md) also what a train step of each arm takes of the memory of one
            such device, and whether it fits
  run       (default) run what is missing, then report; again and again if need be
  status    one line a run
  retry     run again what failed, whatever the reason
  report    write report.html, report.md and report.json from the run directories

  --set config.KNOB=VALUE   for every arm; may be repeated
  --seeds 5 or 0,1,7        so many, or these, instead of the study's
  --until-decided N         group-sequential: up to N seeds, batch by batch, until every
                            expectation (of an open question: every arm) is decided;
                            looks are registered, intervals and p corrected for them.
                            Given once, before the first run
  --engine ENGINE           local, slurm or kubernetes
  --engine-option K=V       of sbatch (partition=gpu, time=2:00:00), or for Kubernetes
                            image=, claim=, mount=, selector.LABEL= and resources
                            (nvidia.com/gpu=1); a run with mesh.processes=N gets N
                            nodes or pods
  --jobs N                  runs at a time; default: one for each device or core
  --out DIR                 where studies live; default runs/studies
  --allow-mixed             report runs of different code or machines together

A question of your own, which becomes the study file of a NAME, to run again or edit:
  --config FILE[:SIZE]      what all arms start from
  --axis KNOB=V1,V2,...     repeated: an arm for each combination; the first is the
                            baseline. A value with a comma stands in quotes
  --zip                     first values together, second values together, ...
  --tune KNOB=V1,V2,...     tried for every arm, with a seed of its own
  --tune KNOB=LOW..HIGH     a range, or LOW..HIGH:log; --trials N: so many points of it
                            for every arm, the same quasi-random ones; with --proposer
                            optuna those that follow from an arm's results
  --metric SPLIT/SCORE      default: what the configuration ranks checkpoints by; --goal
                            min or max, if it does not say; --sesoi: the smallest
                            difference that matters
  --name NAME               default: configuration and knobs

Exit codes: 0 all runs ended, 1 some failed, 65 data unreadable, 69 the machine or the
scheduler failed, 75 stopped, 78 a mistake in the study or on the command line.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import study_file
from experiments.adhoc import files, flags
from experiments.costs import sizes
from experiments.engines import batch, local, screen, submit
from experiments.plan import ROOT, Plan
from experiments.report.numbers import rounded
from experiments.runs import attempts
from experiments.runs.cells import FINISHED
from experiments.study import Typed
from tfm_jax import api
from tfm_jax.api import (
    ConfigError,
    Parser,
    environment,
    exits,
    install,
    leave_accelerators,
    nearest,
    no_choice,
    say,
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line. Raises: ConfigError naming what is wrong with it."""
    parser = Parser(
        prog="python -m experiments.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    flags.add_flags(parser)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--seeds", type=flags.seeds, default=())
    parser.add_argument("--until-decided", type=int)
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument(
        "--engine-option", action="append", default=[], dest="engine_options"
    )
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT)
    parser.add_argument("--topology", default="")
    parser.add_argument("--allow-mixed", action="store_true")
    parser.add_argument("--index", type=int, help="of a run in plan.json, for `one`")
    options = parser.parse_intermixed_args(argv)
    options.study, options.command = _study_and_command(options)
    return options


def _study_and_command(options):
    """What the words without a flag say; the study is "" if flags ask it."""
    commands = [word for word in options.words if word in WORDS]
    names = [word for word in options.words if word not in commands]
    if "list" in commands and (names or commands[1:] or options.config):
        raise ConfigError("list: it is of all studies; nothing else stands beside it")
    if commands == ["list"]:
        return "", "list"
    if options.config and names:
        raise ConfigError(
            f"--config={options.config} asks a question of its own, beside study "
            f"{names[0]!r}; give one of the two{nearest(names[0], COMMANDS)}"
        )
    if not options.config and not names:
        asked = "STUDY[:SCALE], or --config=FILE[:SIZE] --axis KNOB=V1,V2"
        asked += "; `list` names all studies"
        what = "NAME of the new study" if "new" in commands else asked
        raise ConfigError(f"the following arguments are required: {what}")
    if len(names) > 1:
        known = [name for name in WORDS if name != "one"]  # of workers
        wrong = no_choice("command", names[1], known)
        raise ConfigError(f"{wrong}; a scale is written {':'.join(names[:2])}")
    if len(commands) > 1:
        raise ConfigError(f"{commands[1]!r} beside {commands[0]!r}: one at a time")
    return "".join(names), "".join(commands) or "run"


def show(options: argparse.Namespace, plan: Plan) -> None:
    """Prints the plan."""
    from experiments.statistics import power

    slots = _slots(options, plan)
    plan.check()
    rows, done = plan.rows(), plan.count(*FINISHED)
    peaks = _peaks(options, plan)
    say(f"{plan.spec}  {' '.join(plan.question.split())}\n")
    memory = f"{'GiB/device':>12}{'fits':>6}" if peaks else ""
    wide = max(24, *(len(arm) + 2 for arm in plan.study.arms))
    columns = f"{'parameters':>12}{'GFLOP/step':>12}{'runs':>6}{'done':>6}{memory}"
    say(f"{'arm':{wide}}{columns}")
    for arm, size in plan.sizes.items():
        statuses = [r["status"] for r in rows if r["arm"] == arm]
        ended = sum(status in FINISHED for status in statuses)
        flops, count = size.get("flops_per_step"), size.get("parameters")
        flops = f"{flops / 1e9:.3f}" if flops else "-"  # not counted, or by a probe
        count = f"{count:,}" if count else "-"
        memory = "{:12.3f}{:>6}".format(*peaks[arm]) if peaks else ""
        say(f"{arm:{wide}}{count:>12}{flops:>12}{len(statuses):6}{ended:6}{memory}")
    seconds = [r["seconds"] for r in rows if r["status"] in FINISHED and r["seconds"]]
    summary = f"\n{done} of {plan.expected()} runs done"
    if plan.expected() > len(rows):
        summary += f"; {plan.expected() - len(rows)} wait for the tuning"
    if seconds and slots:
        left = (plan.expected() - done) * sum(seconds) / len(seconds) / len(slots)
        summary += f"; about {left / 60:.0f} min left on {len(slots)} slots"
    elif not done:
        summary += f"; {_of_report(options, plan)}"
    say(summary)
    for line in (*plan.warnings, *power.lines(plan)):
        say(line)
    for row in rows:
        say(f"  {row['status']:9}{row['phase']:12}{Path(row['directory']).name}")


def _of_report(options, plan):
    """How long the runs took that the report in docs/studies is of, if there is one."""
    from experiments.overview import entries

    changed = options.settings or options.seeds or options.until_decided
    if not (changed or plan.path) and entries.FILE.is_file():
        for entry in entries.read():
            if (entry["name"], entry["scale"]) == (plan.name, plan.scale):
                where = f"{entry['hours']:.2g} h added up, on {entry['machine']}"
                return f"those of docs/studies took {where}"
    return "how long one takes is said after the first"


def run(options: argparse.Namespace, plan: Plan) -> Any:
    """Runs what is missing, tuning first, then reports."""
    slots = _slots(options, plan)
    processes = max(map(batch.processes, plan.cells()), default=1)
    if options.engine == "local" and processes > 1:
        raise ConfigError(
            f"mesh.processes={processes}: --engine=local starts one process a run; "
            "choose from (slurm, kubernetes)"
        )
    plan.check()
    _say_changes(plan.register())
    for line in plan.warnings:
        say(line)
    while todo := plan.todo():
        planned = batch.write_plan(plan)
        if options.engine != "local":
            indices = [planned.index(group[0].id) for group in local.together(todo)]
            given = flags.pairs("--engine-option", options.engine_options)
            return submit.submit(options, plan, indices, given)
        with screen.screen(plan.expected(), plan.count(*FINISHED)) as shown:
            if not local.run(todo, slots, environment(), shown):
                say("stopped; the same command goes on", file=sys.stderr)
                return exits.PREEMPTED
        seen, known, plan = len(plan.study.seeds), plan.warnings, plan.again()
        for line in [line for line in plan.warnings if line not in known]:
            say(line)
        if len(plan.study.seeds) > seen:
            say(f"not decided by {seen} seeds; on to {len(plan.study.seeds)}")
        if plan.stuck:
            break  # what follows from the tuning is not known
    report(options, plan)
    if failed := plan.count("failed"):
        say(f"failed runs: {failed}; `status` says why, `retry` starts them again")
        return exits.UNKNOWN
    return exits.OK


def status(options: argparse.Namespace, plan: Plan) -> None:
    """One line a run."""
    for row in plan.rows():
        value = "" if row["metric"] is None else rounded(row["metric"], 4)
        name = Path(row["directory"]).name
        say(f"{row['status']:9}{row['attempts']:3}  {value:>10}  {name}")
        if row["error"]:
            say("\n".join(f"    | {line}" for line in row["error"].splitlines()))


def retry(options: argparse.Namespace, plan: Plan) -> Any:
    """Forgets failures and runs."""
    for cell in plan.cells():
        attempts.forget(cell)
    return run(options, plan.again())


def report(options: argparse.Namespace, plan: Plan) -> Any:
    """Writes the report and says what came out."""
    from experiments.report import page
    from experiments.statistics import verdicts

    analysis = verdicts.analyse(plan)
    if analysis["mixed_environments"] and not options.allow_mixed:
        raise ConfigError(
            "runs of different code or machines are not compared: "
            f"{'; '.join(analysis['mixed_environments'])}; --allow-mixed does it"
        )
    where = page.write(analysis, plan.root)
    say("\n" + headline(analysis))
    _say_changes(analysis["exploratory"])
    say(f"\n{analysis['verdict']}: {analysis['answer']}\nsee {where}")


def _say_changes(changes):
    if changes:
        say("\n  ".join(["\nExploratory, changed after runs existed:", *changes]))


def headline(analysis: Any) -> Any:
    """A line an arm: mean, and difference from the baseline with its interval."""
    wide = max(24, *(len(arm["name"]) + 2 for arm in analysis["arms"]))
    metric = f"{analysis['metric']:>12}"
    lines = [f"{'arm':{wide}}{metric}  difference, 95 % interval"]
    for arm in analysis["arms"]:
        mean = "" if arm["mean"] is None else rounded(arm["mean"], 4)
        line = f"{arm['name']:{wide}}{mean:>12}  "
        difference = arm["difference"]
        if difference and difference["low_holm"] is not None:
            names = ("mean", "low_holm", "high_holm")
            numbers = [rounded(difference[name], 4, sign=True) for name in names]
            line += "{} [{}, {}]  ".format(*numbers)
        lost = arm["diverged"]
        note = f", {lost['count']} of {lost['n']} diverged" if lost["count"] else ""
        lines.append(line + arm["word"] + note)
    return "\n".join(lines)


def one(options: argparse.Namespace, plan: Plan) -> Any:
    """Runs a cell of plan.json, and those that train with it; the exit code.

    Of the processes of one run the first keeps the books.
    """
    listed = [entry["id"] for entry in batch.read_plan(plan.root)]
    if options.index not in range(len(listed)):
        raise ConfigError(
            f"--index={options.index}: {plan.root}/plan.json lists 0 to "
            f"{len(listed) - 1}"
        )
    commands = [c.command for c in plan.cells() if c.id == listed[options.index]]
    if not commands:
        raise ConfigError(
            f"--index={options.index}: run {listed[options.index]} of plan.json is no "
            "run of the study any more"
        )
    group = [run for run in plan.runs if run.cell.command == commands[0]]
    left = [cell for cell, status in group if not status.finished]
    if not left:
        return exits.OK
    if any(os.environ.get(name, "0") != "0" for name in PROCESS):
        return local.follow(group[0].cell)
    for cell in left:
        attempts.forget(cell)
    followed = batch.processes(left[0]) > 1
    return local.run_group(left, environment(), followed=followed)


COMMANDS = {
    "plan": show, "run": run, "status": status, "retry": retry, "report": report,
    "one": one,
}  # fmt: skip
WORDS = (*COMMANDS, "new", "list")
ENGINES = ("local", *submit.ENGINES)
PROCESS = ("JAX_PROCESS_ID", "SLURM_PROCID")  # which one of a run this is


def _slots(options, plan):
    """The slots of this machine, if the runs are to run here."""
    if options.engine != "local":
        return []
    return local.slots(options.jobs or int(plan.alone))


def _peaks(options, plan):
    """See ``sizes.peaks``; {} if nothing asks for it."""
    if not options.topology:
        return {}
    if plan.study.probe:
        raise ConfigError(
            f"--topology={options.topology}: runs of probe={plan.study.probe!r} are no "
            "train steps"
        )
    return sizes.peaks(plan.cells(), options.devices)


def _settings(options):
    """``config.KNOB=VALUE`` -> {KNOB: VALUE}, text; the config gives it its type."""
    for text in options.settings:
        if not re.match(r"config\.[^=]+=", text):
            raise ConfigError(f"--set {text}: write --set config.KNOB=VALUE")
    given = flags.pairs("--set", options.settings)
    return {name.removeprefix("config."): Typed(v) for name, v in given.items()}


def _check(options):
    """Options that another one leaves without effect."""
    flags.check(options)
    _settings(options)
    if options.name in WORDS:
        raise ConfigError(f"--name={options.name} is a command; choose another one")
    given = options.engine_options
    if options.engine == "local" and given:
        raise ConfigError(f"--engine-option {given[0]}: --engine=local has none")
    if options.topology and options.command != "plan":
        raise ConfigError(f"--topology={options.topology} is for `plan`")
    if options.index is not None and options.command != "one":
        raise ConfigError(f"--index={options.index} is for `one`")


@exits.command("experiments")
def main(argv: Sequence[str]) -> Any:
    """Exit code of the command ``argv``."""
    options = parse(argv)
    _check(options)
    if options.command == "list":
        say("\n".join(study_file.listing(options.out)))
        return exits.OK
    if options.command == "new":
        return files.new(options.study, options.out)
    leave_accelerators()
    options.devices = options.topology and api.describe_topology(options.topology)
    if options.config:
        files.write(options)
    plan = Plan.load(
        options.study,
        options.out,
        settings=_settings(options),
        seeds=options.seeds,
        until_decided=options.until_decided,
    )
    return COMMANDS[options.command](options, plan)


def program() -> None:
    """The command of this process."""
    # before and after the runs, which listen themselves
    exits.end_when_asked("experiments: stopped; the same command goes on")
    install()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    program()
