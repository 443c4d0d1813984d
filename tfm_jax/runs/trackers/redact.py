"""Secrets are left out of what goes elsewhere: values of knobs, names, texts."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"
# an environment variable of such a name holds one
_NAMES = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY", re.I)
_SHORTEST = 6  # characters of a value that is looked for
_SHAPES = (  # (what holds one, what takes its place)
    # https://user:password@host
    (re.compile(r"(?<=://)[^/\s]+@"), f"{HIDDEN}@"),
    # ?token=..., &X-Amz-Signature=..., password: ...
    (
        re.compile(
            r"(?i)((?:token|secret|passw(?:or)?d|credential|signature|sig|"
            r"(?:api|access|private|account)[_-]?key)\w*[\"']?\s*[=:]\s*[\"']?)"
            r"[^\s&;,]{6,}"
        ),
        rf"\1{HIDDEN}",
    ),
    # Authorization: Bearer ..., --password ...
    (
        re.compile(
            r"(?i)(\bbearer\s+|--?(?:token|secret|passw(?:or)?d|api[_-]?key)\s+)"
            r"[^\s&;,]{6,}"
        ),
        rf"\1{HIDDEN}",
    ),
    # as GitHub, Hugging Face, OpenAI, Slack, AWS and Google write theirs; web tokens
    (
        re.compile(
            r"\b(?:gh[oprsu]_|github_pat_|hf_|sk-|xox[abprs]-|glpat-)[\w-]{16,}"
            r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}(?:\.[\w-]+){1,2}"
        ),
        HIDDEN,
    ),
    # keys in files
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S
        ),
        HIDDEN,
    ),
)


def redact(text: str) -> str:
    """``text`` without passwords of addresses, tokens, and secrets of the environment.

    What a variable such as WANDB_API_KEY holds is hidden wherever it stands.
    """
    for name, value in os.environ.items():
        if _NAMES.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, HIDDEN)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def redacted(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with every text in them ``redact``-ed."""
    return {n: redact(x) if isinstance(x, str) else x for n, x in values.items()}
