"""Every notebook runs, shows its pictures and is committed clean."""

import ast
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import local_provisioner

from tests.reliability.processes import environment

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LOAD_SMALL = {"from tfm_jax.config import load": "from tests.small import load"}
FEWER = {  # what stands in a notebook -> what runs here: every cell, in less time
    "diffusion": {
        **LOAD_SMALL,
        "total_steps = 3000": "total_steps = 2",
        "[*range(10)] * 3": "range(10)",
        "0, 1, 4": "1, 4",
        '("ddim", 100), ("ddim", 20), ': "",
    },
    "finetune": {
        "total_steps=1500, batch_tokens=1024, log_every_steps=20": "total_steps=4, "
        "batch_tokens=1024, log_every_steps=2",
        "config.eval.every_steps = 300": "config.eval.every_steps, "
        "config.model.depth = 2, 1",
        "total_steps=120, batch_tokens=1024, log_every_steps=10": "total_steps=4, "
        "batch_tokens=1024, log_every_steps=2",
        "tuned.eval.every_steps = 20": "tuned.eval.every_steps, "
        "tuned.model.depth = 2, 1",
    },
    "huggingface": {
        **LOAD_SMALL,
        "n_layer=2": "n_layer=1",
        "total_steps=40, batch_tokens=1024": "total_steps=8",
    },
    "multimodal": {
        **LOAD_SMALL,
        # the devices, too, are those of guides: answers are searched for on all
        "from tfm_jax.train import loop": "import jax\n"
        "from tfm_jax.train import loop\n"
        "jax.config.update('jax_num_cpu_devices', 8)\n"
        "jax.devices()",
        "lm=500, qformer=1500, flamingo=1500": "lm=2, qformer=2, flamingo=2",
        "train=20_000, valid=200, test=200": "train=64, valid=16, test=32",
        "steps // 2": "steps",
    },
    "study": {  # programs of tests/experiments/tiny_study.py: a process trains three
        "from pathlib import Path": "from pathlib import Path\n"
        "from experiments.engines import local\n"
        "from tests.reliability.processes import Commands\n"
        "local.subprocess = Commands().as_subprocess()",
        "from experiments.study import": "from tests.experiments.tiny_study import "
        "SMALL\nfrom experiments.study import",
        '"train.total_steps": 60, "eval.every_steps": 20': "**SMALL",
        '"data.numerals_train": 700': '"data.numerals_train": 100',
        "seeds=(0, 1)": "seeds=(0, 1, 2)",
        'f"--out={folder}"])': 'f"--out={folder}", "--jobs=1"])',
    },
    "translate": {
        "total_steps=100": "total_steps=4",
        "eval.update(every_steps=50": "eval.update(pictures=False, every_steps=2, "
        "max_length_offset=4",
        "log_every_steps=10": "log_every_steps=2",
    },
    "vision": {
        **LOAD_SMALL,
        "total_steps = 300": "total_steps = 2",
        "warmup_steps=20": "warmup_steps=1",
        "every_steps = 100": "every_steps = 2",
    },
}

SHOWN = (".plot(", ".picture(", ".imshow(")  # a cell that ends in one shows a picture


def read(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path):
    notebook, cells = read(path)
    nbformat.validate(notebook)
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_never_renders_text_as_html(path):
    for cell in read(path)[1]:
        nodes = ast.walk(ast.parse(cell.source))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert not names & {"HTML", "Markdown", "display"}
        assert "IPython" not in cell.source and not cell.source.startswith(("%", "!"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_its_pictures(path, tmp_path, commands, monkeypatch):
    notebook, cells = read(path)
    for text, smaller in FEWER.get(path.stem, {}).items():
        (cell,) = (cell for cell in cells if text in cell.source)
        cell.source = cell.source.replace(text, smaller)
    # This interpreter, whatever kernels the user has installed.
    kernels = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    assert kernels.get_kernel_spec("python3").argv[0] == sys.executable
    client = nbclient.NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels),
        resources={"metadata": {"path": str(path.parent)}},
        timeout=600,
    )
    variables = {}
    if any("transformers" in cell.source for cell in cells):
        variables["PYTHONPATH"] = str(ROOT)  # with torch, and with imports of its own
    else:
        monkeypatch.setattr(local_provisioner, "launch_kernel", commands.launch_kernel)
    client.execute(
        cleanup_kc=True,
        env=environment(
            **variables,
            IPYTHONDIR=str(tmp_path),  # nobody's startup files
            TMPDIR=str(tmp_path),
        ),
    )
    for cell in cells:
        last = ast.unparse(ast.parse(cell.source).body[-1])
        if any(name in last for name in SHOWN):
            shown = [output.get("data", {}) for output in cell.outputs]
            assert any("image/png" in data for data in shown), last
