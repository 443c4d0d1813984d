"""Starts: folders of other libraries whose parameters a run begins with."""

from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.bilingual import Tokenizer
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.interop import folders, huggingface, tokenizer_files
from tfm_jax.interop.imported import Imported
from tfm_jax.models import family_of
from tfm_jax.runs import sources


def read_initial(path: str) -> sources.Source:
    """A folder as transformers or diffusers writes it, a workdir, or a checkpoint.

    Raises: ConfigError if it is none of them, or its model has no counterpart here.
    """
    try:
        folder = huggingface.local(path)
        load = folders.loader(folder)
        loaded = load(folder) if load else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"init_from={path!r}: {error}") from error
    if loaded is None:
        return sources.read(path)
    tokenizer, without = _tokenizer(folder, loaded)
    return sources.Source(
        path=path,
        model_name=family_of(loaded.config).name,
        model=loaded.config,
        params=loaded.params,
        tokenizer=tokenizer,
        without=without,
        labels=getattr(loaded, "labels", ()),
    )


def _tokenizer(folder, loaded):
    """(the tokenizer of a folder, or None; why there is none)."""
    try:
        if isinstance(loaded, Imported):
            return Tokenizer.load(tokenizer_files.of_pairs(folder)), ""
        return TextTokenizer.load(folder), ""
    except DataError as error:
        return None, str(error)
