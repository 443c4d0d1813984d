"""The command line: every mistake is one line and exit code 78, and costs no import."""

import errno
import json
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
from ml_collections import ConfigDict

import tfm_jax.train
from tfm_jax import main
from tfm_jax.config import ConfigError, to_json
from tfm_jax.data.errors import DataError
from tfm_jax.interop import read_initial
from tfm_jax.runs.process import exits

ROOT = Path(__file__).resolve().parents[1]

SMALL = """
from ml_collections import ConfigDict
SIZES = {"tiny": 8}
def get_config(size="tiny"):
    model = dict(width=SIZES[size], norm="post", dropout=0.1, tie=True)
    data = dict(language="en", files=("a.en", "a.de"), lengths=(8, 16))
    return ConfigDict(dict(seed=0, model=model, data=data))
"""

MISTAKES = {  # arguments after a --config and --workdir that are right -> the complaint
    "--trust_data=yes": "--trust_data=yes: value should be one of <true|false>",
    "--config.model.nrom=pre": "did you mean 'model.norm'?",
    "--config.nrom=pre": "did you mean 'model.norm'?",
    "--config.data.width=8": "did you mean 'model.width'?",
    "--config.optim.lr=1": "--config.optim.lr=1: there is no knob 'optim.lr'",
    "--config.model.width=abc": "--config.model.width=abc",
    "--config.model.width=1.5": "--config.model.width=1.5",
    "--config.model.dropout=low": "--config.model.dropout=low",
    "--config.model.tie=maybe": "--config.model.tie=maybe",
    "--config.model.dropout=nan": "nan is not a value",
    "--config.model.dropout=-inf": "-inf is not a value",
    "--config.data.lengths=(8,nan)": "nan is not a value",
    "--config.data.language=None": "None is not a value",
    "--config.model={'width': 8}": "replace the whole section",
    "--config.model=pre": "replace the whole section",
    "--config.model.width=8 --config.model.width=9": "model.width is given twice",
    "--config.model.width=8 -config.model.width 9": "model.width is given twice",
    "--noconfig.model.tie": "write --name=value",
    "--config.model.tie": "write --config.model.tie=value",
    "--config.data.lengths[0]=8": "not understood",
    "--workdir=elsewhere": "--workdir is given twice",
    "--mode=trian": "--mode=trian",
    "--mode=average --last=0": "--last=0",
    "--mode=average --last=x": "--last=x: no whole number: 'x'",
    "--mode=eval --checkpoint=best": "--checkpoint=best",
    "--mode=average --reference=x": "--reference is not for --mode=average",
    "--last=3": "--last is not for --mode=train",
    "--mode=replay --config.seed=1": "--config.seed=1 is not for --mode=replay",
    "--wrokdir=x": "workdir",
    "--flagfile=x": "not supported",
    "stray": "not understood",
    "--model.norm=pre": "--model.norm=pre; did you mean --config.model.norm?",
    "--config.model.nrom\x1b[31m=pre": "not understood",
}

CHILD = """
    import contextlib, io, json, sys
    from tfm_jax import main
    results = []
    for argv in json.load(sys.stdin):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.main(argv)
        heavy = sorted({"jax", "flax", "numpy", "orbax"} & set(sys.modules))
        results.append([code, out.getvalue(), err.getvalue(), heavy])
    json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small config, which imports neither JAX nor the models."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.py").write_text(SMALL)
    (folder / "broken.py").write_text("def get_config(: pass")
    run = folder / "run"
    run.mkdir()
    (run / "config.json").write_text('{"model": {"width": 8}}')
    damaged = folder / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"model": ')
    return folder


@pytest.fixture(scope="module")
def answers(folder):
    """What one fresh process answers to every command of this file, in order."""
    right = [f"--config={folder}/small.py", f"--workdir={folder}/new"]
    commands = {mistake: [*right, *mistake.split(" ")] for mistake in MISTAKES}
    commands["--config.model={'width': 8}"] = [*right, "--config.model={'width': 8}"]
    commands |= {
        "help": ["--help"],
        "no config": [f"--workdir={folder}/new"],
        "no workdir": [f"--config={folder}/small.py"],
        "no name": ["--config="],
        "wrong name": ["--config=transfomer_wmt:big", f"--workdir={folder}/new"],
        "missing file": [f"--config={folder}/smal.py", f"--workdir={folder}/new"],
        "a folder": [f"--config={folder}", f"--workdir={folder}/new"],
        "near size": [f"--config={folder}/small.py:tin", f"--workdir={folder}/new"],
        "version": ["--version"],
        "wrong size": [f"--config={folder}/small.py:huge", f"--workdir={folder}/new"],
        "broken file": [f"--config={folder}/broken.py", f"--workdir={folder}/new"],
        "no run": [f"--workdir={folder}/new", "--mode=translate"],
        "damaged run": [f"--workdir={folder}/damaged", "--mode=eval"],
        "run's own": [
            f"--workdir={folder}/run",
            "--mode=eval",
            "--config.model.widht=8",
        ],
    }
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(CHILD)],
        input=json.dumps(list(commands.values())),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert child.stderr == ""
    return dict(zip(commands, json.loads(child.stdout), strict=True))


def assert_refused(answer, words):
    code, out, err, heavy = answer
    assert words in err
    assert err.startswith("tfm_jax: ") and err.endswith("\n") and err.count("\n") == 1
    assert err[:-1].isprintable()
    assert (code, out) == (exits.BAD_CONFIG, "")
    assert heavy == [], "nothing heavy is imported to refuse a command"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_78_without_jax(answers, mistake):
    assert_refused(answers[mistake], MISTAKES[mistake])


@pytest.mark.parametrize(
    "case, words",
    [
        ("no config", "--config=FILE is missing"),
        ("no workdir", "--workdir=DIR is missing"),
        ("no name", "no such file; names are (albert_base, bert_base,"),
        ("wrong name", "did you mean 'transformer_wmt'?"),
        ("missing file", "no such file; did you mean 'small.py'?"),
        ("a folder", "no such file"),
        ("wrong size", "has no size 'huge'"),
        ("near size", "choose from (tiny); did you mean 'tiny'?"),
        ("broken file", "line 1"),
        ("no run", "there is no run"),
        ("damaged run", "config.json"),
        ("run's own", "did you mean 'model.width'?"),
    ],
)
def test_a_config_that_cannot_be_had_is_one_line(answers, case, words):
    assert_refused(answers[case], words)


def test_help_names_every_flag_mode_and_exit_code_without_jax(answers):
    code, out, err, heavy = answers["help"]
    assert (code, err, heavy) == (exits.OK, "", [])
    for _, names in main.MODES.values():
        assert all(f"--{name}=" in out for name in names)
    assert all(f"--mode={mode}" in out for mode in main.MODES)
    for name in ("OK", "BAD_DATA", "INFRASTRUCTURE", "PREEMPTED", "BAD_CONFIG"):
        assert f" {getattr(exits, name)} " in out
    assert f" {exits.DIVERGED} " in out


def test_the_version_is_one_line_without_jax(answers):
    code, out, err, heavy = answers["version"]
    assert (code, err, heavy) == (exits.OK, "", [])
    assert out == f"tfm_jax {tfm_jax.__version__}\n"


def test_the_process_itself_ends_with_the_code():
    command = [sys.executable, "-m", "tfm_jax.main", "--wrokdir=x"]
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (child.returncode, child.stdout) == (exits.BAD_CONFIG, "")
    assert child.stderr.count("\n") == 1 and "workdir" in child.stderr


REAL = """
from ml_collections import ConfigDict
from tfm_jax.config import section
from tfm_jax.models import transformer
from tfm_jax.settings import experiment
def get_config():
    config = ConfigDict(dict(seed=0, model_name="transformer", task="translation"))
    config.model = section(transformer.Config)
    task = experiment.WORKLOADS["translation"]
    own = {"data": task.data.Config, "tokenizer": task.data.tokenizer.Config}
    for name, kind in {**own, **experiment._SECTIONS}.items():
        config[name] = section(kind)
    return config
"""


@pytest.fixture
def real(tmp_path):
    (tmp_path / "real.py").write_text(REAL)
    return [f"--config={tmp_path}/real.py", f"--workdir={tmp_path}/run"]


@pytest.mark.parametrize(
    "argument, words",
    [
        ("--config.model.norm=prelm", "model.norm='prelm'; choose from (post, pre,"),
        ("--config.model.norm=prelm", "did you mean 'pre'?"),
        ("--config.data.batching=pak", "did you mean 'pack'?"),
        ("--config.model_name=transfomer", "did you mean 'transformer'?"),
        ("--config.model_name=rnn_seq2seq", "knob of model_name='rnn_seq2seq'"),
        ("--config.seed=-1", "seed=-1"),
        ("--config.optim.peak_lr=1e999", "optim.peak_lr=1e999; expected finite number"),
        ("--config.data.bucket_lengths=8,x", "data.bucket_lengths=8,x; expected"),
        ("--config.train.total_steps=0", "train.total_steps=0"),
    ],
)
def test_an_illegal_value_is_one_line_before_anything_is_written(
    real, capsys, tmp_path, argument, words
):
    assert main.main([*real, argument]) == exits.BAD_CONFIG
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""
    assert not (tmp_path / "run").exists()


def test_help_with_a_config_shows_its_knobs_values_and_choices(real, capsys):
    assert main.main([*real, "--config.model.norm=pre", "--help"]) == exits.OK
    lines = capsys.readouterr().out.splitlines()
    (norm,) = [line for line in lines if line.startswith("--config.model.norm=")]
    assert "=pre " in norm and "post, pre, sandwich" in norm
    (size,) = [line for line in lines if line.startswith("--config.model.key_size=")]
    legal, meaning = "integer from 0 to 1,048,576", "d_k, per head; 0: width / heads"
    assert size.split(maxsplit=1)[1] == f"{legal}  # {meaning}"


@pytest.fixture
def calls(monkeypatch):
    """What the command line hands on, instead of doing it."""
    calls = []

    def record(name):
        return lambda *args, **kwargs: calls.append((name, args, kwargs))

    modes = {name: record(name) for name in ("evaluate", "translate", "average")}
    for name, functions in (("loop", {"train": record("train")}), ("modes", modes)):
        module = types.SimpleNamespace(**functions)
        monkeypatch.setitem(sys.modules, f"tfm_jax.train.{name}", module)
        monkeypatch.setattr(tfm_jax.train, name, module, raising=False)
    return calls


def test_overrides_arrive_with_the_types_of_the_config(folder, calls):
    argv = [f"--config={folder}/small.py:tiny", "--workdir", "w"]
    argv += ["--config.model.width", "16", "--config.model.dropout=0"]
    argv += ["--config.model.tie=false", "--config.data.files=b.en,c/d.de"]
    argv += ["--config.data.lengths=4", "--config.data.language=none"]
    assert main.main(argv) == exits.OK
    ((name, (config, workdir), options),) = calls
    knobs = {f"model.{name}" for name in ("width", "dropout", "tie")}
    knobs |= {f"data.{name}" for name in ("files", "lengths", "language")}
    assert (name, workdir) == ("train", "w")
    assert options == {"given": knobs, "read_initial": read_initial, "profile": ""}
    assert config.to_dict() == dict(
        seed=0,
        model=dict(width=16, norm="post", dropout=0.0, tie=False),
        data=dict(language="none", files=("b.en", "c/d.de"), lengths=(4,)),
    )


def test_overrides_may_come_before_the_config(folder, calls):
    argv = ["--config.seed=7", "--workdir=w", f"--config={folder}/small.py"]
    assert main.main(argv) == exits.OK
    assert calls[0][1][0].seed == 7


@pytest.mark.parametrize(
    "argv, name, options",
    [
        (["--mode=train"], "train", None),
        (
            ["--mode=eval", "--input=a", "--reference=b"],
            "evaluate",
            dict(checkpoint=None, input="a", reference="b"),
        ),
        (
            ["--mode=translate", "--checkpoint=100"],
            "translate",
            dict(checkpoint=100, stdin=sys.stdin, stdout=sys.stdout),
        ),
        (["--mode=average", "--last=3"], "average", dict(last=3)),
    ],
)
def test_every_mode_takes_the_run_s_own_config(
    folder, calls, monkeypatch, argv, name, options
):
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, (options or {}).get(stream))
    workdir = str(folder / "run")
    reads = not set(argv) & {f"--mode={mode}" for mode in main.UNREAD}
    argv = [f"--workdir={workdir}", *argv] + ["--config.model.width=9"] * reads
    assert main.main(argv) == exits.OK
    ((called, args, kwargs),) = calls
    config = args[0] if options is None else kwargs.pop("config")
    assert (called, config.to_dict()) == (name, {"model": {"width": 9 if reads else 8}})
    if options is not None:
        assert (args, kwargs) == ((workdir,), options)


@pytest.mark.parametrize(
    "error, code",
    [
        (DataError("a.en: 3 lines, a.de: 4 lines"), exits.BAD_DATA),
        (exits.InfrastructureError("disk\nfull"), exits.INFRASTRUCTURE),
        (OSError(errno.ENOSPC, "no space"), exits.INFRASTRUCTURE),
        (exits.Preempted("saved at step 7"), exits.PREEMPTED),
        (ConfigError("model.norm='x'"), exits.BAD_CONFIG),
        (exits.Diverged("loss is nan"), exits.DIVERGED),
        (exits.AlreadyRunning("by pid 7"), exits.OK),
    ],
)
def test_an_ending_that_is_known_is_one_line(
    folder, calls, monkeypatch, capsys, error, code
):
    def train(config, workdir, **options):
        raise error

    monkeypatch.setattr(tfm_jax.train.loop, "train", train)
    assert main.main([f"--config={folder}/small.py", "--workdir=w"]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err


def test_an_unknown_error_keeps_its_traceback(folder, calls, monkeypatch):
    def train(config, workdir, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(tfm_jax.train.loop, "train", train)
    with pytest.raises(ZeroDivisionError):
        main.main([f"--config={folder}/small.py", "--workdir=w"])


def test_config_json_of_a_run_reproduces_its_command(folder, calls, tmp_path):
    argv = [f"--config={folder}/small.py", f"--workdir={tmp_path}", "--config.seed=5"]
    main.main(argv)
    config = calls[0][1][0]
    assert isinstance(config, ConfigDict) and config.is_locked
    (tmp_path / "config.json").write_text(to_json(config))
    main.main([f"--workdir={tmp_path}"])
    assert calls[1][1][0].to_dict() == config.to_dict()
