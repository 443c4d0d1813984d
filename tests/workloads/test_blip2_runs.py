"""Stage two of BLIP-2 from runs of its parts: trained, scored and asked."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.layers.weights import randomised
from tests.workloads.pair_runs import SEEN, TEXT, qformer
from tests.workloads.test_visual_lm import LM, SCENES, TOKENIZER
from tests.workloads.untrained import untrained
from tfm_jax.config import ConfigError
from tfm_jax.layers.layout import init_params
from tfm_jax.main import main
from tfm_jax.notebook import load_run
from tfm_jax.objectives import visual_lm
from tfm_jax.runs import initial, saved, sources
from tfm_jax.runs.storage import manifest, weights
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import assemble, loop

READER = {name: size for name, size in TEXT.items() if name != "max_length"}
DATA = dict(prefetch=0, scenes=SCENES | dict(texts="captions"))
DATA["scenes"].pop("questions")


def config_of(model_name, task, **sections):
    return configure(
        model_name,
        task,
        optim=dict(warmup_steps=1, peak_lr=1e-2),
        train=dict(total_steps=2, batch_tokens=480, log_every_steps=1, trackers=()),
        checkpoint=dict(every_steps=1),
        mesh=dict(data=1, cpu_devices=1),
        **sections,
    )


def language():
    return config_of(
        *("gpt", "causal_lm"),
        model=LM,
        data=dict(source="scenes", length=24, prefetch=0, scenes=DATA["scenes"]),
        tokenizer=TOKENIZER,
        eval=dict(every_steps=5, samples=0),
    )


def stage_two(study, freeze="lm,vision", data=DATA, **changes):
    parts = f"lm={study / 'lm'},qformer={study / 'qformer'}"
    return config_of(
        *("blip2", "visual_lm"),
        init_from=parts,
        freeze=freeze,
        model=dict(vision=SEEN, text=READER, queries=3, lm=LM) | changes,
        data=data | dict(length=24, marker=""),
        tokenizer=TOKENIZER,
        eval=dict(every_steps=2, sentences=SCENES["valid"], pictures=False)
        | dict(variants=("unseen:scenes.pairs=unseen;scenes.train=1",)),
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of the runs ``lm`` and ``qformer``, and of ``both`` that starts there."""
    folder = tmp_path_factory.mktemp("blip2")
    untrained(folder / "lm", language())
    untrained(folder / "qformer", qformer())
    return folder


@pytest.fixture(scope="module")
def results(study):
    return loop.train(stage_two(study), study / "both")


@pytest.fixture(scope="module")
def run(study, results):
    return load_run(study / "both")


def flat(workdir):
    return flatten_dict(saved.load(workdir).params, sep="/")


def test_what_is_frozen_is_that_of_its_own_run_and_the_rest_has_moved(study, results):
    """The image encoder's is that of the run of the Q-Former."""
    lm, reader, both = (flat(study / name) for name in ("lm", "qformer", "both"))
    begun = {f"lm/{path}": x for path, x in lm.items()} | reader
    still = {path for path, x in both.items() if np.array_equal(x, begun.get(path))}
    parts = {"lm", "vision"}
    assert still == {
        path
        for path in both
        if path.partition("/")[0] in parts and "vision/encoder/stack/final" not in path
    }
    assert both.keys() - begun.keys() == {"projection/kernel", "projection/bias"}


def test_the_optimizer_has_no_state_of_what_is_frozen(study, results):
    *_, newest = weights.numbered(study / "both" / "checkpoints")
    body = manifest.read(newest)
    names = {path.replace("/", " ").replace(".", " ") for path in body["tree"]}
    assert not [name for name in names if " lm " in f" {name} "]
    assert [name for name in names if "qformer" in name and "queries" in name]
    assert len(body["frozen"]) == 2  # parts


def test_the_tokenizer_is_that_of_the_language_model(study, run):
    """That of the Q-Former, which has another, counts for nothing."""
    texts = "a small red ring"
    lm, reader = (saved.load(study / name).tokenizer for name in ("lm", "qformer"))
    ids = [x.encode([texts])[0].tolist() for x in (run.tokenizer, lm, reader)]
    assert ids[0] == ids[1] and run.config.model.vocab == lm.vocab != reader.vocab


def test_captions_are_scored_and_written_by_the_command(results, run, tmp_path, capsys):
    from PIL import Image

    for split in ("valid", "test", "unseen"):
        assert "caption_exact_match" in results[split]
    data = run.config.workload.prepare(run.config, run.tokenizer)
    images = data.valid[0].images[:3, 0]
    captions = run.caption(images)
    assert len(captions) == 3 and captions[:1] == run.caption(images[:1])
    assert isinstance(run.ask(images[0], "what color ?"), str)
    examples = [(images[1], "what color ?", "red")]
    with pytest.raises(ConfigError, match="up to 2 images.*ask without examples"):
        run.ask(images[0], "what color ?", examples)
    with pytest.raises(ValueError, match="model_name='blip2' has no gates"):
        run.plot_gates()
    file = tmp_path / "one.png"
    Image.fromarray(images[0]).save(file)
    assert main([f"--workdir={run.workdir}", "--mode=caption", f"--input={file}"]) == 0
    assert capsys.readouterr().out == f"{file}\t{captions[0]}\n"


def test_several_images_in_a_row_are_refused(study):
    several = dict(DATA, shots=1)
    experiment = resolve(stage_two(study, data=several))
    with pytest.raises(ConfigError, match="up to 2 images, model_name='blip2' reads"):
        experiment.workload.prepare(experiment)


def test_rows_without_an_image_are_refused(study):
    """There would be a prompt of a black image in front of them."""
    experiment = resolve(stage_two(study))
    data = experiment.workload.prepare(experiment)
    (rows,) = data.valid
    counts = np.where(np.arange(len(rows.tokens)) < 2, 0, rows.image_counts)
    data = data._replace(valid=[rows._replace(image_counts=counts)])
    with pytest.raises(ConfigError, match="2 of 40 rows of the valid .* no image"):
        experiment.workload.fits(experiment, data)


def test_rows_and_queries_need_positions_together(study):
    config = stage_two(study, queries=20)
    with pytest.raises(
        ConfigError, match="max_length=40 is below the 24 tokens .* the 20 vectors in"
    ):
        resolve(config)


def test_flamingo_starts_from_the_image_encoder_of_a_q_former(study):
    config = config_of(
        *("flamingo", "visual_lm"),
        init_from=f"vision={study / 'qformer'}",
        freeze="vision",
        model=dict(
            vision=dict(image_size=(16,)),
            lm=LM,
            resampler=dict(depth=1, latents=2, heads=2),
        ),
        data=DATA | dict(length=24),
        tokenizer=TOKENIZER,
    )
    origin = assemble.beginning(resolve(config), (), sources.read)
    assert origin.tokenizer is None, "no language model is named"
    experiment = origin.experiment.complete(
        tokenizer=saved.load(study / "lm").tokenizer
    )
    init = functools.partial(init_params, experiment.build_model())
    shapes = jax.eval_shape(init, jax.random.key(0), visual_lm.example())
    fresh = jax.device_get(randomised(shapes))
    merged, report = initial.merge(experiment, origin.source, fresh)
    seen = flatten_dict(saved.load(study / "qformer").params["vision"]["encoder"])
    assert report.parts == {"vision": len(seen)}
    for path, x in seen.items():
        np.testing.assert_array_equal(flatten_dict(merged["vision"])[path], x)
