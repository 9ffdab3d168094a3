"""Repair: whatever is done to a notebook, everything released is in its place again, and the student is told."""

import copy
import json
import random
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder.release import notebook_bytes
from autograder.repair import (
    Unreadable,
    exercise,
    file_repairs,
    find_notebook,
    read_notebook,
    repair,
    role,
    why_not_found,
)
from autograder.submission import filled
from autograder.week import Week
from tests.conftest import ROOT, WEEK


def cell(notebook, cell_id):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def position(notebook, cell_id):
    return [cell.id for cell in notebook.cells].index(cell_id)


def test_an_untouched_release_needs_no_repair(small):
    repaired = repair(copy.deepcopy(small.release), small.release)
    assert repaired.repairs == [] and repaired.notebook == small.release


def test_edited_deleted_duplicated_and_moved_cells(small):
    broken = small.solved()
    cell(broken, "check-rnn-step").source = "pass  # always right"
    cell(broken, "check-rnn-step").metadata.nbgrader.points = 1000
    twice = copy.deepcopy(cell(broken, "rnn-step"))
    twice.id, twice.source = "copied", "helper = 1"
    check_twice = copy.deepcopy(cell(broken, "check-rnn-step"))
    check_twice.id = "copied-check"
    broken.cells.insert(position(broken, "rnn-step") + 1, twice)
    broken.cells.append(check_twice)
    broken.cells.remove(cell(broken, "check-rnn-step-backward"))
    broken.cells.remove(cell(broken, "next-char-probs"))
    moved = broken.cells.pop(position(broken, "check-char-lm-loss"))
    broken.cells.insert(0, moved)
    cell(broken, "written-why-tanh").source = "Because."
    cell(broken, "rnn-step").metadata.tags = ["skip-execution"]
    cell(broken, "rnn-step").cell_type = "raw"
    repaired = repair(broken, small.release)
    notebook = repaired.notebook

    released = [cell.id for cell in small.release.cells]
    assert [cell.id for cell in notebook.cells if cell.id in released] == released
    for each in small.release.cells:
        mended = cell(notebook, each.id)
        assert mended.metadata == each.metadata and mended.cell_type == each.cell_type
    for check in ("rnn-step", "rnn-step-backward", "next-char-probs", "char-lm-loss"):
        assert cell(notebook, f"check-{check}").source == cell(small.release, f"check-{check}").source
    assert cell(notebook, "rnn-step").source == small.week.solution("rnn_step")
    assert cell(notebook, "next-char-probs").source == cell(small.release, "next-char-probs").source
    assert cell(notebook, "written-why-tanh").source == "Because."
    own = notebook.cells[position(notebook, "rnn-step") + 1]
    assert own.source == "helper = 1" and "nbgrader" not in own.metadata
    assert set(repaired.repairs) == {
        "The cell for next_char_probs was missing; it is the released one again.",
        "The cell for rnn_step had become a raw cell; it is a code cell again.",
        "The cell for rnn_step stood there twice; the copy counts as a cell of your own.",
        "The check of char_lm_loss had been moved; it is graded in its own place.",
        "The check of rnn_step had been changed; it is the released one again.",
        "The check of rnn_step stood there twice; the copy is left out.",
        "The check of rnn_step_backward was missing; it is the released one again.",
        "Tags or marks for grading had been changed and are the released ones again: "
        "cell for rnn_step, check of rnn_step.",
    }
    nbformat.validate(notebook)


def test_cells_are_found_by_grade_id_where_ids_are_lost(small):
    """Old editors and Colab write notebooks without the released cell ids."""
    submitted = small.solved()
    for i, each in enumerate(submitted.cells):
        each.id = f"x{i}"
    repaired = repair(submitted, small.release)
    assert cell(repaired.notebook, "rnn-step").source == small.week.solution("rnn_step")
    assert not [text for text in repaired.repairs if "missing" in text]


def test_own_cells_stay_where_they_are(small):
    submitted = small.solved()
    at = position(submitted, "rnn-step")
    submitted.cells.insert(at, new_code_cell("import math"))
    submitted.cells.insert(0, new_markdown_cell("my notes"))
    notebook = repair(submitted, small.release).notebook
    assert notebook.cells[0].source == "my notes"
    assert notebook.cells[position(notebook, "rnn-step") - 1].source == "import math"


def test_outputs_of_experiments_are_kept_and_nonsense_is_dropped(small):
    submitted = json.loads(json.dumps(small.solved()))
    for each in submitted["cells"]:
        if each["id"] == "experiment-names":
            each["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "0.61"}]
        if each["id"] == "look-rnn-step":
            each["outputs"] = [{"output_type": "stream", "evil": 1}]
    submitted["cells"] += [None, 3, {"cell_type": "exotic"}, {"cell_type": "code", "source": 4, "metadata": []}]
    notebook = repair(nbformat.from_dict(submitted), small.release).notebook
    assert cell(notebook, "experiment-names").outputs[0].text == "0.61"
    assert cell(notebook, "look-rnn-step").outputs == []
    nbformat.validate(notebook)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"nbformat": 4}',
        '{"nbformat": 4, "cells": 3}',
        '{"nbformat": "x", "cells": []}',
        "[" * 9999,
    ],
)
def test_what_is_no_notebook_is_said_in_a_sentence(tmp_path, content):
    path = tmp_path / "week01_rnn.ipynb"
    path.write_text(content)
    with pytest.raises(Unreadable, match="Save it in Jupyter and submit it again"):
        read_notebook(path)


def test_the_notebook_is_found_under_another_name(tmp_path):
    assert find_notebook(tmp_path, "week01_rnn") is None
    (tmp_path / "Copy of week01_rnn.ipynb").touch()
    assert find_notebook(tmp_path, "week01_rnn").name == "Copy of week01_rnn.ipynb"
    (tmp_path / "scratch.ipynb").touch()
    assert find_notebook(tmp_path, "week01_rnn").name == "Copy of week01_rnn.ipynb"
    (tmp_path / "week01_rnn (1).ipynb").touch()
    assert find_notebook(tmp_path, "week01_rnn") is None
    (tmp_path / "week01_rnn.ipynb").symlink_to("/etc/passwd")
    assert find_notebook(tmp_path, "week01_rnn") is None


# ------------------------------------------------------------------------------------------- which definition counts


def make(name, answer):
    return f"def {name}(*arguments):\n    return {answer!r}"


def answers(notebook, name):
    """What the exercise's function returns at its check's place when the notebook's cells run in order, as in grading."""
    namespace = {"check": lambda name: None}
    for each in notebook.cells:
        if role(each) == "check" and exercise(each) == name:
            function = namespace.get(name)
            try:
                return function() if function else None
            except NotImplementedError:
                return "not written"
        if each.cell_type == "code" and role(each) not in ("check", "setup", "given", "look", "experiment"):
            try:
                exec(each.source, namespace)  # what the tests wrote
            except Exception:
                continue
    raise AssertionError(f"{name} has no check")


def pasted(original, source, **ids):
    """A cell as JupyterLab pastes it: a new id, all metadata of the original."""
    return new_code_cell(source, metadata=copy.deepcopy(original.metadata), **ids)


@pytest.mark.parametrize(
    ("first", "second", "below", "counts"),
    [
        ("original", "copy", 1, "copy"),  # pasted below and worked on in the copy
        ("template", "copy", 1, "copy"),
        ("original", "template", 1, "original"),  # an untouched copy would undo the work
        ("original", "copy", 2, "original"),  # behind the check: not yet there when the check is reached
        ("template", "copy", 2, "copy"),  # but what stands nowhere else counts wherever it stands
        ("copied first", "original", 1, "original"),
        ("original", "def rnn_step(:", 1, "original"),  # a copy that does not run defines nothing
        ("original", "helper = 1", 1, "original"),
        ("# see below", "copy", 2, "copy"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["pasted", "typed"])
def test_of_two_cells_the_one_in_force_at_the_check_counts(small, first, second, below, counts, known):
    submitted = copy.deepcopy(small.release)
    template = cell(submitted, "rnn-step").source
    words = {"template": template}
    sources = [words.get(each) or (make("rnn_step", each) if each.isidentifier() else each) for each in (first, second)]
    sources = [make("rnn_step", each) if each == "copied first" else each for each in sources]
    cell(submitted, "rnn-step").source = sources[0]
    extra = pasted(cell(submitted, "rnn-step"), sources[1]) if known else new_code_cell(sources[1])
    submitted.cells.insert(position(submitted, "rnn-step") + below, extra)
    repaired = repair(submitted, small.release)
    assert answers(repaired.notebook, "rnn_step") == counts
    assert cell(repaired.notebook, "rnn-step").source == make("rnn_step", counts)
    if first.isidentifier() and first != "template" and second == "copy":
        assert [text for text in repaired.repairs if "more than one cell" in text]
    if first == "template" and second == "copy":
        assert repaired.repairs == [
            "The cell for rnn_step does not hold your rnn_step; the cell that does counts for it."
        ]
    assert len(repaired.repairs) <= 1


@pytest.mark.parametrize("kept", ["rnn-step", "rnn-step-backward", "check-rnn-step", "look-rnn-step"])
def test_cells_merged_into_one_define_all_that_they_define(small, kept):
    """Jupyter's merge keeps one of the ids, whichever cell was active, and puts the sources behind each other."""
    submitted = copy.deepcopy(small.release)
    merged = "\n\n".join([make("rnn_step", "mine"), make("rnn_step_backward", "mine too")])
    cell(submitted, kept).source = merged
    for each in {"rnn-step", "rnn-step-backward"} - {kept}:
        submitted.cells.remove(cell(submitted, each))
    repaired = repair(submitted, small.release)
    assert answers(repaired.notebook, "rnn_step") == "mine"
    assert answers(repaired.notebook, "rnn_step_backward") == "mine too"
    assert cell(repaired.notebook, "check-rnn-step").source == cell(small.release, "check-rnn-step").source
    assert [text for text in repaired.repairs if "has another task" in text]
    assert not [text for text in repaired.repairs if "The cell for" in text and "missing" in text]


@pytest.mark.parametrize("keeps_id", [0, 1])
def test_a_cell_split_in_two_works_as_one(small, keeps_id):
    """Jupyter's split gives both halves the metadata, and the id to one of them."""
    submitted = copy.deepcopy(small.release)
    at = position(submitted, "rnn-step")
    whole = submitted.cells.pop(at)
    halves = ["def helper():\n    return 'both'", "def rnn_step(*arguments):\n    return helper()"]
    ids = [{"id": "rnn-step"} if i == keeps_id else {} for i in range(2)]
    submitted.cells[at:at] = [pasted(whole, source, **ids[i]) for i, source in enumerate(halves)]
    assert answers(repair(submitted, small.release).notebook, "rnn_step") == "both"


def test_a_solution_moved_far_down_takes_its_helpers_along(small):
    submitted = small.solved()
    solution = submitted.cells.pop(position(submitted, "rnn-step"))
    solution.source = "def rnn_step(*arguments):\n    return helper()"
    submitted.cells += [new_code_cell("def helper():\n    return 'helped'"), solution]
    repaired = repair(submitted, small.release)
    assert answers(repaired.notebook, "rnn_step") == "helped"
    assert repaired.repairs == ["The cell for rnn_step had been moved; it is graded in its own place."]


def test_methods_are_known_by_their_class():
    from autograder.repair import _definitions

    source = (
        "%%time\n!pip list\nimport torch\nclass A(torch.nn.Module):\n    def forward(self): ...\nasync def f(): ..."
    )
    assert _definitions(source) == {"A", "A.forward", "f"}
    for hostile in ("def f(:", "def f(): ...\0", "(" * 5000, "-" * 50_000 + "1", "x = 1\n" * 50_000):
        assert _definitions(hostile) == set()


# --------------------------------------------------------------------------------------------------- lost identities


def bare(notebook):
    """All ids and metadata lost, as after a way through another format."""
    notebook = copy.deepcopy(notebook)
    for each in notebook.cells:
        each.metadata = {}
        del each["id"]
    return notebook


@pytest.mark.parametrize("name", ["week00_warmup", WEEK])
def test_a_real_week_is_recognised_without_any_id(name):
    release = nbformat.read(ROOT / "assignments" / name / f"{name}.ipynb", as_version=4)
    week = Week(ROOT / "solutions" / name)
    written = {exercise(each): each.source + "\n\nBecause." for each in release.cells if role(each) == "written"}
    solved = filled(release, {each.name: week.solution(each.name) for each in week.exercises}, written)
    repaired = repair(bare(solved), release)
    assert repaired.notebook == solved
    assert len(repaired.repairs) == 1 and "without the released ids" in repaired.repairs[0]
    assert repair(bare(release), release).notebook == release


def test_cells_without_ids_are_found_by_likeness_and_place(small):
    submitted = small.solved()
    cell(submitted, "rnn-step").source = cell(small.release, "rnn-step").source.replace("raise Not", "return (Not")
    cell(submitted, "written-why-tanh").source = "It keeps the state bounded."
    cell(submitted, "check-rnn-step").source += "  # again"
    repaired = repair(bare(submitted), small.release)
    assert "return (Not" in cell(repaired.notebook, "rnn-step").source, "a syntax error hides what it defines"
    assert cell(repaired.notebook, "written-why-tanh").source == "It keeps the state bounded."
    assert cell(repaired.notebook, "check-rnn-step").source == cell(small.release, "check-rnn-step").source
    assert len(repaired.notebook.cells) == len(small.release.cells)


def test_the_dearest_comparisons_end_soon(small):
    """As many cells without ids as are read, each as like the release as can be and still another."""
    words = [word for each in small.release.cells for word in re.findall(r"\w+", each.source)]
    submitted = bare(small.release)
    draws = random.Random(0)
    submitted.cells = [
        {"cell_type": "code", "metadata": {}, "source": " ".join(draws.sample(words, len(words)))} for _ in range(3000)
    ]
    repaired = repair(submitted, small.release)
    assert repaired.repairs[0] == "The notebook has 3000 cells; only the first 1000 are read."
    assert len(repaired.repairs) <= 41 and len(repaired.notebook.cells) <= len(small.release.cells) + 1000


def as_colab(notebook, opened_with_ids):
    """The notebook as Google Colab saves it.

    Known from notebooks in public repositories that Colab saved (metadata `id`, `outputId`, `executionInfo`,
    `colab.base_uri`; nbformat_minor 0; `execution_count` and texts as lists), and from googlecolab/colabtools#5402: Colab
    creates notebooks in format 4.0, whose cells have no ids, and keeps the ids of a 4.5 notebook that it opens.
    """
    badge = '<a href="https://colab.research.google.com/x.ipynb" target="_parent"><img src="https://x/badge.svg"/></a>'
    cells = [
        {"cell_type": "markdown", "metadata": {"id": "view-in-github", "colab_type": "text"}, "source": [badge]},
    ]
    for i, each in enumerate(notebook.cells):
        saved = {
            "cell_type": each.cell_type,
            "source": each.source.splitlines(keepends=True),
            "metadata": {**each.metadata, "id": each.id if opened_with_ids else f"nWq-7cPB{i:04}"},
        }
        if opened_with_ids:
            saved["id"] = each.id
        if each.cell_type == "code":
            saved["execution_count"] = i
            saved["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["a line\n", "another\n"]}]
            saved["metadata"] |= {
                "colab": {"base_uri": "https://localhost:8080/", "height": 35},
                "outputId": "d1c9354e-43db-45ab-c38b-b24bcee97356",
                "executionInfo": {"status": "ok", "timestamp": 1722608125960, "user_tz": -330, "elapsed": 5820},
            }
        cells.append(saved)
    return {
        "nbformat": 4,
        "nbformat_minor": 5 if opened_with_ids else 0,
        "metadata": {
            "accelerator": "GPU",
            "colab": {"provenance": [], "gpuType": "T4", "include_colab_link": True},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "language_info": {"name": "python"},
            "widgets": {"application/vnd.jupyter.widget-state+json": {"x": {"model_name": "HTMLModel"}}},
        },
        "cells": cells,
    }


def as_vscode(notebook, keeps_ids):
    """The notebook as Visual Studio Code saves it.

    Known from microsoft/vscode, extensions/ipynb/src/serializers.ts (keys sorted, texts as lists, `vscode.languageId` where
    a cell's language is set, attachments kept), and from microsoft/vscode-jupyter#5933: versions before 2021's lost ids.
    """
    saved = json.loads(json.dumps(notebook))
    for each in saved["cells"]:
        each["source"] = each["source"].splitlines(keepends=True)
        each["metadata"]["vscode"] = {"languageId": "python" if each["cell_type"] == "code" else "markdown"}
        if each["cell_type"] == "code":
            data = {"text/plain": ["   a\n", "0  1"], "text/html": ["<table><tr>\n", "<td>1</td></tr></table>"]}
            each["outputs"] = [{"output_type": "execute_result", "execution_count": 1, "data": data, "metadata": {}}]
        if not keeps_ids:
            del each["id"]
    saved["metadata"] = {
        "kernelspec": {"display_name": ".venv", "language": "python", "name": "python3"},
        "language_info": {"codemirror_mode": {"name": "ipython", "version": 3}, "name": "python", "version": "3.12.1"},
        "orig_nbformat": 4,
    }
    saved["nbformat_minor"] = 5 if keeps_ids else 2
    return saved


@pytest.mark.parametrize("saved_by", [as_colab, as_vscode])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("marks", [True, False])
def test_other_editors_files_need_no_repair(small, tmp_path, saved_by, ids, marks):
    solved = small.solved()
    if not marks:
        for each in solved.cells:
            each.metadata = {}
    path = tmp_path / "week01_rnn.ipynb"
    path.write_text(json.dumps(saved_by(solved, ids), sort_keys=True))
    repaired = repair(read_notebook(path), small.release)
    notebook = repaired.notebook
    assert [each.source for each in notebook.cells if not each.id.startswith("own")] == [
        each.source for each in solved.cells
    ]
    assert notebook.metadata == small.release.metadata
    assert repaired.repairs == [] or (not ids and not marks and len(repaired.repairs) == 1)
    [output] = cell(notebook, "rnn-step").outputs
    assert output.get("text", output.get("data", {}).get("text/plain")) in ("a line\nanother\n", "   a\n0  1")
    nbformat.validate(notebook)


def test_an_old_notebook_format_is_read(small, tmp_path):
    old = nbformat.convert(copy.deepcopy(small.solved()), 3)
    path = tmp_path / "week01_rnn.ipynb"
    path.write_text(nbformat.v3.writes_json(old))
    repaired = repair(read_notebook(path), small.release)
    assert repaired.repairs == []
    assert cell(repaired.notebook, "rnn-step").source == small.week.solution("rnn_step")


# ------------------------------------------------------------------------------------------------- whatever is done

GARBAGE = [
    "null",
    "3",
    '"text"',
    "[]",
    "{}",
    '{"id": []}',
    '{"tags": 4, "nbgrader": []}',
    '{"nbgrader": {"grade_id": {}}}',
]


def mangled(notebook, seed):
    """Cells shuffled, deleted, doubled and emptied, their types, ids, metadata, sources and outputs replaced by anything."""
    draws = random.Random(seed)
    cells = json.loads(json.dumps(notebook.cells))
    for _ in range(draws.randrange(30)):
        i = draws.randrange(len(cells))
        each = cells[i] if isinstance(cells[i], dict) else {}
        what = draws.randrange(9)
        if what == 0:
            cells.insert(draws.randrange(len(cells)), cells.pop(i))
        elif what == 1 and len(cells) > 2:
            cells.pop(i)
        elif what == 2:
            cells.insert(draws.randrange(len(cells)), copy.deepcopy(cells[i]))
        elif what == 3:
            each[draws.choice(["metadata", "outputs", "attachments", "source", "id"])] = json.loads(
                draws.choice(GARBAGE)
            )
        elif what == 4:
            each["cell_type"] = draws.choice(["code", "markdown", "raw", "exotic", [], None])
        elif what == 5:
            each["id"] = draws.choice(["rnn-step", "check-rnn-step", "-", "a b", "x" * 100, ""])
        elif what == 6:
            each["source"] = draws.choice(["", "\ud800\0", ["a\r\n", 3], "# nothing", make("rnn_step", "x")])
        elif what == 7:
            cells.insert(i, json.loads(draws.choice(GARBAGE)))
        else:
            each["outputs"] = [
                {"output_type": "display_data", "metadata": {}, "data": json.loads(draws.choice(GARBAGE))}
            ]
    if seed % 5 == 0:
        draws.shuffle(cells)
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_done_every_released_cell_is_there_once_and_in_order(small, seed):
    repaired = repair(mangled(small.solved(), seed), small.release)
    notebook = repaired.notebook
    nbformat.validate(notebook)
    notebook_bytes(notebook)
    released = {each.id: each for each in small.release.cells}
    assert [each.id for each in notebook.cells if each.id in released] == list(released)
    assert len({each.id for each in notebook.cells}) == len(notebook.cells)
    for each in notebook.cells:
        original = released.get(each.id)
        assert each.metadata == (original.metadata if original else {})
        if original and role(original) in ("setup", "given", "check"):
            assert each.source == original.source
    assert len(repaired.repairs) == len(set(repaired.repairs)) <= 41
    assert all(text.endswith(".") and "\n" not in text for text in repaired.repairs)


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["week01_rnn.ipynb", "week01_rnn (1).ipynb", "Copy of week01_rnn.ipynb"], "week01_rnn.ipynb"),
        (["Week01_RNN.ipynb", "Copy of week01_rnn.ipynb"], "Week01_RNN.ipynb"),
        (["week01_rnn-1.ipynb", "week01_rnn-2.ipynb"], "week01_rnn-2.ipynb"),  # Canvas counts what is handed in again
        (["week01_rnn.ipynb.txt"], "week01_rnn.ipynb.txt"),
        (["homework.ipynb"], "homework.ipynb"),
        (["homework.ipynb", "scratch.ipynb"], None),
        (["a/b/week01_rnn.ipynb", "a/.ipynb_checkpoints/week01_rnn.ipynb"], "a/b/week01_rnn.ipynb"),
        (["homework.ipynb", "a/week01_rnn.ipynb"], "homework.ipynb"),
        ([".week01_rnn.ipynb", "__MACOSX/week01_rnn.ipynb", "notes.txt"], None),
        (["a/b/c/d/week01_rnn.ipynb"], None),
    ],
)
def test_which_file_is_graded(tmp_path, names, right):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_notebook(tmp_path, "week01_rnn")
    assert found == (tmp_path / right if right else None)


def test_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "week01_rnn.ipynb").touch()
    folder = tmp_path / "handed-in"
    folder.mkdir()
    (folder / "sub").symlink_to(outside)
    (folder / "week01_rnn.ipynb").symlink_to(outside / "week01_rnn.ipynb")
    assert find_notebook(folder, "week01_rnn") is None
    with pytest.raises(Unreadable, match="There is no notebook"):
        read_notebook(folder / "week01_rnn.ipynb")


def test_the_student_is_told_about_files(tmp_path):
    assert why_not_found(tmp_path, "week01_rnn") == "Submit one notebook, week01_rnn.ipynb; none was found."
    (tmp_path / "all.zip").touch()
    assert why_not_found(tmp_path, "week01_rnn") == "Submit week01_rnn.ipynb itself; all.zip has to be unpacked first."
    for name in ("week01_rnn [x](javascript:y).ipynb", "a.ipynb", "b.ipynb", "c.ipynb", "d.ipynb"):
        (tmp_path / name).touch()
    assert file_repairs(find_notebook(tmp_path, "week01_rnn"), "week01_rnn") == [
        "The notebook was named week01_rnn ?x?(javascript?y).ipynb; it is graded as week01_rnn.ipynb.",
        "Only one notebook is graded. Beside it stood a.ipynb, b.ipynb, c.ipynb and 1 more.",
    ]
    (tmp_path / "week01_rnn [x](javascript:y).ipynb").unlink()
    assert why_not_found(tmp_path, "week01_rnn") == "Submit one notebook, week01_rnn.ipynb; several others were found."
