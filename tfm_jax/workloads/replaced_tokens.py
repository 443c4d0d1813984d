"""A generator fills in words; the discriminator detects, or restores, what it did.

Source: Clark et al. 2020, arXiv:2003.10555, sections 2 and 3.4.
"""

from tfm_jax.data.rows import masked
from tfm_jax.objectives import replaced_tokens, restored_words
from tfm_jax.workloads.masked_lm import DEFAULTS, sentences
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload

JOINT = {  # table 6 and its release
    "optim": {**DEFAULTS["optim"], "schedule": "linear_from_start"},
    "train": {**DEFAULTS["train"], "auxiliary_weight": 50.0},
}


def _joint(name, objective, loss):
    return Workload(
        name=name,
        objective=objective,
        data=masked.KIND,
        scores={loss: min, **TOKEN_SCORES},
        auxiliary=True,
        defaults=JOINT,
        sentences=sentences,
    )


DETECTED = _joint("replaced_tokens", replaced_tokens.ALL, "judged_nll")
DETECTED_ASKED = _joint("replaced_asked_tokens", replaced_tokens.ASKED, "judged_nll")
RESTORED_ASKED = _joint("replace_mlm", restored_words.ASKED, "restored_nll")
RESTORED = _joint("all_tokens_mlm", restored_words.ALL, "restored_nll")
