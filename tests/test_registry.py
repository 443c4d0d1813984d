"""Tables to which files of others add rows of their own."""

import pytest

from tfm_jax import registry, workloads
from tfm_jax.config import load

ADDS = """
from tfm_jax import workloads
from tfm_jax.settings.configure import configure

_CAUSAL = workloads.WORKLOADS["causal_lm"]
workloads.register(_CAUSAL._replace(name="mine", size=lambda data: "some"))


def get_config():
    return configure("gpt", "causal_lm")
"""


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.setattr(workloads, "WORKLOADS", dict(workloads.WORKLOADS))
    monkeypatch.setattr(registry, "_MAKERS", dict(registry._MAKERS))


def test_a_file_that_runs_again_replaces_what_it_has_added(tables, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(ADDS)
    load(str(file))
    first = workloads.WORKLOADS["mine"]
    load(str(file))
    assert workloads.WORKLOADS["mine"] is not first


def test_a_row_of_another_module_is_taken(tables, tmp_path):
    (tmp_path / "mine.py").write_text(ADDS)
    load(str(tmp_path / "mine.py"))
    for name in ("mine", "causal_lm"):
        (tmp_path / "other.py").write_text(
            ADDS.replace('name="mine"', f'name="{name}"')
        )
        with pytest.raises(ValueError, match=f"task='{name}' is taken"):
            load(str(tmp_path / "other.py"))
