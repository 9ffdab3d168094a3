"""Attacks by what is handed in: forged notebooks, odd files, artifacts that are none."""

import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from safetensors.torch import save_file

from tests.attacks.entry import WRONG_STEP, Entry, Seen
from tests.conftest import WEEK

FORGED = "Forged notebooks"
FILES = "Odd files"
ARTIFACTS = "Trained artifacts that are none"

NOTHING = dict.fromkeys(("rnn_step", "rnn_step_backward", "next_char_probs", "char_lm_loss", "names"), "missing")
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:alert(1)'>x</a><iframe src=//evil></iframe>"


def _cell(notebook: NotebookNode, cell_id: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def _forged(name: str, tries: str, edit: Callable[[NotebookNode], None], **more) -> Entry:
    return Entry(name, FORGED, tries, {"rnn_step": WRONG_STEP}, edit=edit, expect={"rnn_step": "wrong"}, **more)


def _skip(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell.metadata["tags"] = ["skip-execution", "remove-cell", "raises-exception"]
        cell.metadata["deletable"] = cell.metadata["editable"] = False


def _points(notebook: NotebookNode) -> None:
    notebook.metadata["nbgrader"] = {"score": 18, "max_score": 18}
    for cell in notebook.cells:
        cell.metadata["nbgrader"] = {
            "grade": True,
            "grade_id": "rnn-step",
            "locked": False,
            "points": 1000,
            "score": 1000,
            "schema_version": 3,
            "solution": True,
            "task": False,
            "cell_type": "code",
            "checksum": "0" * 32,
        }
        cell.metadata["course"] = {"role": "given", "exercise": "rnn_step", "points": 1000}


def _swapped_ids(notebook: NotebookNode) -> None:
    step, backward = _cell(notebook, "rnn-step"), _cell(notebook, "check-rnn-step")
    step.id, backward.id = backward.id, step.id
    step.metadata, backward.metadata = backward.metadata, step.metadata
    step.source, backward.source = "pass", WRONG_STEP


def _easy_checks(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.id.startswith("check-"):
            cell.source = "print('all cases right')"


def _no_checks(notebook: NotebookNode) -> None:
    notebook.cells = [cell for cell in notebook.cells if not cell.id.startswith("check-")]


def _many_checks(notebook: NotebookNode) -> None:
    notebook.cells += [copy.deepcopy(cell) for cell in notebook.cells if cell.id.startswith("check-")] * 20


def _after_its_check(notebook: NotebookNode) -> None:
    at = notebook.cells.index(_cell(notebook, "check-rnn-step-backward"))
    notebook.cells.insert(at, new_code_cell("rnn_step = None\ncheck = lambda name: print('all cases right')"))


def _given_code(notebook: NotebookNode) -> None:
    setup = next(cell for cell in notebook.cells if "checks_for" in cell.source)
    setup.source = "import torch\nclass Yes:\n    right = True\ncheck = lambda name: Yes()"


def _scripts(notebook: NotebookNode) -> None:
    page = new_output(
        "display_data",
        data={
            "text/html": SCRIPT,
            "image/svg+xml": f"<svg onload=alert(1)>{SCRIPT}</svg>",
            "application/javascript": "alert(1)",
            "text/markdown": SCRIPT,
            "text/latex": SCRIPT,
            "application/vnd.evil+json": {"x": SCRIPT},
        },
    )
    stream = new_output("stream", text=SCRIPT + "\x1b[2J\x1b]0;evil\x07")
    error = new_output("error", ename=SCRIPT, evalue=SCRIPT, traceback=[SCRIPT])
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = copy.deepcopy([page, stream, error])
        elif cell.metadata.get("course", {}).get("role") == "written":
            cell.source = SCRIPT
            cell["attachments"] = {"x.svg": {"image/svg+xml": SCRIPT}}
    notebook.cells.append(new_markdown_cell(SCRIPT))


TEXT = ("text/plain", "text/latex")  # kinds that nbconvert's and nbgrader's templates escape


def _no_script(seen: Seen) -> str:
    """Outputs that a browser would run, and markdown. Sources of code, and plain text, are shown as text."""
    for cell in seen.graded.notebook.cells:
        shown = [cell.source] if cell.cell_type == "markdown" else []
        for output in cell.get("outputs", []):
            shown += [str(value) for kind, value in output.get("data", {}).items() if kind not in TEXT]
        for text in shown:
            for sign in ("<script", "onerror=", "onload=", "javascript:", "<iframe"):
                if sign in text.lower():
                    return f"{sign!r} is in the graded notebook"
        if any("javascript" in kind for output in cell.get("outputs", []) for kind in output.get("data", {})):
            return "JavaScript is in the graded notebook"
    return ""


def _large(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [new_output("stream", text="x" * 2_000_000), new_output("stream", text="y\n" * 500_000)]


def _small_result(seen: Seen) -> str:
    size = len(json.dumps(seen.graded.notebook))
    return f"the graded notebook has {size:,} characters" if size > 3_000_000 else ""


def _thousands(notebook: NotebookNode) -> None:
    notebook.cells += [new_markdown_cell(f"*{i}*") for i in range(5000)]


NOTEBOOKS = [
    _forged("skip-tags", "Tags every cell, checks too, with `skip-execution` and makes it undeletable.", _skip),
    _forged(
        "forged-points",
        "Gives every cell a thousand points, grade flags, scores and one grade id in its metadata.",
        _points,
    ),
    _forged("swapped-ids", "Exchanges ids and metadata of its solution cell and its check.", _swapped_ids),
    _forged("easy-checks", "Replaces the checks by cells that print success.", _easy_checks),
    _forged("no-checks", "Deletes the checks.", _no_checks),
    _forged("many-checks", "Hands in twenty copies of every check.", _many_checks),
    _forged("after-its-check", "Replaces function and check by others in a later cell.", _after_its_check),
    _forged(
        "own-given-code", "Replaces the given cell that loads the checks by one that always says yes.", _given_code
    ),
    _forged(
        "scripts",
        "Puts scripts, event handlers, frames and escape sequences into outputs, answers and markdown.",
        _scripts,
        witness=_no_script,
    ),
    _forged("large-outputs", "Hands in 3 MB of output in every cell.", _large, witness=_small_result),
    _forged("thousands-of-cells", "Hands in five thousand cells more than it got.", _thousands),
]


def _other(name: str, tries: str, files: Callable[[Path], None], **more) -> Entry:
    return Entry(name, FILES, tries, files=files, expect=more.pop("expect", NOTHING), **more)


def _notebook(folder: Path) -> Path:
    return folder / f"{WEEK}.ipynb"


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Puts something else in the notebook's place."""

    def files(folder: Path) -> None:
        _notebook(folder).unlink()
        make(_notebook(folder))

    return files


def _linked(path: Path) -> None:
    """A link to what another student has handed in, and one to the solution."""
    course = path.parents[2] / "course"
    path.symlink_to(course / "grading" / "submitted" / "other" / WEEK / path.name)


def _climbs(folder: Path) -> None:
    course = folder.parents[1] / "course"
    (folder / "above").symlink_to("../..")
    (folder / "solutions").symlink_to(course / "solutions")
    (folder / "grading").symlink_to(course / "grading")
    (folder / "..ipynb").write_text("{}")
    (folder / "...").mkdir()
    (folder / "...\\..\\evil.ipynb").write_text("{}")
    (folder / f"{'x' * 200}.py").write_text("evil")
    (folder / "course").mkdir()
    (folder / "course" / "__init__.py").write_text("raise SystemExit('all cases right')")
    (folder / "torch.py").write_text("raise SystemExit('all cases right')")
    (folder / "sitecustomize.py").write_text("raise SystemExit('all cases right')")


def _strange(**changes: object) -> Callable[[Path], None]:
    def files(folder: Path) -> None:
        tree = json.loads(_notebook(folder).read_text())
        _notebook(folder).write_text(json.dumps({**tree, **changes}))

    return files


def _strange_cells(folder: Path) -> None:
    tree = json.loads(_notebook(folder).read_text())
    odd = [
        None,
        5,
        "text",
        [],
        {},
        {"cell_type": "code"},
        {"cell_type": 7, "source": 3},
        {"cell_type": "code", "source": {"a": 1}, "metadata": [], "outputs": "x", "id": 5},
        {"cell_type": "code", "source": ["1", 2, None], "metadata": None, "outputs": [None, {"output_type": "stream"}]},
        {"cell_type": "markdown", "source": "\ud800", "id": "a" * 10_000},
        {"cell_type": "code", "source": "pass", "id": {"x": []}, "metadata": {"nbgrader": 7, "course": [], "tags": 5}},
    ]
    tree["cells"] = [cell for own in tree["cells"] for cell in (*odd, own)]
    _notebook(folder).write_text(json.dumps(tree))


DEEP = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ' + "[" * 200_000

ODD_FILES = [
    _other("notebook-link", "Hands in a link to another student's notebook.", _instead(_linked)),
    _other(
        "notebook-link-collected",
        "The same link, in a folder that was collected as it is.",
        _instead(_linked),
        collected=True,
    ),
    _other("notebook-fifo", "Hands in a named pipe instead of a notebook.", _instead(os.mkfifo), collected=True),
    _other("notebook-folder", "Hands in a folder with a notebook's name.", _instead(Path.mkdir), collected=True),
    _other(
        "notebook-sparse",
        "Hands in a notebook of one terabyte that takes no room.",
        _instead(lambda path: (path.write_text(""), os.truncate(path, 2**40))),
        collected=True,
    ),
    _other("notebook-deep", "Hands in JSON nested 200,000 deep.", _instead(lambda path: path.write_text(DEEP))),
    _other(
        "notebook-long-number",
        "Hands in a number of a million digits.",
        _instead(lambda path: path.write_text("1" * 10**6)),
    ),
    _other("notebook-binary", "Hands in random bytes.", _instead(lambda path: path.write_bytes(os.urandom(10**6)))),
    _other("notebook-strange-format", "Hands in a notebook of format -1e308.", _strange(nbformat=-1e308)),
    _other("notebook-infinite-format", "Hands in a notebook of format Infinity.", _strange(nbformat=float("inf"))),
    _other(
        "strange-cells",
        "Puts numbers, text, lists and cells of wrong types between its cells.",
        _strange_cells,
        expect={},
    ),
    _other(
        "climbing-files",
        "Hands in links out of its folder, names with dots and backslashes, and modules named `course` and `torch`.",
        _climbs,
        expect={},
    ),
    _other(
        "climbing-files-collected",
        "The same files, in a folder that was collected as it is.",
        _climbs,
        expect={},
        collected=True,
    ),
]


def _artifact(
    name: str,
    tries: str,
    make: Callable[[Path], object] | None = None,
    figures: Callable[[Path], object] | None = None,
    status: str = "missing|error|wrong",
    **more,
) -> Entry:
    """`make` puts something in the place of the weights, `figures` in that of the JSON beside them."""

    def files(folder: Path) -> None:
        for path, put in ((folder / "names.safetensors", make), (folder / "names.json", figures)):
            if put is not None:
                path.unlink()
                put(path)

    return Entry(name, ARTIFACTS, tries, files=files, expect={"names": status}, **more)


class _Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/evil-artifact",)


def _header(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(len(text).to_bytes(8, "little") + text)


def _no_evil(seen: Seen) -> str:
    return "the pickle was loaded" if Path("/tmp/evil-artifact").exists() else ""


def _trained_badly(path: Path) -> None:
    odd_for_even = torch.nn.functional.one_hot((torch.arange(8) + 1) % 2).float()
    save_file({"embedding.weight": odd_for_even, "output.weight": torch.eye(2)}, path)


def _huge_model(path: Path) -> None:
    save_file({"embedding.weight": torch.zeros(1, 1), **{f"__class__.{i}": torch.zeros(0) for i in range(500)}}, path)


BAD_ARTIFACTS = [
    _artifact(
        "artifact-pickle",
        "Saves a pickle that runs a command where it is loaded.",
        lambda path: path.write_bytes(pickle.dumps(_Evil())),
        witness=_no_evil,
    ),
    _artifact(
        "artifact-link",
        "Saves a link to a file of the grader's.",
        lambda path: path.symlink_to("/etc/passwd"),
        collected=True,
    ),
    _artifact("artifact-fifo", "Saves a named pipe.", os.mkfifo, collected=True),
    _artifact(
        "artifact-device", "Saves a link to /dev/zero.", lambda path: path.symlink_to("/dev/zero"), collected=True
    ),
    _artifact("artifact-folder", "Saves a folder.", Path.mkdir, collected=True),
    _artifact(
        "artifact-sparse",
        "Saves a file of one terabyte that takes no room.",
        lambda path: (path.write_text(""), os.truncate(path, 2**40)),
        collected=True,
    ),
    _artifact(
        "artifact-lying-header",
        "Saves a header that promises a terabyte of numbers.",
        _header(b'{"embedding.weight":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}'),
    ),
    _artifact(
        "artifact-negative-header",
        "Saves a header with negative and overlapping offsets.",
        _header(
            b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[-4,0]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        ),
    ),
    _artifact(
        "artifact-deep-figures", "Saves figures nested 100,000 deep.", None, lambda path: path.write_text("[" * 100_000)
    ),
    _artifact(
        "artifact-long-number", "Saves a figure of 500,000 digits.", None, lambda path: path.write_text("1" * 500_000)
    ),
    _artifact(
        "artifact-nan-figures",
        "Saves NaN, Infinity and the same key twice as figures.",
        None,
        lambda path: path.write_text('{"accuracy": NaN, "accuracy": Infinity}'),
        status="passed|error|missing",
    ),
    _artifact(
        "artifact-forged-figures",
        "Claims an accuracy of 1 beside weights that are always wrong.",
        _trained_badly,
        lambda path: path.write_text('{"accuracy": 1.0, "points": 4, "passed": true}'),
        status="wrong",
    ),
    _artifact(
        "artifact-odd-weights", "Saves five hundred empty weights with names of Python's own attributes.", _huge_model
    ),
]

HANDED_IN = [*NOTEBOOKS, *ODD_FILES, *BAD_ARTIFACTS]
