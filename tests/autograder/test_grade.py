"""One submission through `grade_notebook`: each bad thing gets its own message and costs only its own points.

A kernel takes seconds to start, so that many faults, each in an exercise of its own, share a notebook.
"""

import os
import signal
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from autograder.grade import Graded, autograd_evidence, grade_notebook
from autograder.kernel import sandbox
from autograder.kernel.provisioner import SandboxProvisioner
from autograder.kernel.sandbox import Limits


def grade(small, folder: Path, notebook, **options) -> Graded:
    path = small.hand_in(folder, notebook)
    return grade_notebook(path, small.release_path, small.week, small.banks, **options)


def by_name(graded: Graded) -> dict:
    return {verdict.exercise: verdict for verdict in graded.verdicts}


def cell(notebook, cell_id):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def test_crash_exit_loop_and_syntax_error(small, tmp_path, caplog):
    graded = grade(
        small,
        tmp_path,
        small.solved(
            rnn_step="import os\ndef rnn_step(*a):\n    os._exit(0)",
            rnn_step_backward="def rnn_step_backward(*a):\n    exit()",
            next_char_probs="def next_char_probs(logits, temperature, top_k=None):\n"
            "    if temperature == 0.5:\n        return torch.softmax(logits / temperature, -1)\n"
            "    while True:\n        pass",
            char_lm_loss="def char_lm_loss(:\n    pass",
        ),
    )
    found = by_name(graded)
    assert [found[name].status for name in found] == ["crashed", "error", "timeout", "error", "passed"]
    assert sum(verdict.points for verdict in graded.verdicts) == 4
    assert "ended the Python process" in found["rnn_step"].message
    assert found["rnn_step_backward"].message == "Your code calls exit(); a function should return instead."
    assert found["next_char_probs"].kind == "temperature 2.0" and "Is there a loop" in found["next_char_probs"].message
    assert (
        found["char_lm_loss"].message == "The cell with your solution stops with SyntaxError: invalid syntax (line 1)."
    )
    assert len({verdict.message for verdict in graded.verdicts}) == 5
    assert "Timeout waiting for IOPub" not in caplog.text, "a cell that timed out took the next cells' messages"


def test_wrong_values_shapes_dtypes_and_what_is_forbidden(small, tmp_path):
    graded = grade(
        small,
        tmp_path,
        small.solved(
            rnn_step=small.week.solution("rnn_step").replace("torch.tanh(", "float('nan') * ("),
            rnn_step_backward="def rnn_step_backward(grad_h_next, x, h, h_next, w_ih, w_hh):\n"
            "    xs = [t.detach().requires_grad_() for t in (x, h, w_ih, w_hh)]\n"
            "    bias = torch.atanh(h_next) - xs[0].detach() @ w_ih.T - xs[1].detach() @ w_hh.T\n"
            "    bias = bias.detach().requires_grad_()\n"
            "    (torch.tanh(xs[0] @ xs[2].T + xs[1] @ xs[3].T + bias) * grad_h_next).sum().backward()\n"
            "    return *(t.grad for t in xs), bias.grad.sum(0), bias.grad.sum(0)",
            next_char_probs=small.week.solution("next_char_probs").replace("-1)", "-1)[0]"),
            char_lm_loss=small.week.solution("char_lm_loss").replace("(losses * valid)", "(losses * valid).double()"),
        ),
    )
    found = by_name(graded)
    assert [found[name].status for name in found] == ["wrong", "forbidden", "wrong", "wrong", "passed"]
    assert "NaN" in found["rnn_step"].difference.note and found["rnn_step"].points == 0
    assert "autograd" in found["rnn_step_backward"].message and found["rnn_step_backward"].points == 0
    assert "shape (5,)" in found["next_char_probs"].difference.note
    assert "float64" in found["char_lm_loss"].difference.note
    shown = "".join(
        output.data["text/html"] + output.data["text/plain"]
        for check in ("rnn-step", "next-char-probs", "char-lm-loss")
        for output in cell(graded.notebook, f"check-{check}").outputs
    )
    hidden = [found[name].difference.expected for name in ("rnn_step", "next_char_probs", "char_lm_loss")]
    assert not [value for value in hidden if value and value in shown]


def test_cells_that_never_define_anything_and_a_notebook_that_goes_on(small, tmp_path):
    notebook = small.solved(
        rnn_step="while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        rnn_step_backward="import os\nos.kill(os.getpid(), 11)",
        next_char_probs="",
        char_lm_loss=small.week.solution("char_lm_loss").replace("0.6931471805599453", "bits()"),
    )
    notebook.cells.insert(3, new_code_cell("def bits():\n    return 0.6931471805599453"))
    graded = grade(small, tmp_path, notebook, cell_timeout=4.0)
    found = by_name(graded)
    assert [found[name].status for name in found] == ["timeout", "crashed", "missing", "passed", "passed"]
    assert "did not get through" in found["rnn_step"].message and "4 seconds" in found["rnn_step"].message
    assert "did not get through" in found["rnn_step_backward"].message
    assert found["next_char_probs"].detail.startswith("`next_char_probs` is not defined")


def test_accidents_cost_nothing_and_are_told(small, tmp_path):
    noisy = "import sys, warnings\n" + small.week.solution("rnn_step").replace(
        "    return", "    warnings.warn('careful')\n    print('spam', file=sys.stderr)\n    return"
    )
    notebook = small.solved(rnn_step=noisy)
    cell(notebook, "rnn-step").metadata["tags"] = ["skip-execution"]
    notebook.cells.remove(cell(notebook, "check-rnn-step"))
    cell(notebook, "check-rnn-step-backward").source = "raise SystemExit"
    extras = [
        "1 / 0",
        "import sys\nsys.exit(1)",
        "exit()",
        "from IPython.display import HTML, Javascript, display\n"
        "display(HTML('<b>fine</b><script>alert(1)</script><img src=x onerror=alert(1)>'), Javascript('alert(1)'))",
        "print('a line of output ' * 100_000)\nprint('and more\\n' * 100_000)",
        "del torch",
        "import torch",
    ]
    at = next(i for i, each in enumerate(notebook.cells) if each.id == "next-char-probs")
    notebook.cells[at:at] = [new_code_cell(source) for source in extras]
    page = "<b>fine</b><script>alert(1)</script><img src=x onerror=alert(1)>"
    seen = [
        new_output("display_data", data={"text/html": page}),
        new_output("stream", text="a line of output " * 100_000),
    ]
    cell(notebook, "rnn-step").outputs = seen
    notebook.cells.append(new_markdown_cell("<script>alert(1)</script> *text*"))
    path = small.hand_in(tmp_path, notebook).rename(tmp_path / "Copy of week01_rnn.ipynb")
    graded = grade_notebook(path, small.release_path, small.week, small.banks)
    assert [verdict.status for verdict in graded.verdicts] == ["passed"] * 5
    assert sum(verdict.points for verdict in graded.verdicts) == 18
    assert graded.repairs == [
        "The notebook was named Copy of week01_rnn.ipynb; it is graded as week01_rnn.ipynb.",
        "The check of rnn_step was missing; it is the released one again.",
        "The check of rnn_step_backward had been changed; it is the released one again.",
        "Tags or marks for grading had been changed and are the released ones again: cell for rnn_step.",
    ]
    note = graded.notebook.cells[0]
    assert note.cell_type == "markdown" and all(sentence in note.source for sentence in graded.repairs)
    text = "".join(
        str(each.get("outputs", each.source)) for each in graded.notebook.cells
    )  # all but code, which is shown as text
    assert "<script" not in text and "onerror" not in text and "<b>fine</b>" in text
    assert len(text) < 100_000
    assert "the grader runs no" not in "".join(
        str(each.outputs) for each in graded.notebook.cells if each.cell_type == "code"
    )
    nbformat.validate(graded.notebook)


@pytest.fixture
def alone(small, monkeypatch):
    """Nothing but the artifact is run: its check is the only one left in the release."""
    from autograder import grade as module

    release = nbformat.from_dict(small.release)
    kept = ("setup", "check-names")
    release.cells = [each for each in release.cells if each.id in kept or "class NameClassifier" in each.source]
    monkeypatch.setattr(module, "read_release", lambda path: release)
    return small


def test_code_that_has_seen_a_hidden_case_cannot_show_it(small, tmp_path):
    """Its own prints, its exceptions and their types, in a function or in a later cell: nothing of them is shown."""
    remember = small.week.solution("rnn_step").replace("    return", "    seen.append(x)\n    return", 1)
    number = "''.join(str(int(1e6 * v)) for v in seen[0].flatten().tolist())"
    tell = f"leak = 'stolen' + {number}\nprint(leak)\n"
    notebook = small.solved(
        rnn_step=f"seen = []\n{remember}",
        rnn_step_backward=f"{tell}raise NameError(f\"name '{{leak}}' is not defined\")",
        next_char_probs=f"{tell}def next_char_probs(*a):\n    raise type(leak, (Exception,), {{}})(leak)",
    )
    graded = grade(small, tmp_path, notebook)
    found = by_name(graded)
    assert found["rnn_step"].right and found["rnn_step_backward"].status == found["next_char_probs"].status == "error"
    assert "stolen" in found["next_char_probs"].detail, "the attack does not work any more"
    shown = "".join(str(each.get("outputs", "")) for each in graded.notebook.cells) + graded.notebook.cells[0].source
    assert "stolen" not in shown
    assert "When this was graded, the cell stopped with NameError." in shown


def test_artifacts_are_scored_on_held_out_data(alone, tmp_path):
    import torch
    from safetensors.torch import save_file

    def outcome(**tensors):
        if tensors:
            save_file(tensors, tmp_path / "names.safetensors")
        [verdict] = grade_notebook(path, alone.release_path, alone.week, alone.banks).verdicts
        return verdict

    path = alone.hand_in(tmp_path, alone.release, artifact=False)
    assert outcome().status == "missing" and "names.safetensors is not there" in outcome().message
    (tmp_path / "names.json").write_text("{}")
    half = torch.nn.functional.one_hot(torch.tensor([0, 1, 0, 1, 0, 0, 0, 0])).float()
    verdict = outcome(**{"embedding.weight": half, "output.weight": torch.eye(2)})
    assert (verdict.status, verdict.points, verdict.max_points) == ("wrong", 2.0, 4.0)
    assert verdict.message == "accuracy 0.750 on names nobody has seen; full points from 0.9."
    assert (
        "parameter names differ"
        in outcome(**{"embedding.weight": half, "output.weight": torch.eye(2), "bias": torch.ones(2)}).detail
    )
    assert "larger than" in outcome(big=torch.zeros(200_000)).message
    (tmp_path / "names.safetensors").write_bytes(b"\x80\x04pickle")
    assert outcome().status == "missing" and "cannot be read" in outcome().message


def test_an_unreadable_notebook_gets_a_verdict_and_no_points(small, tmp_path):
    path = tmp_path / "week01_rnn.ipynb"
    path.write_text("{}")
    graded = grade_notebook(path, small.release_path, small.week, small.banks)
    assert {verdict.status for verdict in graded.verdicts} == {"missing"} and len(graded.verdicts) == 5
    assert "not a notebook" in graded.failed and graded.failed in graded.notebook.cells[0].source
    nbformat.validate(graded.notebook)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("y = x.detach()\n# loss.backward()", []),
        ("%matplotlib inline\nloss.backward()", ["line 2: loss.backward()"]),
        ("import torch.autograd as a", ["line 1: import torch.autograd as a"]),
        ("from torch import func", ["line 1: from torch import func"]),
        ("x = torch.ones(2, requires_grad=True)", ["line 1: x = torch.ones(2, requires_grad=True)"]),
        ("g = torch.func.grad(f)(x)", ["line 1: g = torch.func.grad(f)(x)"]),
        ("def broken(:", []),
    ],
)
def test_the_second_witness_reads_code_not_comments(source, lines):
    assert autograd_evidence(source) == lines


def test_what_ended_a_kernel_is_named_in_the_verdict(small, tmp_path, monkeypatch):
    """A limit that holds for all of a kernel's processes together; the notebook goes on, and the rest is right."""
    monkeypatch.setattr(SandboxProvisioner, "limits", Limits(memory=2**29))
    greedy = (
        "import mmap\ndef next_char_probs(*arguments):\n    block = mmap.mmap(-1, 2**33)\n"
        "    while True:\n        block.write(bytes(2**26))"
    )
    found = by_name(grade(small, tmp_path, small.solved(next_char_probs=greedy)))
    assert [found[name].status for name in found] == ["passed", "passed", "crashed", "passed", "passed"]
    assert found["next_char_probs"].message == "It used more memory than the grader allows."


def test_a_lost_kernel_costs_nothing(small, tmp_path, monkeypatch):
    """The zygote is killed in the middle; the notebook is graded from the top again, and its cells are told of once."""
    from autograder import grade as module

    plain, lost = module.try_exercise, []

    async def once(run, item, *arguments):
        if not lost and item.name == "rnn_step_backward":
            bwrap = sandbox.nursery(Limits()).zygote.process.pid
            os.kill(int(Path(f"/proc/{bwrap}/task/{bwrap}/children").read_text()), signal.SIGKILL)
            lost.append(item.name)
        return await plain(run, item, *arguments)

    monkeypatch.setattr(module, "try_exercise", once)
    notebook = small.solved()
    notebook.cells.insert(1, new_code_cell("1 / 0"))
    graded = grade(small, tmp_path, notebook)
    assert lost and [verdict.status for verdict in graded.verdicts] == ["passed"] * 5
    told = [output.text for each in graded.notebook.cells for output in each.get("outputs", []) if "text" in output]
    assert len([text for text in told if "ZeroDivisionError" in text]) == 1
