"""Honest accidents: things that students do without meaning harm, and that must cost no points."""

import copy
from collections.abc import Callable

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tests.attacks.entry import Entry

ACCIDENT = "Honest accidents"
STEP = "return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)"


def _step(*lines: str, before: str = "", signature: str = "x, h, w_ih, w_hh, b_ih, b_hh") -> dict[str, str]:
    return {"rnn_step": before + "\n    ".join([f"def rnn_step({signature}):", *lines]) + "\n"}


def _accident(name: str, tries: str, *cells: str, **more) -> Entry:
    return Entry(name, ACCIDENT, tries, cells=cells, **more)


def _edited(name: str, tries: str, edit: Callable[[NotebookNode], None]) -> Entry:
    return Entry(name, ACCIDENT, tries, edit=edit)


def _out_of_order(notebook: NotebookNode) -> None:
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.execution_count = 97 - 3 * number
        cell.outputs = [new_output("stream", text="left over\n")]


def _reordered(notebook: NotebookNode) -> None:
    places = [i for i, cell in enumerate(notebook.cells) if cell.id in ("rnn-step", "char-lm-loss")]
    first, second = places
    notebook.cells[first], notebook.cells[second] = notebook.cells[second], notebook.cells[first]


def _markdown(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = f"My notes: <b>important</b>\n\n{cell.source}\n\n$$x^2$$ ![plot](attachment:plot.png)"
    notebook.cells.insert(1, new_markdown_cell("# My own heading"))


def _colab(notebook: NotebookNode) -> None:
    """As Colab saves: other ids, metadata of its own, outputs with its own kinds, no nbgrader metadata."""
    notebook.metadata = {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
        "accelerator": "GPU",
    }
    notebook.nbformat_minor = 0
    for number, cell in enumerate(notebook.cells):
        kept = cell.metadata.get("nbgrader")
        cell.metadata = {
            "id": f"Xy{number:010d}",
            "colab": {"base_uri": "https://localhost:8080/"},
            "executionInfo": {"elapsed": 5},
        }
        if kept is not None:
            cell.metadata["nbgrader"] = kept
        cell.pop("id", None)


def _copies(notebook: NotebookNode) -> None:
    step = next(cell for cell in notebook.cells if cell.id == "rnn-step")
    notebook.cells.insert(notebook.cells.index(step) + 1, copy.deepcopy(step))


def _no_check(notebook: NotebookNode) -> None:
    notebook.cells = [cell for cell in notebook.cells if cell.id != "check-next-char-probs"]


def _experiment_ran(notebook: NotebookNode) -> None:
    notebook.cells.append(new_code_cell("while True:\n    pass  # trains for hours"))


ACCIDENTS = [
    _accident(
        "warnings-on-stderr",
        "Warns and logs on stderr, in a cell and in a function.",
        "import logging, sys, warnings\nlogging.warning('careful')\nprint('spam', file=sys.stderr)\n"
        "warnings.warn('careful')",
        sources=_step("warnings.warn('careful')", "print('spam', file=sys.stderr)", STEP),
    ),
    _accident(
        "leftover-prints",
        "Leaves prints and displays in a function and in cells.",
        "for i in range(300):\n    print('epoch', i, torch.randn(5))",
        sources=_step("print(x.shape, h)", "display(w_ih)", STEP),
    ),
    _accident(
        "leftover-plots",
        "Leaves plots: figures that are shown, figures that are never closed, `plt.show()`.",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()\nfor _ in range(3):\n    plt.figure()\n"
        "    plt.imshow([[1, 2], [3, 4]])",
    ),
    _accident(
        "progress-bars",
        "Shows tqdm bars, in a cell and in a function.",
        "from tqdm import tqdm, trange\nfrom tqdm.auto import tqdm as auto\nfor _ in auto(tqdm(range(50))):\n    pass",
        sources=_step("for _ in trange(3):", "    pass", STEP),
    ),
    _edited("out-of-order", "Ran the cells out of order: their numbers and outputs show it.", _out_of_order),
    _edited("moved-cells", "Exchanged two solution cells.", _reordered),
    _edited("changed-markdown", "Wrote notes into the text, and more of it.", _markdown),
    _edited("colab", "Saved by Colab: other ids and metadata, no grade ids changed.", _colab),
    _edited("copied-solution", "Copied a solution cell by mistake.", _copies),
    _edited("check-deleted", "Deleted a check by mistake.", _no_check),
    _edited("endless-experiment", "Left a cell at the end that trains for hours.", _experiment_ran),
    _accident(
        "extra-imports",
        "Imports more than is needed, also what is not installed.",
        "import collections, itertools, numpy as np, matplotlib.pyplot as plt\nfrom math import *",
        "import a_package_that_is_not_installed",
    ),
    _accident(
        "magics-that-fail",
        "Uses magics and shell commands, some of which fail: `%timeit`, `!ls`, `%pip install`, `!nvidia-smi`.",
        "%timeit -n 2 -r 1 torch.ones(3)",
        "!ls; nvidia-smi; echo done",
        "%pip install --timeout 1 --retries 0 a-package-that-does-not-exist",
        "%matplotlib inline\n%load_ext autoreload\n%autoreload 2",
        "%%bash\nexit 3",
    ),
    _accident(
        "cells-that-raise",
        "Leaves cells that raise, and one that is no Python.",
        "1 / 0",
        "undefined_name",
        "this is no python",
    ),
    _accident(
        "manual-seed", "Sets seeds everywhere.", "torch.manual_seed(0)", sources=_step("torch.manual_seed(42)", STEP)
    ),
    _accident(
        "eight-threads",
        "Asks torch for eight threads.",
        "torch.set_num_threads(8)\ntorch.set_float32_matmul_precision('high')\n"
        "torch.randn(300, 300) @ torch.randn(300, 300)",
    ),
    _accident(
        "class-redefined",
        "Defines a class and a function again in a later cell.",
        "class Helper:\n    def bits(self):\n        return 1",
        "class Helper:\n    def bits(self):\n        return torch.tanh\n\n\ndef rnn_step(*a):\n    return None",
        sources=_step("return Helper().bits()(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)"),
    ),
    _accident(
        "hints-missing-and-added",
        "Writes type hints that name nothing, default values and keyword arguments.",
        sources=_step(
            STEP,
            before="from __future__ import annotations\n\n\n",
            signature="x: Anything, h: 'Float[B, H]', w_ih=None, w_hh=None, b_ih=None, b_hh=None, **kwargs",
        ),
    ),
    _accident(
        "numpy-numbers",
        "Computes with NumPy's numbers among tensors.",
        sources={
            "char_lm_loss": "def char_lm_loss(logits, tokens, lengths):\n"
            "    valid = torch.arange(1, tokens.size(1)) < lengths[:, None]\n"
            "    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], "
            "reduction='none')\n"
            "    import numpy as np\n    return (losses * valid).sum() / valid.sum() / np.log(2)\n"
        },
    ),
    _accident(
        "changes-its-inputs",
        "Changes its inputs in place.",
        sources={
            "next_char_probs": "def next_char_probs(logits, temperature, top_k=None):\n    logits /= temperature\n"
            "    probs = torch.softmax(logits, dim=-1)\n    logits.zero_()\n    return probs\n"
        },
    ),
    _accident(
        "global-variables",
        "Uses global variables, changes them, and keeps a history.",
        "history = []\nCOUNT = 0",
        sources=_step("global COUNT", "COUNT += 1", "history.append(COUNT)", STEP),
    ),
    _accident(
        "data-loader-with-workers",
        "Runs a DataLoader with two worker processes.",
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "total = sum(b[0].sum() for b in DataLoader(TensorDataset(torch.arange(8.0)), 2, num_workers=2))\n"
        "assert total == 28\nWORKED = True",
        sources=_step("assert WORKED", STEP),
    ),
    _accident(
        "subprocesses",
        "Runs other programs and a pool of processes.",
        "import os, subprocess\nfrom multiprocessing.pool import ThreadPool\n"
        "assert subprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout == 'hi\\n'\n"
        "assert ThreadPool(2).map(abs, [-1, -2]) == [1, 2]\nWORKED = os.popen('echo yes').read() == 'yes\\n'",
        sources=_step("assert WORKED", STEP),
    ),
    _accident("warnings-are-errors", "Turns warnings into errors.", "import warnings\nwarnings.simplefilter('error')"),
    _accident(
        "debugging",
        "Leaves `%debug`, `breakpoint()` behind a condition, `%%time` and anomaly detection.",
        "torch.autograd.set_detect_anomaly(True)",
        "%%time\ntorch.ones(2)",
        "%xmode Verbose\n%config InlineBackend.figure_format = 'svg'",
        sources=_step("if h is None:", "    breakpoint()", STEP),
    ),
    _accident(
        "compiled-and-scripted",
        "Decorates its functions: `torch.no_grad`, `functools.wraps`, `torch.jit.script`.",
        "import functools\n\n\ndef logged(f):\n    @functools.wraps(f)\n    def g(*a, **k):\n"
        "        return f(*a, **k)\n    return g",
        sources={
            "next_char_probs": "@logged\n@torch.no_grad()\ndef next_char_probs(logits, temperature, top_k=None):\n"
            "    return torch.softmax(logits / temperature, dim=-1)\n"
        },
    ),
    _accident(
        "writes-files",
        "Saves a model, a plot and a CSV beside the notebook, and loads them again.",
        "import matplotlib.pyplot as plt\ntorch.save({'w': torch.ones(3)}, 'model.pt')\n"
        "assert torch.load('model.pt')['w'].sum() == 3\n"
        "plt.plot([1, 2])\nplt.savefig('plot.png')\nopen('log.csv', 'w').write('a,b')",
    ),
    _accident(
        "memory-that-is-needed",
        "Uses 600 MB for a moment.",
        "big = torch.ones(150_000_000)\ndel big",
    ),
]
