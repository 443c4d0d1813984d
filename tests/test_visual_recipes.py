"""Recipes of models that write about images say what the papers say."""

import pytest

from tests.test_recipes import adam, knobs, rates, recipe

# Alayrac et al. 2022, tables 4 and 5, appendix B.1.2
FLAMINGO = {
    "freeze": "lm,vision",
    "model.lm.depth": 24,
    "model.lm.width": 2_048,
    "model.lm.heads": 16,
    "model.gated_every": 1,
    "model.gate": "tanh",
    "model.seen": "last",
    "model.resampler.kind": "perceiver",
    "model.resampler.depth": 6,
    "model.resampler.latents": 64,
    "model.activation": "squared_relu",
    "data.image_size": (320,),
    "train.total_steps": 500_000,
    **rates("adamw", "constant", 1e-4, 5_000, 0.1, clip_norm=1.0),
}
# Li et al. 2023, sections 3.3 and 3.4; Zhang et al. 2022, table 1
BLIP2 = {
    "freeze": "lm,vision",
    "model.queries": 32,
    "model.text.width": 768,
    "model.text.depth": 12,
    "model.cross_every": 2,
    "model.lm.depth": 32,
    "model.lm.heads": 32,
    "model.lm.activation": "relu",
    "data.image_size": (224,),
    "train.total_steps": 80_000,
    "train.batch_tokens": 1_920 * 32,
    **rates("adamw", "cosine", 1e-4, 2_000, 0.05, final_lr_fraction=0.5),
    **adam(0.9, 0.98, 1e-8),
}
VIT_G = {"model.vision.width": 1_408, "model.vision.depth": 39}
RECIPES = {
    "flamingo_3b.py": FLAMINGO,
    "blip2_qformer.py:vit_l_opt_2.7b": BLIP2
    | {"model.vision.width": 1_024, "model.vision.depth": 23, "model.lm.width": 2_560},
    "blip2_qformer.py:vit_g_opt_2.7b": BLIP2 | VIT_G | {"model.lm.width": 2_560},
    "blip2_qformer.py:vit_g_opt_6.7b": BLIP2 | VIT_G | {"model.lm.width": 4_096},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_published_one(name):
    assert knobs(recipe(name), RECIPES[name]) == RECIPES[name]
