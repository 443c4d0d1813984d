"""Trained models in notebooks: any devices, no code from data, nothing hidden."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest
from IPython.lib.pretty import pretty

from tests.reliability.processes import environment
from tfm_jax.config import ConfigError, load
from tfm_jax.data.tokenizers.bilingual import BOS, EOS, PAD
from tfm_jax.interop import save_huggingface
from tfm_jax.layers.layout import abstract
from tfm_jax.mesh import Config as MeshConfig
from tfm_jax.mesh import make_mesh, shardings
from tfm_jax.notebook import load_huggingface, load_run
from tfm_jax.objectives import translation
from tfm_jax.runs.pictures import KINDS, AttentionMaps, legible
from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import manifest
from tfm_jax.runs.storage.checkpoint import Checkpointer
from tfm_jax.train import loop

ROOT = Path(__file__).resolve().parents[1]
LINES = ["twenty-one", "seven", ""]
STEP = "000002"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Two steps of a model that MarianMT can represent."""
    assert jax.device_count() == 8  # JAX has started, so training leaves it at that
    config = load(str(ROOT / "configs/transformer_numerals.py"))
    config.model.update(width=16, heads=2, ffn_width=32, encoder_depth=1)
    config.model.update(positions="sinusoidal_halves", norm_eps=1e-5)
    config.data.update(numerals_max=99, numerals_heldout=4, numerals_train=0)
    config.tokenizer.update(kind="character", vocab=100)
    config.train.update(total_steps=2, batch_tokens=256, log_every_steps=1)
    config.eval.update(every_steps=2, sentences=0, max_length_offset=6, pictures=False)
    config.mesh.data = 1
    workdir = tmp_path_factory.mktemp("run")
    loop.train(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture
def copy(workdir, tmp_path):
    return Path(shutil.copytree(workdir, tmp_path / "copy"))


def ids(run, line="twenty-one", target=(BOS, 5, 6)):
    return run.tokenizer.encode([line], "source")[0][None], np.array([target])


def write_spread(run, folder):
    """A checkpoint of the same parameters, sharded over eight devices."""
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    places = shardings(
        mesh, run.params, abstract(run.model, translation.example()).specs
    )
    params = jax.device_put(run.params, places)
    assert len(jax.tree.leaves(params)[0].sharding.device_set) == 8
    extras = {n: (run.path / n).read_bytes() for n in ("config.json", "tokenizer.json")}
    with Checkpointer(folder, run.config.checkpoint) as checkpoints:
        checkpoints.save(int(STEP), {"params": params}, extras=extras, wait=True)


CHILD = """
    import json, sys
    import jax
    from absl import flags
    from tfm_jax.notebook import load_run

    run = load_run(sys.argv[1])
    source, target, lines = json.loads(sys.argv[2])
    defined = [str(name) for name in flags.FLAGS.flags_by_module_dict()]
    print(json.dumps(dict(
        devices=jax.device_count(),
        translations=run.translate(lines),
        logits=run.logits(source, target).tolist(),
        flags=[n for n in defined if "tfm_jax" in n] + [flags.FLAGS.is_parsed()],
        main="tfm_jax.main" in sys.modules,
    )))
"""


def test_one_device_loads_what_eight_wrote_without_flags_or_code(run, copy):
    shutil.rmtree(copy / "checkpoints")
    write_spread(run, copy / "checkpoints")
    planted = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
    folders = [copy, copy / "checkpoints" / STEP, copy / "checkpoints" / STEP / "state"]
    for folder in folders:
        (folder / "config.py").write_text(planted)
        (folder / "__init__.py").write_text(planted)
    source, target = ids(run)
    data = json.dumps([source.tolist(), target.tolist(), LINES])
    translations, logits = run.translate(LINES), run.logits(source, target)
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(copy), data],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["devices"] == 1
    assert found["flags"] == [False] and not found["main"]
    assert found["translations"] == translations
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-4, atol=1e-5)
    assert not list(copy.rglob("ran"))


def test_config_is_everything_the_run_was_started_with(run):
    assert run.config.model.positions == "sinusoidal_halves"
    assert run.config.train.total_steps == 2
    assert run.config.model.source_vocab == run.tokenizer.source_vocab


def test_history_has_a_row_for_every_record(run, workdir):
    train = run.history.query("kind == 'train'")
    assert train["step"].tolist() == [1, 2]
    assert np.isfinite(train["loss"]).all()
    records = (workdir / "metrics.jsonl").read_text().splitlines()
    assert len(run.history) == len(records)


def test_a_checkpoint_loads_like_its_workdir_and_alone_has_no_history(run, copy):
    folder = copy / "checkpoints" / STEP
    alone = load_run(shutil.move(folder, copy / "alone" / "deep" / STEP))
    jax.tree.map(np.testing.assert_array_equal, alone.params, run.params)
    with pytest.raises(FileNotFoundError, match="metrics.jsonl"):
        _ = alone.history


def test_greedy_translation_follows_the_logits(run):
    length = 8
    target = np.full((1, length), EOS)
    target[0, 0] = BOS
    for t in range(1, length):
        logits = np.array(run.logits(ids(run)[0], target)[0, t - 1])
        logits[[PAD, BOS]] = -np.inf
        target[0, t] = logits.argmax()
    (followed,) = run.tokenizer.decode(target[:, 1:], "target")
    (translation,) = run.translate(["twenty-one"], beam=1)
    assert followed and translation.startswith(followed)


def test_translate_takes_settings_for_one_call(run):
    short = run.translate(LINES, beam=3, max_length_offset=0)
    # a character is a token here, and so is the end of a line
    assert all(len(t) <= len(line) + 1 for t, line in zip(short, LINES, strict=True))
    assert run.config.eval.max_length_offset == 6
    assert run.translate([]) == []
    with pytest.raises(TypeError, match="beem"):
        run.translate(LINES, beem=3)
    with pytest.raises(TypeError, match="one string"):
        run.translate("twenty-one")


def test_attention_labels_what_every_head_looks_at(run):
    maps = run.attention("seven", target="neun")
    assert maps.source == [*"seven", "<eos>"]
    assert maps.inputs == ["<bos>", *"neun"]
    assert maps.outputs == [*"neun", "<eos>"]
    heads, s, t = 2, 6, 5
    assert maps.encoder.shape == (1, heads, s, s)
    assert maps.decoder.shape == (2, heads, t, t)
    assert maps.cross.shape == (2, heads, t, s)
    for kind in KINDS:
        np.testing.assert_allclose(getattr(maps, kind).sum(-1), 1.0, rtol=1e-5)
    assert not np.triu(maps.decoder, 1).any()
    assert repr(maps) == (
        "AttentionMaps('s e v e n <eos>' -> 'n e u n <eos>': "
        "encoder [1, 2, 6, 6], decoder [2, 2, 5, 5], cross [2, 2, 5, 6])"
    )


def test_attention_without_target_is_of_the_own_translation(run):
    maps = run.attention("seven")
    (translation,) = run.translate(["seven"])
    assert "".join(maps.outputs[:-1]) == translation.replace(" ", "▁")


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_drawn_head_by_head_whatever_the_tokens(kind):
    rng = np.random.default_rng(0)
    weights = rng.random((2, 3, 2, 2), np.float32)
    maps = AttentionMaps(weights, weights, weights, *[["$x^$", "가中あ"]] * 3)
    for layer, number in ((None, 1), (0, 0), (-2, 0)):
        figure = maps.plot(kind=kind, layer=layer)
        assert figure.get_suptitle().startswith(f"{kind} attention, layer {number}:")
        drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
        np.testing.assert_array_equal(drawn, weights[number])
        titles = [axis.get_title() for axis in figure.axes if axis.images]
        assert titles == ["head 0", "head 1", "head 2"]
        assert [a.get_ylabel() for a in figure.axes].count("weight") == 1
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_what_no_font_draws_is_named_by_its_sound_or_its_code_point():
    """Sounds: the Unicode Standard's names; 나는 학생 is "I (am a) student"."""
    known = {*map(ord, "a ▁")}
    assert legible("▁나는 학생", known) == "▁naneun hagsaeng"
    assert legible("かキょ a中", known) == "kakiyo a⟨U+4E2D⟩"
    assert legible("a가", known | {ord("가")}) == "a가"


def test_attention_has_three_kinds():
    weights = np.ones((1, 1, 1, 1))
    maps = AttentionMaps(weights, weights, weights, ["a"], ["a"], ["a"])
    with pytest.raises(ValueError, match=r"'self'; choose from \(encoder, decoder"):
        maps.plot(kind="self")


def test_attention_that_a_model_lacks_is_neither_shown_nor_drawn():
    weights, none = np.ones((1, 1, 1, 1)), np.ones((0, 0, 0, 0))
    maps = AttentionMaps(none, none, weights, ["a"], ["a"], ["a"])
    assert repr(maps) == "AttentionMaps('a' -> 'a': cross [1, 1, 1, 1])"
    with pytest.raises(ValueError, match=r"kind='decoder'; choose from \(cross\)"):
        maps.plot("decoder")
    with pytest.raises(ValueError, match="kind='cross': this model has no attention"):
        maps._replace(cross=none).plot()


def test_plot_draws_every_logged_loss(run):
    (axis,) = run.plot().axes
    by_label = {line.get_label(): line for line in axis.lines}
    logged = run.history.query("kind == 'train'")["loss"]
    np.testing.assert_array_equal(by_label["train loss"].get_ydata(), logged)
    assert "valid nll" in by_label


def test_a_run_shows_itself_in_one_safe_line(run):
    hostile = run._replace(path=Path("<img src=x onerror=alert(1)>\x1b[31m\u202e"))
    for text in (repr(hostile), pretty(hostile)):
        assert text.isprintable() and len(text) < 200
        assert "'en' to 'de'" in text
    shown = hostile._repr_html_()
    assert shown.count("<") == 2  # <code> and </code>
    assert "&lt;img" in shown


def test_a_damaged_checkpoint_is_refused(copy):
    victim = max((copy / "checkpoints" / STEP / "state").rglob("*"), key=_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CorruptCheckpoint):
        load_run(copy)


def _size(path):
    return path.stat().st_size if path.is_file() else -1


@pytest.mark.parametrize(
    "place, value",
    [
        (("_target_",), "os.system"),
        (("__qualname__",), "os.system"),
        (("model", "_target_"), "os.system"),
        (("model", "__qualname__"), "os.system"),
        (("model", "norm"), {"__qualname__": "os.system"}),
        (("optim", "optimizer"), {"_target_": "os.system"}),
        (("model_name",), "os.system"),
        (("task",), "os"),
    ],
)
def test_no_name_in_a_config_is_resolved(copy, place, value):
    folder = copy / "checkpoints" / STEP
    config = json.loads((folder / "config.json").read_text())
    *sections, name = place
    section = config
    for key in sections:
        section = section[key]
    section[name] = value
    (folder / "config.json").write_text(json.dumps(config))
    written = manifest.read(folder)  # whoever plants it can sign it as well
    (folder / manifest.NAME).unlink()
    manifest.write(folder, step=written["step"], tree=written["tree"])
    with pytest.raises(ConfigError, match=name):
        load_run(copy)


def test_a_run_and_a_model_of_another_library_are_used_alike(run, tmp_path):
    save_huggingface(tmp_path / "marian", run.params, run.config.model)
    imported = load_huggingface(tmp_path / "marian")
    rows = ids(run)
    for name in ("model", "params", "tokenizer"):
        assert hasattr(run, name) and hasattr(imported, name)
    np.testing.assert_allclose(
        imported.logits(*rows), run.logits(*rows), rtol=1e-5, atol=1e-6
    )
    named = imported.logits(source=rows[0], target=rows[1])
    np.testing.assert_array_equal(named, imported.logits(*rows))
