"""Text after images: trained, scored and asked."""

import numpy as np
import pytest

from tests.models.test_flamingo import LANGUAGE, RESAMPLER, VISION
from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.data.sources.turns import Example, Turn
from tfm_jax.main import main
from tfm_jax.notebook import load_run
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop
from tfm_jax.workloads.visual_lm import text_scores

KINDS = ("caption", "color", "count")
SCENES = dict(train=64, valid=40, test=8, size=16, texts="both", questions=KINDS[1:])
LM = LANGUAGE | dict(depth=1, positions="learned", max_length=40)
TOKENIZER = dict(kind="wordpiece", vocab=256, special=("<image>", "<end>"))


def config_of(**sections):
    vision = VISION | dict(image_size=(16,), patch_size=(8,), channels=3)
    return configure(
        "flamingo",
        "visual_lm",
        model=dict(vision=vision, lm=LM, resampler=RESAMPLER),
        data=dict(length=40, prefetch=0, scenes=SCENES),
        tokenizer=TOKENIZER,
        optim=dict(warmup_steps=1, peak_lr=1e-3),
        train=dict(total_steps=2, batch_tokens=640, log_every_steps=1, trackers=()),
        eval=dict(every_steps=2, sentences=4, pictures=False)
        | dict(variants=("unseen:scenes.pairs=unseen;scenes.train=1",)),
        checkpoint=dict(every_steps=2),
        mesh=dict(data=1, cpu_devices=1),
        **sections,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, results) of two steps."""
    workdir = tmp_path_factory.mktemp("scenes")
    return workdir, loop.train(config_of(), workdir)


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained[0])


def example(kind, answer, *others):
    return Example((Turn("", answer),), kind, (answer, *others), (0,))


def test_answers_are_right_or_wrong_as_a_whole_and_by_kind():
    examples = [
        example("caption", "a red ring and a blue cross", "two things"),
        example("caption", "a red ring"),
        example("color", "red"),
    ]
    scores = text_scores(["two  things", "a red cross", "red"], examples)
    assert scores["exact_match"] == pytest.approx(2 / 3)
    assert scores["caption_exact_match"] == 0.5 and scores["color_exact_match"] == 1.0
    assert scores["bleu"] < 100
    perfect = text_scores([one.references[0] for one in examples], examples)
    assert perfect["bleu"] == pytest.approx(100) and perfect["exact_match"] == 1.0
    assert "bleu" not in text_scores(["red"], examples[-1:])


def test_every_kind_is_scored_of_seen_and_of_unseen_pairs(trained):
    workdir, results = trained
    for split in ("valid", "test", "unseen"):
        scores = results[split]
        assert {"nll", "bleu", *(f"{kind}_exact_match" for kind in KINDS)} <= {*scores}
    lines = (workdir / "answers-valid.txt").read_text().splitlines()
    assert len(lines) == SCENES["valid"] and all(" -> " in line for line in lines)


def test_a_run_is_asked_for_captions_and_answers(run):
    data = run.config.workload.prepare(run.config, run.tokenizer)
    (rows,) = data.valid
    captions = run.caption(rows.images[:3, 0])
    assert len(captions) == 3 and captions[:1] == run.caption(rows.images[:1, 0])
    examples = [(rows.images[1, 0], "what color ?", "red")]
    assert isinstance(run.ask(rows.images[0, 0], "what color ?", examples), str)
    (example,) = examples
    for question, given in [
        (None, []),
        ("what color ?", example),
        ("what color ?", [example[:2]]),
        ("what color ?", [(*example[:2], None)]),
    ]:
        with pytest.raises(TypeError, match=r"is no \(image, question, answer\)"):
            run.ask(rows.images[0, 0], question, given)
    with pytest.raises(DataError, match="list, and no path, image or array"):
        run.ask([rows.images[0, 0]], "what color ?")
    assert run.gates.shape == (1, 2) and np.abs(run.gates).to_numpy().max() < 1e-2


def test_a_run_shows_what_each_word_attends_to(run):
    image = np.zeros((16, 16, 3), np.uint8)
    maps = run.attention(image, "what color ?", "red")
    assert maps.labels == ("red", "<end>") and maps.on_grid().shape == (2, 2, 2)
    assert len(run.attention(image).on_grid()) > 0  # of what it writes


def test_files_get_a_caption_a_line(run, tmp_path, capsys):
    from PIL import Image

    file = tmp_path / "grey.png"
    Image.fromarray(np.full((5, 9), 99, np.uint8)).save(file)
    (caption,) = run.caption([file])
    command = [f"--workdir={run.workdir}", "--mode=caption", f"--input={file}"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{file}\t{caption}\n"


def test_an_answer_without_an_end_is_refused():
    config = config_of()
    config.data.end = ""
    with pytest.raises(ConfigError, match='data.end="": no token ends an answer'):
        resolve(config)


def test_images_of_another_size_than_the_encoder_reads_are_refused():
    config = config_of()
    config.data.scenes.size = 24
    experiment = resolve(config)
    with pytest.raises(
        ConfigError, match=r"shape \(24, 24, 3\), model\.vision\.image_size=\(16,\)"
    ):
        experiment.workload.prepare(experiment)
