"""Command lines that are not a configuration's."""

import argparse
from typing import NoReturn

from tfm_jax.knobs import ConfigError


class Parser(argparse.ArgumentParser):
    """Says what is wrong as every other command here does."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)
