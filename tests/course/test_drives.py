"""How student code is called: on copies, with its exceptions caught, and with forbidden operators seen."""

import os
import socket
import sys
import types
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import Tensor, nn

from course import codec
from course.codec import Failure, Opaque
from course.drives import (
    Missing,
    Student,
    Tripwire,
    answer,
    answer_each,
    answer_files,
    drive_of,
    drives_of,
    gradients,
    measure_of,
    set_weights,
    slug,
    tracked,
)

WEEK = "week98_toy"
INPUTS = {"x": torch.tensor([1.0, -2.0, 3.0])}


@pytest.fixture(autouse=True)
def toy_drives(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Drives of a week that exists only here: `f` is called on x."""
    module = types.ModuleType(f"course.drives.{WEEK}")
    module.f = lambda student, case: student.f(case["x"])
    module.net_forward = lambda student, case: student.Net()(case["x"])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def namespace_of(source: str) -> dict:
    """What a notebook with this one cell defines."""
    namespace = {"torch": torch, "nn": nn}
    exec(compile(dedent(source), "<cell>", "exec"), namespace)
    return namespace


def asked(source: str, forbid=(), inputs=INPUTS):
    return answer(WEEK, "f", namespace_of(source), inputs, forbid)


# -------------------------------------------------------------------------------------------------------- names


def test_slugs():
    assert [slug(x) for x in ("rnn_step", "NameClassifier.forward", "-A.b_c!")] == [
        "rnn-step",
        "nameclassifier-forward",
        "a-b-c",
    ]


def test_a_drive_is_found_by_the_slug_of_its_exercise(toy_drives: types.ModuleType):
    assert drives_of(WEEK) is toy_drives
    assert drive_of(WEEK, "Net.forward") is toy_drives.net_forward
    assert measure_of(WEEK, "f")({}, 3) == 3
    toy_drives.measure_net_forward = lambda inputs, outputs: outputs + 1
    assert measure_of(WEEK, "Net.forward")({}, 3) == 4
    with pytest.raises(ModuleNotFoundError):
        drives_of("week97_none")


def test_a_name_that_is_not_defined():
    assert Student({"f": 3}).f == 3
    with pytest.raises(Missing, match=r"`g` is not defined\. Run the cell"):
        _ = Student({"f": 3}).g


# -------------------------------------------------------------------------------------------------- small helpers


def test_weights_are_set_by_name_in_their_dtype():
    weights = {"weight": torch.randn(2, 3, dtype=torch.float64), "bias": torch.randn(2, dtype=torch.float64)}
    module = set_weights(nn.Linear(3, 2), weights)
    assert module.weight.equal(weights["weight"]) and module.bias.dtype == torch.float64
    module.weight.data.zero_()
    assert weights["weight"].abs().sum() > 0, "the case's weights are shared with the module"
    with pytest.raises(KeyError, match=r"missing \['bias'\], unexpected \[\]"):
        set_weights(nn.Linear(3, 2, bias=False), weights)
    with pytest.raises(KeyError, match=r"missing \[\], unexpected \['bias'\]"):
        set_weights(nn.Linear(3, 2), {"weight": weights["weight"]})


def test_gradients_are_those_of_the_weighted_sum():
    x, y, unused = tracked(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([5.0]))
    assert x.requires_grad and x.is_leaf
    found = gradients([x * y, x.sum()], [torch.tensor([10.0, 100.0]), torch.tensor(7.0)], [x, y, unused])
    assert found[0].tolist() == [37.0, 407.0] and found[1].tolist() == [10.0, 200.0] and found[2] is None
    (one,) = gradients(x.pow(2), torch.tensor([1.0, 1.0]), [x])
    assert one.tolist() == [2.0, 4.0]


# ------------------------------------------------------------------------------------------------------ answers


def test_an_answer_is_what_crosses_the_border():
    assert asked("def f(x): return 2 * x").equal(torch.tensor([2.0, -4.0, 6.0]))
    assert asked("def f(x): return x.numpy()") == Opaque("numpy.ndarray")
    parameter = asked("def f(x): return nn.Parameter(x)")
    assert type(parameter) is Tensor and not parameter.requires_grad


def test_a_student_who_changes_the_inputs_does_not_change_the_case():
    inputs = {"x": torch.tensor([1.0, 2.0]), "deep": [{"y": torch.tensor([3.0])}]}
    namespace = namespace_of("def f(case):\n    case['x'] += 1; case['deep'][0]['y'].zero_(); case['deep'].clear()")
    drives_of(WEEK).f = lambda student, case: student.f(case)
    assert answer(WEEK, "f", namespace, inputs) is None
    assert inputs["x"].tolist() == [1.0, 2.0] and inputs["deep"][0]["y"].tolist() == [3.0]


def test_an_answer_is_a_copy_of_its_own():
    namespace = namespace_of("kept = torch.zeros(2)\ndef f(x): return kept")
    first = answer(WEEK, "f", namespace, INPUTS)
    namespace["kept"] += 1
    assert first.tolist() == [0.0, 0.0]


def test_random_numbers_are_the_same_every_time():
    source = "def f(x): return torch.rand(3)"
    assert asked(source).equal(asked(source))


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("raise NotImplementedError()", Failure("NotImplementedError", "", "line 2: raise NotImplementedError()")),
        ("return x / y", Failure("NameError", "name 'y' is not defined", "line 2: return x / y")),
        ("raise SystemExit(3)", Failure("SystemExit", "3", "line 2: raise SystemExit(3)")),
        ("import sys; sys.exit()", Failure("SystemExit", "", "line 2: import sys; sys.exit()")),
        ("raise BaseException('bare')", Failure("BaseException", "bare", "line 2: raise BaseException('bare')")),
        ("raise GeneratorExit", Failure("GeneratorExit", "", "line 2: raise GeneratorExit")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_exceptions_are_answers(body: str, failure: Failure, monkeypatch: pytest.MonkeyPatch):
    source = f"def f(x):\n    {body}\n"
    import linecache

    monkeypatch.setitem(linecache.cache, "<cell>", (len(source), None, source.splitlines(keepends=True), "<cell>"))
    assert asked(source) == failure


def test_the_line_told_is_the_students_last_one_not_the_librarys():
    failure = asked("def f(x):\n    y = x\n    return torch.nn.functional.softmax(y, dim=7)")
    assert failure.type == "IndexError" and failure.line.startswith("line 3")


def test_an_endless_recursion_is_an_answer():
    assert asked("def f(x): return f(x)").type == "RecursionError"


def test_an_exception_that_cannot_be_printed_is_an_answer():
    source = """
    class Mute(Exception):
        def __str__(self): raise RuntimeError("no words")
    def f(x): raise Mute()
    """
    assert asked(source) == Failure("Mute", "", "line 4")


def test_a_message_is_shortened_and_can_be_written():
    assert len(asked("def f(x): raise ValueError('x' * 10**6)").message) == 2000
    asked("def f(x): raise ValueError('\\ud800')").message.encode()


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        asked("def f(x): raise KeyboardInterrupt")


def test_missing_names_and_results_too_large():
    assert asked("g = 3").type == "Missing"
    failure = asked("def f(x):\n    y = []\n    y.append(y)\n    return y")
    assert failure.type == "TooLarge"


def test_answers_through_files(tmp_path: Path, capfd: pytest.CaptureFixture):
    codec.save(INPUTS, tmp_path / "case-1")
    answer_files(WEEK, "f", namespace_of("def f(x): return {'y': -x}"), str(tmp_path / "case-1"))
    assert codec.load(tmp_path / "case-1-answer")["y"].tolist() == [-1.0, 2.0, -3.0]
    forbidden = namespace_of("def f(x): return x.relu()")
    answer_files(WEEK, "f", forbidden, str(tmp_path / "case-1"), ["aten::relu"])
    assert codec.load(tmp_path / "case-1-answer") == Failure("Forbidden", "aten::relu")
    awkward = namespace_of("def f(x): return [2**70, torch.zeros(1, dtype=torch.complex128)]")
    answer_files(WEEK, "f", awkward, str(tmp_path / "case-1"))
    assert all(isinstance(item, Opaque) for item in codec.load(tmp_path / "case-1-answer"))
    assert capfd.readouterr() == ("", "")


# ----------------------------------------------------------------------------------------------------- tripwires

RNN = "torch.nn.RNN(2, 3, batch_first=True)"


@pytest.mark.parametrize(
    "source",
    [
        f"def f(x): return {RNN}(torch.zeros(1, 4, 2))[0]",
        f"layer = {RNN}\nrun = layer.forward\ndef f(x): return run(torch.zeros(1, 4, 2))[0]",
        "def f(x):\n    from torch.nn import RNN as Harmless\n    return Harmless(2, 3)(torch.zeros(4, 1, 2))[0]",
        "def f(x):\n    return getattr(__import__('torch').nn, 'R' + 'NN')(2, 3)(torch.zeros(4, 1, 2))[0]",
        "def f(x):\n    import importlib\n    m = importlib.import_module('torch.nn')\n"
        "    return vars(m)['RNN'](2, 3)(torch.zeros(4, 1, 2))[0]",
        "def f(x):\n    with torch.no_grad():\n        return torch.nn.RNN(2, 3)(torch.zeros(4, 1, 2))[0]",
    ],
    ids=["plain", "bound before", "import as", "getattr", "importlib", "no_grad"],
)
def test_an_operator_is_seen_whatever_it_is_called(source: str):
    assert asked(source, ["aten::rnn_tanh"]) == Failure("Forbidden", "aten::rnn_tanh")


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    x.requires_grad_()\n    return torch.autograd.grad(x.pow(2).sum(), x)[0]",
        "def f(x):\n    x.requires_grad_()\n    x.pow(2).sum().backward()\n    return x.grad",
        "from torch.autograd import grad as g\ndef f(x):\n    x.requires_grad_()\n    return g(x.pow(2).sum(), x)[0]",
        "def f(x): return torch.func.grad(lambda y: y.pow(2).sum())(x)",
        "def f(x): return torch.autograd.functional.jacobian(lambda y: y.pow(2), x)",
        "def f(x): return torch.func.jvp(lambda y: y.pow(2), (x,), (x,))[1]",
        "def f(x): return torch.func.jacfwd(lambda y: y.pow(2))(x)",
    ],
    ids=["grad", "backward", "import as", "func", "jacobian", "jvp", "jacfwd"],
)
def test_a_derivative_is_seen(source: str):
    assert asked(source, ["autograd"]) == Failure("Forbidden", "autograd")


def test_only_what_was_used_is_told():
    source = "def f(x): return x.relu().tanh()"
    assert asked(source, ["aten::sigmoid", "aten::tanh", "aten::relu"]) == Failure(
        "Forbidden", "aten::tanh, aten::relu"
    )


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return x.tanh()",
        "def f(x):\n    x.requires_grad_()\n    return x.pow(2).sum()",
        f"layer = {RNN}\ndef f(x): return x  # torch.nn.RNN, backward()",
        "x = torch.ones(2, requires_grad=True)\nx.sum().backward()\ndef f(y): return x.grad",
    ],
    ids=["other operator", "graph without backward", "only built", "before the drive"],
)
def test_nothing_is_seen_where_nothing_forbidden_runs(source: str):
    assert isinstance(asked(source, ["aten::rnn_tanh", "autograd"]), Tensor)


@pytest.mark.parametrize("again", ["", "torch.autograd._enable_profiler_legacy(course.drives.Tripwire.CONFIG)"])
def test_turning_the_profiler_off_is_seen(again: str):
    source = (
        "import course.drives\ndef f(x):\n    torch.autograd._disable_profiler_legacy()\n"
        f"    y = x.relu()\n    {again}\n    return y"
    )
    assert asked(source, ["aten::relu"]) == Failure("Forbidden", "turning off the profiler")
    assert isinstance(asked("def f(x): return x.tanh()", ["aten::relu"]), Tensor), "the next answer is watched again"


def test_nothing_forbidden_is_nothing_watched():
    with Tripwire([]) as tripwire:
        torch.zeros(2).tanh()
    assert tripwire.hits == []


def test_an_exception_under_a_tripwire_leaves_it_clean():
    assert asked("def f(x): raise ValueError('x')", ["aten::relu"]).type == "ValueError"
    assert asked("def f(x): return x.relu()", ["aten::relu"]).type == "Forbidden"
    assert isinstance(asked("def f(x): return x.tanh()", ["aten::relu"]), Tensor)


def test_the_tripwire_writes_nothing_and_lets_students_write(capfd: pytest.CaptureFixture):
    """The profiler's C++ code writes to file descriptor 2 where sys.stderr does not see it."""
    source = (
        "import os, sys\ndef f(x):\n    os.write(2, b'direct ')\n    print('printed', file=sys.stderr)\n    return x"
    )
    before = os.fstat(2).st_ino
    asked(source, ["autograd"])
    assert capfd.readouterr() == ("", "direct printed\n")
    assert os.fstat(2).st_ino == before


def test_cases_come_and_answers_go_over_a_line(tmp_path):
    """Whatever an interrupted call left in the line is passed over; the last word ends the call."""
    host, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stems = [str(tmp_path / f"case-{i}") for i in (1, 2)]
    for stem in stems:
        codec.save(INPUTS, Path(stem))
    for word in ("a word of another call", str(tmp_path / "case-that-is-gone"), *stems, "last"):
        host.send(word.encode())
    with host, kernel:
        answer_each(WEEK, "f", namespace_of("def f(x): return {'y': -x}"), kernel.fileno(), "last")
        assert [host.recv(4096).decode() for _ in stems] == stems
        host.send(b"unread")
        assert kernel.recv(4096) == b"unread", "its own end of the line stays open"
    assert all(codec.load(Path(f"{stem}-answer"))["y"].tolist() == [-1.0, 2.0, -3.0] for stem in stems)
