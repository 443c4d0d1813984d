"""Does Pre-LN learn faster than Post-LN, whatever the warm-up?

The first paragraph of this text is the question, which the report repeats. A study that
repeats a published finding has its source as the last one: authors, year, section.
"""

from experiments.study import Study, axis, grid

# Scales are one question at several sizes: `experiments.run NAME:SCALE`; the one called
# "cpu" is run if none is said.
SCALES = ("cpu",)

# An arm is a name and the knobs it sets; `axis` makes one for each value, `grid` every
# combination: "post-warmup0", "post-warmup200", ... A dictionary does as well:
# {"post": {"model.norm": "post"}, "pre": {"model.norm": "pre"}}. One of another family
# says what it starts from: "rnn": {"config": "configs/rnn_numerals.py"}. All knobs:
# python -m tfm_jax.main --config=configs/transformer_numerals_small.py --help
NORMS = axis("model.norm", ("post", "pre"))
WARMUPS = axis("optim.warmup_steps", (0, 200), "warmup")


def get_study(scale: str) -> Study:
    """What is run at a scale."""
    return Study(
        # what all arms start from, FILE.py[:size], and knobs that are set for all
        config="configs/transformer_numerals_small.py",
        settings={"train.total_steps": 300, "eval.every_steps": 100},
        arms=grid(NORMS, WARMUPS),
        # the arm that all others are compared with
        baseline="post-warmup200",
        # one run for each arm and seed; runs of one seed are compared in pairs, and
        # with fewer than three pairs nothing can be said about chance; with
        # looks=(3, 6, 9) there are more of them until all is decided
        seeds=(0, 1, 2),
        # split/score of results.json; goal="max" where more is better
        metric="valid/nll",
        goal="min",
        # the smallest difference that would matter to you, in units of the metric;
        # without one no arms are called equivalent that differ at all
        sesoi=0.05,
        # To tune a knob for every arm alike, with seeds of its own:
        # tune={"optim.peak_lr": (1e-3, 2e-3, 4e-3)},
        # tune_seeds=(1000,),
        # or 16 points of a range, with `from experiments.space import log`:
        # tune={"optim.peak_lr": log(1e-4, 1e-2)}, trials=16,
        # What you expect, before you have seen it; better, worse, equivalent, monotone,
        # diverges and within are in experiments.study:
        # expect=(check(better("pre-warmup0", "post-warmup0", "Pre-LN needs none")),),
    )
