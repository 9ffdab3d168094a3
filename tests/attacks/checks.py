"""Attacks on the verdict: wrong code that wants to be taken for right."""

from tests.attacks.entry import OTHERS, Entry, Seen, attack

COMPARISON = "Fooling the comparison"
NOTEBOOK = "Rewriting how cells run"
GRADER = "Replacing the grader's code in the kernel"
ANSWERS = "Answers that are no answers"
FORBIDDEN = "Doing what an exercise forbids"
STATE = "Changing Python and torch under the check"

ALLCLOSE = "assert torch.allclose(rnn_step(**case), expected)"
# Where an attack disturbs its own other exercises, they get what comes of that.
ANYTHING = dict.fromkeys(OTHERS, "passed|wrong|error|missing")

PROMISE = '{"status": "passed", "passed": True, "points": 5.0, "max_points": 5.0, "score": 5}'

COMPARING = [
    attack(
        "patched-allclose",
        COMPARISON,
        "Replaces `torch.allclose`, `torch.equal` and `torch.isclose` by functions that always say yes.",
        "torch.allclose = torch.equal = lambda *a, **k: True\n"
        "torch.isclose = lambda a, b, **k: torch.ones_like(a) == 1",
        fools=ALLCLOSE,
    ),
    attack(
        "patched-assert-close",
        COMPARISON,
        "Replaces `torch.testing.assert_close`.",
        "import torch.testing\ntorch.testing.assert_close = lambda *a, **k: None",
        fools="torch.testing.assert_close(rnn_step(**case), expected)",
    ),
    attack(
        "patched-numpy-testing",
        COMPARISON,
        "Replaces the functions of `numpy.testing`.",
        "import numpy.testing\nfor name in dir(numpy.testing):\n    if name.startswith('assert'):\n"
        "        setattr(numpy.testing, name, lambda *a, **k: None)",
        fools="import numpy\nnumpy.testing.assert_allclose(rnn_step(**case), expected)",
    ),
    attack(
        "patched-course-check",
        COMPARISON,
        "Replaces the comparison of the course's own checks.",
        "import course.check as c\nc.compare = lambda *a, **k: c.Difference(0.0)\n"
        "c.judge = lambda bank, *a, **k: c.Verdict(bank.exercise, 'passed', 2, 2, 5.0, 5.0)",
        fools="from course.check import compare\nassert compare(expected, rnn_step(**case)).agrees",
    ),
    attack(
        "equal-to-everything",
        COMPARISON,
        "Returns an object that is equal to everything.",
        step="class Equal:\n    __eq__ = __le__ = __ge__ = lambda self, other: True\n    __bool__ = lambda self: True\n"
        "    all = any = item = lambda self, *a: self\n\n\ndef rnn_step(*a, **k):\n    return Equal()\n",
        fools="assert rnn_step(**case) == expected",
    ),
    attack(
        "tensor-subclass",
        COMPARISON,
        "Returns a subclass of Tensor whose `__torch_function__` answers every comparison with yes.",
        step="class Yes(torch.Tensor):\n    @classmethod\n"
        "    def __torch_function__(cls, func, types, args=(), kwargs=None):\n"
        "        if func.__name__ in ('allclose', 'equal', 'eq', 'isclose', '__eq__', 'all'):\n"
        "            return True\n"
        "        return super().__torch_function__(func, types, args, kwargs or {})\n\n\n"
        "def rnn_step(x, h, *a, **k):\n    return torch.zeros_like(h).as_subclass(Yes)\n",
        fools=ALLCLOSE,
    ),
    attack(
        "walks-the-frames",
        COMPARISON,
        "Looks through the variables of all its callers for the expected answer, and returns it.",
        step="import sys\n\n\ndef rnn_step(x, h, *a, **k):\n    frame = sys._getframe(1)\n    while frame:\n"
        "        for names in (frame.f_locals, frame.f_globals):\n"
        "            for name in ('expected', 'answer', 'reference', 'right', 'target', 'want'):\n"
        "                if isinstance(names.get(name), torch.Tensor):\n                    return names[name]\n"
        "        frame = frame.f_back\n    return torch.zeros_like(h)\n",
        fools=ALLCLOSE,
    ),
    attack(
        "walks-the-heap",
        COMPARISON,
        "Looks through `gc.get_objects()` for a tensor of the right shape that is not one of its inputs, and "
        "returns it.",
        step="import gc\n\n\ndef rnn_step(x, h, *a, **k):\n    own = {id(t) for t in (x, h, *a, *k.values())}\n"
        "    for thing in gc.get_objects():\n"
        "        for value in list(thing.values()) if type(thing) is dict else [thing]:\n"
        "            if type(value) is torch.Tensor and value.shape == h.shape and id(value) not in own:\n"
        "                if not any(value.equal(t) for t in (h, *k.values()) if t.shape == value.shape):\n"
        "                    return value.clone()\n    return torch.zeros_like(h)\n",
        fools=ALLCLOSE,
    ),
    attack(
        "replaces-the-reference",
        COMPARISON,
        "Puts its own function in the place of every function in memory that looks like a reference.",
        step="import gc, types\n\n\ndef rnn_step(x, h, *a, **k):\n    for thing in gc.get_objects():\n"
        "        if isinstance(thing, types.FunctionType) and thing.__name__ in ('reference', 'solution', "
        "'rnn_step'):\n"
        "            thing.__code__ = (lambda x, h, *a, **k: torch.zeros_like(h)).__code__\n"
        "    return torch.zeros_like(h)\n",
        status="wrong|error",
        fools="assert torch.allclose(rnn_step(**case), reference(**case))",
    ),
    attack(
        "remembers-calls",
        COMPARISON,
        "Returns what it answered to the first case of the same shape, as a function that remembers would.",
        step="seen = {}\n\n\ndef rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):\n"
        "    right = torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)\n"
        "    return seen.setdefault(w_ih.shape, right)\n",
        fools=ALLCLOSE,
    ),
    Entry(
        "public-cases-by-heart",
        COMPARISON,
        "Looks its inputs up among the public cases of `course/cases` and returns the answer stored there.",
        {
            "next_char_probs": "from course.check import CASES, Bank\n\n"
            "known = Bank.load(CASES / 'week01_rnn', 'next_char_probs').cases\n\n\n"
            "def next_char_probs(logits, temperature, top_k=None):\n    for case in known:\n"
            "        if logits.shape == case.inputs['logits'].shape and logits.equal(case.inputs['logits']):\n"
            "            return case.answer['probs'] if isinstance(case.answer, dict) else case.answer\n"
            "    return torch.zeros_like(logits)\n"
        },
        expect={"next_char_probs": "wrong"},
        fools="from course.check import CASES, Bank, judge\nfrom course.drives import answer\n"
        "bank = Bank.load(CASES / 'week01_rnn', 'next_char_probs')\n"
        "answers = [answer('week01_rnn', 'next_char_probs', globals(), case.inputs) for case in bank.cases]\n"
        "assert judge(bank, answers).right",
    ),
    attack(
        "prints-points",
        COMPARISON,
        "Prints and displays numbers and verdicts that pose as points.",
        f"import json, sys\nfrom IPython.display import display\nPROMISE = {PROMISE}\n"
        "print('5/5 points', json.dumps(PROMISE))\nprint('5', file=sys.stderr)\n"
        "display(PROMISE, 5.0, metadata={'nbgrader': {'points': 5, 'score': 5}})\n5.0",
        step="def rnn_step(x, h, *a):\n    print('rnn_step: 5 of 5 points')\n    display(5.0)\n"
        "    return torch.zeros_like(h)\n",
    ),
]

TRANSFORMERS = [
    attack(
        "ast-transformer",
        NOTEBOOK,
        "Registers an AST transformer with IPython that takes every assertion and every exception out of later cells.",
        "import ast\n\n\nclass NoChecks(ast.NodeTransformer):\n    def visit_Assert(self, node):\n"
        "        return ast.Pass()\n\n"
        "    def visit_Raise(self, node):\n        return ast.Pass()\n\n\n"
        "get_ipython().ast_transformers.append(NoChecks())",
    ),
    attack(
        "input-transformer",
        NOTEBOOK,
        "Registers an input transformer that replaces the grader's calls for `rnn_step` by `pass`.",
        "def nothing(lines):\n    return ['pass\\n'] if 'rnn_step\\'' in ''.join(lines) and 'def ' not in "
        "''.join(lines) else lines\n\n\n"
        "get_ipython().input_transformers_post.append(nothing)\n"
        "get_ipython().input_transformers_cleanup.append(nothing)",
        status="wrong|error",
    ),
    attack(
        "pre-run-cell-hook",
        NOTEBOOK,
        "Registers hooks before and after every cell that patch comparisons and print points.",
        "def hook(*a):\n    torch.allclose = lambda *a, **k: True\n    print('5/5 points')\n"
        "    get_ipython().user_ns['passed'] = True\n\n\n"
        "for event in ('pre_run_cell', 'pre_execute', 'post_execute', 'post_run_cell'):\n"
        "    get_ipython().events.register(event, hook)",
    ),
    attack(
        "patched-run-cell",
        NOTEBOOK,
        "Replaces the kernel's `do_execute` by one that runs nothing for the grader's calls and reports success.",
        "kernel = get_ipython().kernel\nhonest = kernel.do_execute\n\n\ndef do_execute(code, *a, **k):\n"
        "    if \"'rnn_step'\" in code:\n        code = 'pass'\n    return honest(code, *a, **k)\n\n\n"
        "kernel.do_execute = do_execute",
        status="wrong|error",
    ),
    attack(
        "custom-exception-handler",
        NOTEBOOK,
        "Tells IPython to handle every exception by printing that all is well.",
        "get_ipython().set_custom_exc((BaseException,), lambda *a, **k: print('all cases right'))",
        step="def rnn_step(*a):\n    raise ValueError('wrong')\n",
        status="error",
    ),
    attack(
        "forged-replies",
        NOTEBOOK,
        "Sends forged execute_reply and idle messages on the kernel's own sockets, before and after the real ones.",
        "def forge():\n    kernel = get_ipython().kernel\n    parent = kernel.get_parent()\n"
        "    content = {'status': 'ok', 'execution_count': 1, 'user_expressions': {'points': 5}, 'payload': []}\n"
        "    for stream in (getattr(kernel, 'shell_stream', None), *getattr(kernel, 'shell_streams', [])):\n"
        "        if stream is not None:\n"
        "            kernel.session.send(stream, 'execute_reply', content, parent=parent)\n"
        "    kernel.session.send(kernel.iopub_socket, 'status', {'execution_state': 'idle'}, parent=parent)\n"
        "    kernel.session.send(kernel.iopub_socket, 'execute_result', {'data': {'text/plain': '5'}, 'metadata': {},\n"
        "                        'execution_count': 1}, parent=parent)",
        step="def rnn_step(x, h, *a):\n    forge()\n    time.sleep(0.3)\n    return torch.zeros_like(h)\n",
        status="wrong|error",
    ),
    attack(
        "forged-replies-of-nonsense",
        NOTEBOOK,
        "Sends replies and statuses that hold lists, deep trees and text where numbers belong.",
        "def forge():\n    kernel = get_ipython().kernel\n    deep = []\n    for _ in range(200):\n"
        "        deep = [deep]\n"
        "    for content in ({'execution_state': deep}, {'execution_state': 5}, {}, {'status': 'error', "
        "'ename': deep}):\n"
        "        for kind in ('status', 'execute_input', 'error', 'stream', 'clear_output', 'comm_open', 'evil'):\n"
        "            kernel.session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent())",
        "forge()",
        step="def rnn_step(x, h, *a):\n    forge()\n    return torch.zeros_like(h)\n",
    ),
]

FAKE_DRIVES = """
import course.codec as codec
from pathlib import Path
import course.drives as drives

honest = drives.answer_files


def answer_files(week, exercise, namespace, stem, *rest):
    if exercise != "rnn_step":
        return honest(week, exercise, namespace, stem, *rest)
    stem = Path(stem)
    codec.save({promise}, stem.with_name(stem.name + "-answer"))
"""

REPLACING = [
    attack(
        "replaced-answer-files",
        GRADER,
        "Replaces the function that the grader calls by one that answers with a verdict instead of an output.",
        FAKE_DRIVES.replace("{promise}", PROMISE) + "\n\ndrives.answer_files = answer_files",
        status="wrong|error",
    ),
    attack(
        "answers-ahead",
        GRADER,
        "Writes answer files for every case before the grader asks for it, and makes them read-only.",
        FAKE_DRIVES.replace("{promise}", PROMISE) + "\n\ndef ahead():\n"
        "    for name in ('case-answer', 'rnn-step-answer', *(f'case-{i:016x}-answer' for i in range(64))):\n"
        "        codec.save(" + PROMISE + ", Path(name))\n        os.chmod(name + '.json', 0o400)\n\n\nahead()",
    ),
    attack(
        "patched-drive",
        GRADER,
        "Replaces the drive, `drive_of`, `answer` and `Student` in `course.drives`.",
        "import course.drives as drives\nimport course.drives.week01_rnn as week\n"
        f"week.rnn_step = lambda student, case: {PROMISE}\n"
        "honest = drives.drive_of\n"
        f"drives.drive_of = lambda w, e: (lambda s, c: {PROMISE}) if e == 'rnn_step' else honest(w, e)",
        status="wrong|error",
    ),
    attack(
        "fake-course-on-the-path",
        GRADER,
        "Puts a package `course` of its own in front of `sys.path` and in the working folder, and forgets the "
        "real one.",
        "os.makedirs('course/drives', exist_ok=True)\nopen('course/__init__.py', 'w').write('')\n"
        "open('course/drives/__init__.py', 'w').write('def answer_files(*a): print(\"5/5 points\")')\n"
        "sys.path.insert(0, os.getcwd())",
        "def forget():\n"
        "    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith('course')}\n"
        "    return kept",
        step="calls = []\n\n\ndef rnn_step(x, h, *a):\n    calls.append(forget())\n    return torch.zeros_like(h)\n",
        status="wrong|error",
        also={
            "rnn_step_backward": "passed|error",
            "next_char_probs": "passed|error",
            "char_lm_loss": "passed|error",
            "names": "passed|error",
        },
    ),
    attack(
        "import-hooks",
        GRADER,
        "Puts hooks into `sys.meta_path`, `sys.path_hooks` and `builtins.__import__` that hand out modules of its own.",
        "import builtins, types\nhonest = builtins.__import__\n\n\n"
        "def __import__(name, globals=None, locals=None, fromlist=(), level=0):\n"
        "    module = honest(name, globals, locals, fromlist, level)\n"
        "    if name == 'course.drives' and asked:\n        asked.clear()\n"
        "        return types.SimpleNamespace(answer_files=lambda *a: print('5/5 points'))\n    return module\n\n\n"
        "class Finder:\n    def find_spec(self, name, path=None, target=None):\n        return None\n\n\n"
        "asked = []\nsys.meta_path.insert(0, Finder())\nsys.path_hooks.insert(0, lambda path: None)\n"
        "builtins.__import__ = __import__",
        step="def rnn_step(x, h, *a):\n    asked.append(1)\n    return torch.zeros_like(h)\n",
        status="wrong|error",
        also=ANYTHING,
    ),
    attack(
        "patched-json",
        GRADER,
        "Replaces `json.dumps`, so that the answer to `rnn_step` becomes text of its own.",
        "lies = []\nhonest_dumps = json.dumps\n"
        f"json.dumps = lambda *a, **k: (lies.pop(), honest_dumps({PROMISE}))[1] if lies else honest_dumps(*a, **k)",
        step="def rnn_step(x, h, *a):\n    lies.append(1)\n    return torch.zeros_like(h)\n",
        status="wrong|error",
    ),
    attack(
        "patched-safetensors",
        GRADER,
        "Replaces the functions of safetensors by which answers leave the kernel.",
        "import safetensors.torch as st\nimport course.codec as codec\nlies = []\n"
        "honest_save = codec.tensors_to_bytes\n"
        "codec.tensors_to_bytes = st.save = lambda *a, **k: (lies.pop(), b'no tensors')[1] if lies else "
        "honest_save(*a, **k)",
        step="def rnn_step(x, h, *a):\n    lies.append(1)\n    return torch.zeros_like(h)\n",
        status="error",
    ),
    attack(
        "patched-open",
        GRADER,
        "Replaces `Path.write_text` and `open`, so that the answer on disk is another than the one returned.",
        "import pathlib\nlies = []\nhonest_write = pathlib.Path.write_text\n\n\ndef write_text(self, text, *a, **k):\n"
        f"    return honest_write(self, honest_dumps({PROMISE}) if lies and lies.pop() else text, *a, **k)\n\n\n"
        "honest_dumps = json.dumps\npathlib.Path.write_text = write_text",
        step="def rnn_step(x, h, *a):\n    lies.append(1)\n    return torch.zeros_like(h)\n",
        status="wrong|error",
    ),
]


def _made(kind: str, tries: str, make: str, status: str = "error", **more) -> Entry:
    """The answer's files are replaced by something else: `make(path)` is called for each of the two."""
    cell = (
        "import course.codec as codec\nhonest_codec_save = codec.save\n\n\n"
        f"def make(path, suffix):\n    if path.is_dir() and not path.is_symlink():\n        return\n"
        f"    path.unlink(missing_ok=True)\n{make}\n\n\n"
        "def save(value, stem, **options):\n    if not lies:\n        return honest_codec_save(value, stem, **options)\n"
        "    lies.clear()\n    honest_codec_save(value, stem, **options)\n    for suffix in ('.safetensors', '.json'):\n"
        "        make(stem.with_suffix(suffix), suffix)\n\n\nlies = []\ncodec.save = save\n"
    )
    step = "def rnn_step(x, h, *a):\n    lies.append(1)\n    return torch.zeros_like(h)\n"
    return attack(f"answer-{kind}", ANSWERS, tries, cell, step=step, status=status, **more)


def _json(kind: str, tries: str, text: str, status: str = "error", **more) -> Entry:
    return _made(kind, tries, f"    path.write_text({text} if suffix == '.json' else '', newline='')", status, **more)


def _told_nothing(seen: Seen) -> str:
    return "hidden values came out" if seen.target["password"] in str(seen.graded) else ""


FILES = [
    _made(
        "link",
        "Leaves a link to the hidden answers where its answer should be.",
        "    path.symlink_to(TARGET['hidden'])",
    ),
    _made("link-to-zeros", "Leaves a link to /dev/zero, which never ends.", "    path.symlink_to('/dev/zero')"),
    _made("fifo", "Leaves a named pipe, so that whoever opens it waits for ever.", "    os.mkfifo(path)"),
    _made("socket", "Leaves a socket.", "    socket.socket(socket.AF_UNIX).bind(path.name)"),
    _made("folder", "Leaves a folder, with folders in it.", "    path.mkdir()\n    (path / 'deep').mkdir()"),
    _made("unreadable", "Leaves files that nobody may read.", "    path.write_text('x')\n    path.chmod(0)"),
    _made(
        "sparse",
        "Leaves files of one terabyte that take no room on disk.",
        "    path.write_text('')\n    try:\n        os.truncate(path, 2**40)\n    except OSError:\n"
        "        os.truncate(path, 2**27)",
    ),
    _made(
        "hard-link",
        "Leaves a second name of the case's own inputs.",
        "    os.link(min(path.parent.glob('case-*' + suffix)), path)",
        "wrong|error",
    ),
    _made(
        "lying-header",
        "Writes a safetensors file whose header promises a terabyte of numbers.",
        "    header = json.dumps({'0': {'dtype': 'F32', 'shape': [2**38], 'data_offsets': [0, 2**40]}}).encode()\n"
        "    path.write_bytes(len(header).to_bytes(8, 'little') + header if suffix != '.json' else "
        'b\'{"tensor": "0"}\')',
    ),
    _made(
        "endless-header",
        "Writes a safetensors file whose header says that it is 2**63 bytes long.",
        "    path.write_bytes((2**63 - 1).to_bytes(8, 'little') if suffix != '.json' else b'{\"tensor\": \"0\"}')",
    ),
    _made(
        "pickle",
        "Writes a pickle that runs a command where it is loaded.",
        "    import pickle\n    class Evil:\n        def __reduce__(self):\n"
        "            return os.system, ('touch ' + TARGET['outside'] + '/evil',)\n"
        "    path.write_bytes(pickle.dumps(Evil()))",
    ),
    _json(
        "nan",
        "Writes NaN, Infinity and duplicate keys into the answer's JSON.",
        """'{"tuple": [NaN, Infinity], "tuple": [NaN]}'""",
        "error|wrong",
    ),
    _json("long-number", "Writes a number of 300,000 digits.", "'1' * 300_000"),
    _json("deep", "Writes lists nested a million deep.", """'{"list": [' * 10**6"""),
    _json("wide", "Writes a list of ten million items.", """'{"list": [' + '0,' * 10**7 + '0]}'""", "error|wrong"),
    _json(
        "many-keys",
        "Writes a million keys.",
        """'{"dict": {' + ','.join(f'"{i}": 0' for i in range(10**6)) + '}}'""",
        "error|wrong",
    ),
    _json(
        "surrogates",
        "Writes text that is no Unicode, and control characters.",
        r"""'{"failure": ["\\\\ud800", "\\\\u0000\\\\u001b[2J", "<script>"]}'""",
    ),
]


def _returns(name: str, tries: str, value: str, status: str = "wrong|error", **more) -> Entry:
    return attack(name, ANSWERS, tries, step=f"def rnn_step(x, h, *a):\n    return {value}\n", status=status, **more)


VALUES = [
    _returns("returns-a-verdict", "Returns a verdict instead of an output.", PROMISE),
    _returns(
        "returns-a-failure",
        "Returns the grader's own Failure, with a type that looks like success.",
        "__import__('course.codec').codec.Failure('Passed', 'all cases right')",
    ),
    _returns("returns-itself", "Returns a list that holds itself.", "(lambda l: l.append(l) or l)([])"),
    _returns(
        "returns-deep",
        "Returns a list nested 100,000 deep.",
        "__import__('functools').reduce(lambda l, _: [l], range(100_000), [])",
    ),
    _returns("returns-wide", "Returns five million numbers in a list.", "list(range(5_000_000))"),
    _returns(
        "returns-expanded", "Returns a tensor that claims 2**50 numbers and holds one.", "torch.zeros(1).expand(2**50)"
    ),
    _returns("returns-huge", "Returns 512 MB of zeros.", "torch.zeros(2**27)"),
    _returns(
        "returns-meta", "Returns a tensor without numbers, on the device meta.", "torch.empty(h.shape, device='meta')"
    ),
    _returns(
        "returns-sparse",
        "Returns a sparse, a quantised and a nested tensor.",
        "(h.to_sparse(), torch.quantize_per_tensor(h, 0.1, 0, torch.qint8))",
    ),
    _returns(
        "returns-nan", "Returns NaN everywhere, which no comparison by `<` refuses.", "torch.full_like(h, float('nan'))"
    ),
    _returns("returns-lazy", "Returns a generator, a coroutine and a proxy.", "(i for i in h)"),
    attack(
        "returns-evil-dict",
        ANSWERS,
        "Returns a dict and a list whose methods answer differently each time they are asked.",
        step="import random\n\n\nclass D(dict):\n    def items(self):\n"
        "        return [(str(i), random.random()) for i in range(random.randrange(5))]\n\n"
        "    def __iter__(self):\n        os._exit(0) if random.random() < 0.001 else None\n"
        "        return iter('ab')\n\n\n"
        "def rnn_step(*a):\n    return D(a=1)\n",
        status="refused",
    ),
    attack(
        "swaps-answers-in-the-background",
        ANSWERS,
        "A thread keeps exchanging the answer's files for links, pipes and others while the grader reads them.",
        "def swap():\n    i = 0\n    while True:\n        for path in glob.glob('case-*-answer.*'):\n"
        "            try:\n                i += 1\n"
        "                os.unlink(path)\n"
        "                (os.mkfifo(path) if i % 3 == 0 else os.symlink(TARGET['hidden'], path) if i % 3 == 1\n"
        "                 else os.symlink('/dev/zero', path))\n            except OSError:\n                pass\n",
        step="def rnn_step(x, h, *a):\n    if not swapping:\n"
        "        swapping.append(threading.Thread(target=swap, daemon=True))\n"
        "        swapping[0].start()\n    return torch.zeros_like(h)\n\n\nswapping = []\n",
        status="refused",
        also={
            name: "passed|wrong|error|timeout|crashed"
            for name in ("rnn_step_backward", "next_char_probs", "char_lm_loss", "names")
        },
    ),
    attack(
        "evil-exception",
        ANSWERS,
        "Raises an exception whose text is 50 MB long and whose name is a script.",
        step="def rnn_step(*a):\n"
        "    raise type('<script>alert(1)</script>' * 100, (Exception,), {})('x' * 50_000_000)\n",
        status="error",
        witness=lambda seen: "the verdict is huge" if len(str(seen.verdict())) > 20_000 else "",
    ),
    attack(
        "exception-that-cannot-be-printed",
        ANSWERS,
        "Raises an exception whose `__str__` raises another, and one that leaves Python.",
        step="class Evil(Exception):\n    def __str__(self):\n        raise SystemExit\n\n    __repr__ = __str__\n\n\n"
        "def rnn_step(*a):\n    raise Evil()\n",
        status="error",
    ),
    attack(
        "exception-group-without-end",
        ANSWERS,
        "Raises an exception whose causes form a ring, below a hundred nested groups.",
        step="def rnn_step(*a):\n    a, b = ValueError(1), ValueError(2)\n    a.__cause__, b.__cause__ = b, a\n"
        "    e = a\n"
        "    for _ in range(100):\n        e = ExceptionGroup('evil', [e])\n    raise e\n",
        status="error",
    ),
    *[
        attack(
            f"raises-{name.lower()}",
            ANSWERS,
            f"Raises {name} in the middle of a case.",
            step=f"def rnn_step(*a):\n    raise {name}()\n",
            status=status,
        )
        for name, status in (
            ("SystemExit", "error"),
            ("KeyboardInterrupt", "error"),
            ("GeneratorExit", "error"),
            ("StopIteration", "error"),
        )
    ],
]

BY_AUTOGRAD = """
def rnn_step_backward(grad_h_next, x, h, h_next, w_ih, w_hh):
    inputs = [t.detach().clone().{track}(True) for t in (x, h, w_ih, w_hh)]
    bias = (torch.atanh(h_next) - x @ w_ih.T - h @ w_hh.T).detach().{track}(True)
    out = torch.tanh(inputs[0] @ inputs[2].T + inputs[1] @ inputs[3].T + bias)
    {grads}
    grads = [*found[:4], found[4].sum(0), found[4].sum(0)]
    return tuple(grads)
"""


def _forbidden(name: str, tries: str, grads: str, track: str = "requires_grad_", cells: tuple[str, ...] = ()) -> Entry:
    source = BY_AUTOGRAD.replace("{track}", track).replace("{grads}", grads)
    return Entry(
        name, FORBIDDEN, tries, {"rnn_step_backward": source}, cells, expect={"rnn_step_backward": "forbidden"}
    )


FORBIDDING = [
    _forbidden(
        "forbidden-plainly",
        "Uses autograd where it is forbidden.",
        "found = torch.autograd.grad(out, [*inputs, bias], grad_h_next)",
    ),
    _forbidden(
        "forbidden-by-alias",
        "Uses autograd under other names, prepared in another cell.",
        "found = differentiate(out, [*inputs, bias], grad_h_next)",
        "zzz_",
        ("differentiate = torch.autograd.grad\ntorch.Tensor.zzz_ = torch.Tensor.requires_grad_",),
    ),
    _forbidden(
        "forbidden-by-getattr",
        "Reaches autograd by `getattr` and names put together at run time.",
        "found = getattr(getattr(torch, 'auto' + 'grad'), 'gr' + 'ad')(out, [*inputs, bias], grad_h_next)",
    ),
    _forbidden(
        "forbidden-by-import",
        "Imports autograd inside the function.",
        "import importlib\n"
        "    found = importlib.import_module('torch.' + 'autograd').grad(out, [*inputs, bias], grad_h_next)",
    ),
    _forbidden(
        "forbidden-by-eval",
        "Writes the call as text and evaluates it.",
        "found = eval('torch.auto' + 'grad.grad(out, [*inputs, bias], grad_h_next)')",
    ),
    _forbidden(
        "forbidden-by-backward",
        "Calls `backward` by way of a method looked up at run time.",
        "getattr((out * grad_h_next).sum(), 'back' + 'ward')()\n    found = [t.grad for t in (*inputs, bias)]",
    ),
    _forbidden(
        "patched-inspect",
        "Makes `inspect` and `linecache` show another source than that of its cell, which uses autograd.",
        "found = getattr(torch, 'auto' + 'grad').grad(out, [*inputs, bias], grad_h_next)",
        cells=(
            "import inspect, linecache\ninspect.getsource = lambda *a: 'def rnn_step_backward(*a): return solved'\n"
            "linecache.getline = lambda *a, **k: 'return solved'",
        ),
    ),
    Entry(
        "forbidden-forward-mode",
        FORBIDDEN,
        "Differentiates forward, by dual numbers, one input at a time.",
        {
            "rnn_step_backward": "import importlib\nf = importlib.import_module('torch.' + 'func')\n\n\n"
            "def rnn_step_backward(grad_h_next, x, h, h_next, w_ih, w_hh):\n"
            "    b = torch.atanh(h_next) - x @ w_ih.T - h @ w_hh.T\n"
            "    out = lambda *t: (torch.tanh(t[0] @ t[2].T + t[1] @ t[3].T + t[4]) * grad_h_next).sum()\n"
            "    g = f.jacfwd(out, argnums=(0, 1, 2, 3, 4))(x, h, w_ih, w_hh, b)\n"
            "    return (*g[:4], g[4].sum(0), g[4].sum(0))\n"
        },
        expect={"rnn_step_backward": "forbidden"},
    ),
    Entry(
        "forbidden-without-the-watch",
        FORBIDDEN,
        "Turns off the profiler that watches for forbidden operators, uses autograd, and turns it on again.",
        {
            "rnn_step_backward": BY_AUTOGRAD.replace("{track}", "requires_grad_").replace(
                "{grads}",
                "torch._C._autograd._disable_profiler_legacy()\n"
                "    found = getattr(torch, 'auto' + 'grad').grad(out, [*inputs, bias], grad_h_next)\n"
                "    torch._C._autograd._enable_profiler_legacy(__import__('course.drives').drives.Tripwire.CONFIG)",
            )
        },
        expect={"rnn_step_backward": "forbidden"},
    ),
]


CHANGED = [
    attack("default-dtype", STATE, "Makes float64 the default type.", "torch.set_default_dtype(torch.float64)"),
    attack(
        "default-device-meta",
        STATE,
        "Makes `meta`, which computes nothing, the default device.",
        "torch.set_default_device('meta')",
        status="refused",
        also=ANYTHING,
    ),
    attack(
        "gradients-off",
        STATE,
        "Turns gradients off, and inference mode on, for everything that follows.",
        "torch.set_grad_enabled(False)\ninference = torch.inference_mode()\ninference.__enter__()",
        status="refused",
        also=ANYTHING,
    ),
    attack(
        "threads-and-seeds",
        STATE,
        "Asks for 64 threads, for deterministic algorithms, and sets every seed.",
        "import random\nimport numpy\ntorch.set_num_threads(64)\ntorch.use_deterministic_algorithms(True)\n"
        "torch.manual_seed(0)\nrandom.seed(0)\nnumpy.random.seed(0)",
    ),
    attack(
        "patched-tensor-methods",
        STATE,
        "Replaces methods of `torch.Tensor`: equality, difference, absolute value, finiteness, maximum.",
        "yes = lambda *a, **k: torch.ones((), dtype=torch.bool)\n"
        "for name in ('__eq__', '__ne__', 'isfinite', 'isnan', 'allclose', 'equal', 'eq', 'abs', 'max'):\n"
        "    setattr(torch.Tensor, name, yes)",
        fools="assert (rnn_step(**case) == expected).all()",
        also=ANYTHING,
    ),
    attack(
        "patched-builtins",
        STATE,
        "Replaces `all`, `any`, `abs`, `round`, `print` and `sum` in `builtins`.",
        "import builtins\nfor name in ('all', 'any'):\n    setattr(builtins, name, lambda *a: True)\n"
        "builtins.abs = builtins.round = lambda *a: 0",
        fools="assert all([bool(torch.allclose(rnn_step(**case), expected))])",
        status="wrong|error",
        raises=True,
        also=ANYTHING,
    ),
    attack(
        "patched-time",
        STATE,
        "Stops the clock for Python, then loops without end.",
        "time.time = time.monotonic = time.perf_counter = lambda: 0.0",
        step="def rnn_step(*a):\n    while True:\n        pass\n",
        status="timeout",
    ),
    attack(
        "recursion",
        STATE,
        "Raises the recursion limit to a million and calls itself through C until the stack ends.",
        "sys.setrecursionlimit(10**6)",
        step="class Deep:\n    def __repr__(self):\n        return repr([Deep()])\n\n\ndef rnn_step(*a):\n"
        "    return repr(Deep())\n",
        status="crashed|error",
    ),
    attack(
        "tracing",
        STATE,
        "Traces and profiles every later call, and swallows its exceptions and results.",
        "def trace(frame, event, argument):\n    frame.f_locals['passed'] = frame.f_locals['points'] = 5\n"
        "    return trace\n\n\n"
        "sys.settrace(trace)\nsys.setprofile(lambda *a: None)\nthreading.settrace(trace)",
    ),
    attack(
        "gc-callbacks",
        STATE,
        "Leaves callbacks with the garbage collector, `__del__` methods and exit handlers that raise and "
        "rewrite answers.",
        "import atexit\n\n\ndef evil(*a):\n    for path in glob.glob('case-*-answer.json'):\n"
        "        os.unlink(path)\n    raise ValueError('evil')\n\n\n"
        "class Del:\n    def __del__(self):\n        raise ValueError('evil')\n\n\n"
        "atexit.register(lambda: time.sleep(600))\nthreading._register_atexit(lambda: time.sleep(600))",
        step="def rnn_step(x, h, *a):\n    Del()\n    return torch.zeros_like(h)\n",
    ),
    attack(
        "own-folder-gone",
        STATE,
        "Deletes everything in its working folder, and goes elsewhere.",
        "for name in os.listdir('.'):\n"
        "    shutil.rmtree(name, ignore_errors=True) if os.path.isdir(name) else os.unlink(name)\n"
        "try:\n    os.rmdir(os.getcwd())\nexcept OSError:\n    pass\nos.chdir('/')",
        status="refused",
        also=ANYTHING,
    ),
    attack(
        "environment-cleared",
        STATE,
        "Empties the environment, the arguments and the import path.",
        "os.environ.clear()\nsys.path.clear()\nsys.argv.clear()",
    ),
    attack(
        "streams-gone",
        STATE,
        "Takes the standard streams away, without which an ipykernel cannot answer.",
        "sys.stdout = sys.stderr = sys.stdin = None",
    ),
]

CHECKS = [*COMPARING, *TRANSFORMERS, *REPLACING, *FILES, *VALUES, *FORBIDDING, *CHANGED]
