"""Every field of the recurrent family is live: see tests/test_knobs.py."""

import dataclasses

import jax
import numpy as np

from tests.test_knobs import assert_named, assert_roles
from tests.traced import traced
from tfm_jax.layers.layout import init_params
from tfm_jax.models.rnn_seq2seq import Config, RNNSeq2Seq
from tfm_jax.objectives import translation

ONE_WAY = dict(bidirectional=False, bridge="zeros")
KNOBS = {
    "dtype": {},
    "cell": {},
    "width": 6,
    "embedding_width": 6,
    "encoder_depth": 2,
    "decoder_depth": 2,
    "bidirectional": False,
    "source_order": ONE_WAY,
    "score": ONE_WAY,
    "alignment_width": 3,
    "query": {},
    "context": dict(score="none"),
    "input_feeding": True,
    "readout": {},
    "readout_width": 3,
    "output_bias": False,
    "teacher_forcing": 0.5,
    "dropout": 0.3,
    "dropout_mask": {},
    "init": {},
    "recurrent_init": {},
    "forget_bias": dict(cell="lstm", forget_bias=2.0),
    "tie": dict(readout_width=5),
    "source_vocab": 13,
    "target_vocab": 13,
}
BASE = Config(
    **dict(width=4, embedding_width=5, source_vocab=11, target_vocab=11), dropout=0.1
)
BATCH = jax.tree.map(lambda x: np.ones((2, 3), np.int32), translation.example())
WITHOUT_CHOICE = {"layout"}
ELSEWHERE = {  # knob -> the test that would fail if it were dead
    "remat": "tests/models/test_recurrent_knobs.py::"
    "test_what_the_backward_pass_computes_again_is_a_choice",
    "attention": "tests/test_knobs.py::test_the_attention_kernel_is_a_choice",
    # no model has all of its choices
    "bridge": "tests/interop/test_rnn_parity.py::"
    "test_logits_loss_and_every_gradient_are_those_of_torch",
}


def test_every_knob_changes_the_programs_of_its_role():
    own = {field.name for field in dataclasses.fields(Config)}
    assert KNOBS.keys() | WITHOUT_CHOICE | ELSEWHERE.keys() == own, (
        "say what these change"
    )
    fields = {field.name: field for field in dataclasses.fields(Config)}
    for name in WITHOUT_CHOICE:
        assert len(fields[name].metadata["choices"]) == 1
    for knob, place in ELSEWHERE.items():
        assert_named(knob, place)
    assert_roles(BASE, KNOBS, RNNSeq2Seq, BATCH)


def test_what_the_backward_pass_computes_again_is_a_choice():
    """``remat``, of which a forward pass knows nothing."""

    def program(remat):
        model = RNNSeq2Seq(dataclasses.replace(BASE, remat=remat))
        params = jax.eval_shape(lambda: init_params(model, jax.random.key(0), BATCH))

        def loss(params):
            return model.apply({"params": params}, BATCH, train=False).sum()

        return traced((jax.grad(loss), (params,)))

    (field,) = (x for x in dataclasses.fields(Config) if x.name == "remat")
    choices = field.metadata["choices"]
    assert len({program(remat) for remat in choices}) == len(choices) == 3
