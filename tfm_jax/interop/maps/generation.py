"""Token ids that decoding needs, as ``config.json`` and ``generation_config.json``."""

from tfm_jax.decode.search import TokenIds
from tfm_jax.interop.problems import cut, listed
from tfm_jax.interop.tensors.fields import MOST

_IDS = ("pad_token_id", "decoder_start_token_id", "eos_token_id")


def read(config: dict, generation: dict | None) -> tuple[TokenIds, bool]:
    """Token ids, and whether the last token that a limit allows must be EOS.

    Args:
        config: content of ``config.json`` with the family's defaults.
        generation: content of ``generation_config.json``, which older folders lack and
            which, where there is one, alone says what is forced and forbidden.
    Raises: ValueError listing what is missing or has no counterpart here.
    """
    ids = {name: config[name] for name in _IDS if name in config}
    values = {"forced_eos_token_id": None, "bad_words_ids": None}
    values |= config if generation is None else ids | generation
    pad, bos, eos = (_single(values[name]) if name in values else None for name in _IDS)
    problems = [
        f"{name}={cut(values.get(name))} must be one token"
        for name, token in zip(_IDS, (pad, bos, eos), strict=True)
        if token is None
    ]
    given = values["forced_eos_token_id"]
    forced = _single(given)
    if (given is None) != (forced is None) or forced not in (None, eos):
        problems.append(f"forced_eos_token_id={cut(given)} must be eos_token_id={eos}")
    words = values["bad_words_ids"]
    words = [[pad]] if words is None else words
    if not isinstance(words, list) or None in [_single(word) for word in words]:
        problems.append(f"bad_words_ids={cut(words)} must be single tokens")
    if problems:
        raise ValueError(f"token ids have no counterpart: {listed(problems)}")
    forbid = tuple(sorted(map(_single, words)))
    ids_here = TokenIds(pad, bos, eos, forbid)  # type: ignore[arg-type]  # all there
    return ids_here, forced is not None


def write(special: TokenIds, force_eos: bool) -> dict:
    """The inverse of ``read``, for both files."""
    ids = dict(zip(_IDS, special[:3], strict=True))
    return ids | {
        "forced_eos_token_id": special.eos if force_eos else None,
        "bad_words_ids": [[token] for token in special.forbid],
    }


def _single(token):
    """A token id, also where it is written as a list of one; None for anything else."""
    if isinstance(token, list) and len(token) == 1:
        (token,) = token
    return token if type(token) is int and 0 <= token <= MOST else None
