"""Which examples are held out, and by which knobs others of the same data would be."""

from tfm_jax.config import readers_of
from tfm_jax.settings.experiment import Experiment

_SHARES = ("data.valid_share", "data.test_share")
_CHOOSE = {
    *_SHARES,
    "data.split_seed",
    "data.numerals_max",
    "data.numerals_heldout",
    "data.numerals_seed",
    *(  # their splits are drawn one after the other
        f"data.{source}.{knob}"
        for source in ("mechanism", "counting")
        for knob in ("seed", "valid", "test")
    ),
}


def otherwise(trained: Experiment, now: Experiment) -> set[str]:
    """Dotted knobs by which ``now`` may hold out what ``trained`` is trained on.

    A split that is named is the business of whoever names it, and so is the data of
    another source.
    """
    old, new = trained.knobs(), now.knobs()
    if old.get("data.source") != new.get("data.source"):
        return set()
    section = type(now.data)
    wanted = {knob for knob in _CHOOSE & new.keys() if _is_read(section, knob, new)}
    if not any(new[share] for share in wanted & {*_SHARES}):
        wanted -= {"data.split_seed"}
    wanted |= {*_places(section, old, new)} & new.keys()
    return {knob for knob in wanted if old.get(knob) != new[knob]}


def _is_read(section, knob, values):
    readers = (r for r in readers_of(section, "data.") if r.knob == knob)
    return all(values.get(r.other) in r.readers for r in readers)


def _places(section, old, new):
    """Knobs that named a held-out split which is a share of the training split now."""
    for share in _SHARES:
        was_cut, is_cut = (_is_read(section, share, values) for values in (old, new))
        if is_cut and not was_cut and new.get(share):
            readers = readers_of(section, "data.")
            yield from (reader.other for reader in readers if reader.knob == share)
