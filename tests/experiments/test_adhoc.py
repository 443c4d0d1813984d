"""Ad-hoc studies: a question on the command line, and the file that it becomes."""

import json
import os
import shlex
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments import load_study, plan, run, study_file
from experiments.adhoc import files, questions, study_text
from experiments.costs import sizes
from experiments.runs import attempts
from experiments.space import choice, linear, log
from experiments.study import Study
from tests.experiments import tiny_study
from tests.experiments.engines import fake_slurm
from tfm_jax.api import ConfigError, exits, typed_knobs

CONFIG = "configs/transformer_numerals_small.py:tiny"
NORMS = ("--axis", "model.norm=pre,post")
WARMUPS = ("--axis", "optim.warmup_steps=0,200")
TRIALS = ("--trials=4", "--tune")
THOUSANDS = ",".join(map(str, range(1, 3_001)))
WARM = (f"--config={CONFIG}", *NORMS, *WARMUPS, "--seeds", "3", "--name", "warm")


@pytest.fixture(scope="module", autouse=True)
def at_root(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        patch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
        scores = ["valid/nll", "valid/tokens"]
        for module in (plan, questions):  # which would prepare the data
            patch.setattr(module, "score_names", lambda _: scores)
        yield


def write(out, *argv):
    """The study file that flags become."""
    options = run.parse([*argv, f"--out={out}"])
    files.write(options)
    return study_file.read(options.study, out)


def test_axes_are_a_study_file_with_the_product_of_their_values(tmp_path, capsys):
    assert run.main([*WARM, "plan", f"--out={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "0 of 12 runs done" in shown and "post-warmup_steps200-s2-" in shown
    study = study_file.read("warm", tmp_path).study
    assert study.arms == {
        "pre-warmup_steps0": {"model.norm": "pre", "optim.warmup_steps": 0},
        "pre-warmup_steps200": {"model.norm": "pre", "optim.warmup_steps": 200},
        "post-warmup_steps0": {"model.norm": "post", "optim.warmup_steps": 0},
        "post-warmup_steps200": {"model.norm": "post", "optim.warmup_steps": 200},
    }
    assert (study.baseline, study.seeds) == ("pre-warmup_steps0", (0, 1, 2))
    assert (study.metric, study.goal) == ("valid/nll", "min")


def test_its_name_and_its_flags_are_one_study(tmp_path, capsys):
    for argv in (WARM, ("warm",), ("warm:cpu",), WARM):
        assert run.main([*argv, "status", f"--out={tmp_path}"]) == 0
    shown = capsys.readouterr().out.replace(f"wrote {tmp_path}/warm/study.py\n", "", 1)
    assert shown and shown == shown[: len(shown) // 4] * 4


def test_the_command_of_its_report_asks_it_from_nothing(tmp_path):
    file = write(tmp_path, *WARM, "--set", "config.train.total_steps=7")
    python, module, name, *argv = shlex.split(load_study("warm", tmp_path).command)
    assert (python, module, name) == ("python", "-m", "experiments.run")
    path = study_file.path_of("warm", tmp_path)
    text = path.read_text()
    path.unlink()
    files.write(run.parse(argv))
    assert path.read_text() == text and file.study.settings == {"train.total_steps": 7}


def test_values_keep_the_types_of_their_knobs(tmp_path):
    axes = ["optim.peak_lr=1e-3,2", "optim.lr_multipliers=(),('a,b=1',c=2),d=1"]
    axes += ["checkpoint.verify=true,false", "freeze='',a|b", "eval.beam=1e0,4"]
    flags = [word for axis in axes for word in ("--axis", axis)]
    arms = write(tmp_path, f"--config={CONFIG}", *flags[:4], "--name=n").study.arms
    assert list(arms.values())[:4] == [
        {"optim.peak_lr": 0.001, "optim.lr_multipliers": ()},
        {"optim.peak_lr": 0.001, "optim.lr_multipliers": ("a,b=1", "c=2")},
        {"optim.peak_lr": 0.001, "optim.lr_multipliers": ("d=1",)},
        {"optim.peak_lr": 2.0, "optim.lr_multipliers": ()},
    ]
    knobs = typed_knobs(CONFIG, axes[2:], "--axis ", several=True)
    assert list(knobs.values()) == [(True, False), ("", "a|b"), (1, 4)]
    assert [type(x) for x in knobs["eval.beam"]] == [int, int]


def test_zipped_axes_go_together_and_tuning_has_a_seed_of_its_own(tmp_path):
    flags = ("--zip", "--tune", "optim.peak_lr=1e-3,2e-3", "--seeds=0,1000")
    study = write(tmp_path, f"--config={CONFIG}", *NORMS, *WARMUPS, *flags).study
    assert list(study.arms) == ["pre-warmup_steps0", "post-warmup_steps200"]
    assert study.tune == {"optim.peak_lr": (1e-3, 2e-3)}
    assert study.tune_seeds == (1001,) and study.seeds == (0, 1000)


def test_ranges_are_a_study_that_its_file_says(tmp_path):
    tune = ("optim.peak_lr=1e-4..1e-2:log", "optim.warmup_steps=0..400")
    tune += ("model.activation=relu,gelu",)
    flags = [word for text in tune for word in ("--tune", text)]
    argv = (f"--config={CONFIG}", *NORMS, *flags, "--trials", "6", "--name=n")
    study = write(tmp_path, *argv, "--proposer", "optuna").study
    assert study.tune == {
        "optim.peak_lr": log(1e-4, 1e-2),
        "optim.warmup_steps": linear(0, 400),
        "model.activation": choice("relu", "gelu"),
    }
    assert (study.trials, study.proposer) == (6, "optuna")
    assert write(tmp_path, *argv).study.proposer == "sobol"
    plain = (f"--config={CONFIG}", *NORMS, "--tune", "freeze=../a,b..c/d", "--name=m")
    assert write(tmp_path, *plain).study.tune == {"freeze": ("../a", "b..c/d")}


values = st.one_of(
    st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False),
    st.lists(st.text(max_size=3) | st.integers(), max_size=9).map(tuple),
)  # fmt: skip


@given(st.lists(st.lists(values, min_size=1, max_size=3), min_size=1, max_size=3))
def test_every_combination_is_an_arm_with_a_legal_name(axes):
    axes = {f"model.knob{n}": texts for n, texts in enumerate(axes)}
    arms = questions.arms_of(axes, zipped=False)
    count = 1
    for texts in axes.values():
        count *= len(texts)
    assert len(arms) == count
    Study("x.py", arms, next(iter(arms)), (0,), "valid/nll")


@given(
    st.dictionaries(st.text(min_size=1).filter("seed".__ne__), values, max_size=4),
    st.text().filter(lambda text: "\0" not in text and text.isprintable()),
)
def test_a_file_says_the_study_it_was_written_for(knobs, word):
    study = Study("x.py", {"a": {}, "b": knobs}, "a", (0,), "valid/nll")
    command = f"python -m experiments.run {shlex.quote(word)}"
    text = study_text.write(study, "Does it?", command)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.py")
        path.write_text(text, "utf-8")
        assert study_file.read(str(path)).study == study
    assert study_text.command_of(text) == command


def test_an_edited_file_is_what_the_same_command_runs(tmp_path, capsys):
    write(tmp_path, *WARM)
    path = study_file.path_of("warm", tmp_path)
    edited = path.read_text().replace("seeds=(0, 1, 2)", "seeds=(0, 1, 2, 3)")
    path.write_text(edited.replace("How does", "Mine: how does"))
    text = path.read_text()
    assert write(tmp_path, *WARM).study.seeds == (0, 1, 2, 3)
    assert "has been edited" in capsys.readouterr().out
    assert run.main([*WARM, "--seeds=5", f"--out={tmp_path}"]) == 78
    said = capsys.readouterr().err
    assert "seeds=(0, 1, 2, 3), this command (0, 1, 2, 3, 4)" in said
    assert "`python -m experiments.run warm` goes on" in said
    assert path.read_text() == text


def test_another_question_takes_the_name_until_something_has_run(tmp_path, capsys):
    write(tmp_path, *WARM)
    assert len(write(tmp_path, *WARM, "--seeds=5").study.seeds) == 5
    load_study("warm", tmp_path).register()  # then refused, as by a scheduler
    assert len(write(tmp_path, *WARM).study.seeds) == 3
    plan = load_study("warm", tmp_path)
    assert plan.register() == [], "not exploratory"
    attempt = attempts.begin(cell := plan.cells()[0], {})
    attempts.finish(cell, attempt, exits.BAD_CONFIG, 1.0)
    assert len(write(tmp_path, *WARM, "--seeds=5").study.seeds) == 5
    attempts.begin(load_study("warm", tmp_path).cells()[0], {})
    assert run.main([*WARM, f"--out={tmp_path}"]) == 78
    assert "another --name asks anew" in capsys.readouterr().err


def test_a_new_study_can_be_planned_as_it_is_written(tmp_path, capsys):
    assert run.main(["new", "mine", f"--out={tmp_path}"]) == 0
    assert run.main(["mine", "plan", f"--out={tmp_path}"]) == 0
    assert "0 of 12 runs done" in capsys.readouterr().out
    assert run.main(["new", "mine", f"--out={tmp_path}"]) == 78
    assert "is there already" in capsys.readouterr().err
    file = str(tmp_path / "own.py")
    assert run.main(["new", file]) == 0
    assert load_study(file, tmp_path).cells() and "runs it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv, words",
    [
        (["positions", *WARM], "beside study 'positions'; give one of the two"),
        (NORMS, "required: STUDY"),
        (["positions", *NORMS], "--axis needs --config"),
        (["positions", "--name=x"], "--name needs --config"),
        ([f"--config={CONFIG}"], "give the question, --axis KNOB=VALUE,VALUE"),
        ([*WARM, "--axis", "model.nrom=pre,post"], "did you mean 'model.norm'"),
        ([*WARM, "--axis", "model=pre,post"], "set its knobs one by one: --axis model"),
        ([*WARM, "--axis", "model.depth"], "write --axis KNOB=VALUE,VALUE"),
        ([*WARM, *NORMS], "model.norm is given twice"),
        ([*WARM, "--axis", "seed=1,2"], "seeds are given with --seeds"),
        ([*WARM, "--axis", "config=a.py,b.py"], "families are for a study file; `new"),
        ([*WARM, "--axis", "model_name=gpt,bert"], "model_name=gpt,bert: arms of"),
        ([*WARM, "--axis", "model.heads=2"], "one value is no axis"),
        ([*WARM, "--axis", "optim.peak_lr=1e-3,0.001"], "must be distinct"),
        ([*WARM, "--axis", "model.heads=a,b"], "expected integer"),
        ([*WARM, "--axis", "model.heads=3,4"], "model.heads=3 must divide"),
        ([*WARM, "--axis", "model.activation=relu,rulu"], "did you mean 'relu'?"),
        ([*WARM, "--tune", "model.norm=pre,post"], "model.norm is in --axis and in"),
        ([*WARM, "--tune", "optim.peak_lr=1..2"], "=1..2: give --trials N"),
        (
            [*WARM, *TRIALS, "optim.peak_lr=1..2:lg"],
            "lr=1..2:lg: scale='lg'; choose from (linear, log)",
        ),
        (
            [*WARM, *TRIALS, "optim.peak_lr=1e..2"],
            "optim.peak_lr=1e..2: '1e' is no number; write VALUE",
        ),
        ([*WARM, *TRIALS, "optim.peak_lr=1e-4...1e-2"], "1e-4...1e-2: no range; write"),
        ([*WARM, *TRIALS, "optim.peak_lr=1e-4.."], "LOW..HIGH:log or LOW..HIGH:linear"),
        ([*WARM, *TRIALS, "optim.peak_lr=1-2:log"], "peak_lr=1-2:log: no range; write"),
        (
            [*WARM, *TRIALS, "optim.peak_lr=2..1"],
            "linear(2, 1): low must be below high",
        ),
        ([*WARM, *TRIALS, "optim.peak_lr=0..1:log"], "log(0, 1): low must be above 0"),
        (
            [*WARM, *TRIALS, "optim.peak_lr=3"],
            "one value is no choice; write VALUE,VALUE or LOW..HIGH",
        ),
        ([*WARM, "--trials=4"], "--trials=4 of nothing: give --tune KNOB="),
        ([*WARM, *TRIALS, "optim.peak_lr=1..2", "--trials=1001"], "from 1 to 1,000"),
        ([*WARM, *TRIALS, "optim.peak_lr=1..2", "--trials=-3"], "--trials=-3; the po"),
        ([*WARM, "--proposer=optuna"], "proposer='optuna' needs trials"),
        ([*WARM, "--trials=4", "--tune", "optim.peek_lr=1..2"], "no knob 'optim.peek"),
        (["positions", "--trials=4"], "--trials needs --config"),
        ([*WARM, "--set", "config.model.norm=pre"], "model.norm is in --axis and in"),
        ([*WARM, "--set", "model.norm=pre"], "write --set config.KNOB=VALUE"),
        ([*WARM, "--zip", "--axis", "model.heads=1,2,4"], "model.heads has 3 values"),
        ([*WARM, "--metric=valid/nlll"], "metric='valid/nlll'; choose from"),
        ([*WARM, "--metric=valid/tokens"], "--goal=min or --goal=max"),
        ([*WARM, "--metric=nll"], "write split/score"),
        ([*WARM, "--sesoi=-1"], "sesoi=-1.0 must be positive"),
        ([*WARM, "--seeds=0"], "--seeds=0; a number of seeds from 1"),
        ([*WARM, "--seeds=10001"], "--seeds=10001; a number of seeds from 1 to 10,000"),
        (
            [*WARM, "--axis", f"train.total_steps={THOUSANDS}"],
            "12,000 arms; at most 10,000",
        ),
        ([*WARM, "--set", "config.freeze=a\nb"], "'config.freeze=a\\nb' does not fit"),
        ([*WARM, "--set", "config.freeze=\udce9"], "does not fit on a line"),
        ([*WARM[:-1], "positions"], "in experiments/studies; choose another"),
        ([*WARM[:-1], "plan"], "is a command"),
        ([*WARM[:-1], "../x"], "letters, digits"),
        ([*WARM, "plam"], "did you mean 'plan'?"),
        (["warm"], "study 'warm': no such study"),
        (["--axis=model.norm=post,pre"], "required: STUDY[:SCALE], or --config=FILE"),
        (["new"], "required: NAME of the new study"),
        (["new", "positions"], "in experiments/studies; choose another"),
    ],
)
def test_flags_that_contradict_are_one_line(tmp_path, argv, words, capsys):
    ends = [] if argv[0] in ("new", "positions") or "plam" in argv else ["plan"]
    assert run.main([*argv, *ends, f"--out={tmp_path}"]) == 78
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not list(tmp_path.rglob("attempts"))


def test_one_number_counts_seeds_and_several_are_seeds():
    with pytest.raises(ConfigError, match="whole numbers"):
        run.parse(["positions", "--seeds=a"])
    for text, seeds in {"3": (0, 1, 2), "0,1,7": (0, 1, 7), "7,": (7,)}.items():
        assert run.parse(["positions", f"--seeds={text}"]).seeds == seeds


def test_kubernetes_finds_the_file_on_the_volume(tmp_path, capsys):
    argv = [*WARM, "--engine=kubernetes", f"--out={tmp_path}"]
    for option in ("image=lab/tfm:1", "claim=disk"):
        argv += ["--engine-option", option]
    assert run.main(argv) == 0
    job = yaml.safe_load((tmp_path / "warm-cpu/kubernetes/job.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    started = f"{container['command']}"
    assert "experiments.run warm one --out=/studies" in started
    assert (tmp_path / "warm/study.py").exists()


def test_slurm_finds_the_file(tmp_path, monkeypatch, capsys):
    bin_folder = tmp_path / "bin"
    fake_slurm.install(bin_folder)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    try:
        assert run.main([*WARM, "--engine=slurm", f"--out={tmp_path}"]) == 0
    finally:
        fake_slurm.stop(bin_folder)
    script = (bin_folder / "job-100" / "script").read_text()
    assert f"experiments.run warm one --out={tmp_path}" in script
    planned = json.loads((tmp_path / "warm-cpu" / "plan.json").read_text())["cells"]
    cells = load_study("warm", Path(tmp_path)).cells()
    assert [entry["id"] for entry in planned] == [cell.id for cell in cells]
