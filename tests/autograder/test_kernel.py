"""Kernels: what a sandboxed one can reach, how it ends, and what is said where there is no sandbox.

What hostile code can do in one is the business of tests/attacks.
"""

import ast
import asyncio
import contextlib
import copy
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from queue import Empty

import psutil
import pytest
from jupyter_client import BlockingKernelClient
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from autograder.engine import KernelLost, Run, Session
from autograder.errors import CourseError
from autograder.kernel import KERNELS, KERNELSPECS, kernelspecs, sandbox

PROBE = """
import json, os, random, socket, sys
import course, torch

def tried(action):
    try:
        return str(action())
    except Exception as error:
        return type(error).__name__

status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
facts = {
    "root": [name for name in os.listdir("/") if name in ("home", "opt", "srv", "var", "mnt")],
    "checkout": tried(lambda: sorted(os.listdir(CHECKOUT))),
    "autograder": tried(lambda: __import__("autograder")),
    "network": tried(lambda: socket.create_connection(("127.0.0.1", PORT), 2)),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "descriptors": [os.readlink(f"/proc/self/fd/{name}") for name in ("0", "1", "2")],
    "course": tried(lambda: open(course.__file__, "a")),
    "python": tried(lambda: open(os.path.join(sys.prefix, "evil"), "w")),
    "passwords": tried(lambda: open("/etc/shadow")),
    "root file": tried(lambda: open("/evil", "w")),
    "device file": tried(lambda: open("/dev/evil", "w")),
    "socket file": tried(lambda: open("/run/kernel/evil", "w")),
    "control": tried(lambda: open("/proc/sys/kernel/hostname", "w")),
    "secret": os.environ.get("COURSE_TEST_SECRET"),
    "threads": torch.get_num_threads(),
    "capabilities": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no new privileges": status["NoNewPrivs"].strip(),
    "filter": status["Seccomp"].strip(),
    "draws": [random.random(), torch.rand(()).item(), torch.initial_seed()],
    "host": tried(lambda: open("/proc/1/root/etc/hostname")),
}
open("/tmp/mine", "w").write("ok")
open("/dev/shm/mine", "w").write("ok")
json.dump(facts, open("facts.json", "w"))
"""


def looked(session: Session) -> dict:
    return json.loads(session.take("facts.json", 2**16))


def test_a_sandboxed_kernel_reaches_nothing_but_its_own(monkeypatch):
    monkeypatch.setenv("COURSE_TEST_SECRET", "hunter2")
    checkout = str(Path(sandbox.__file__).parents[2])

    async def look(port: int) -> dict:
        async with Session("bubblewrap") as session:
            source = PROBE.replace("CHECKOUT", repr(checkout)).replace("PORT", str(port))
            outcome = await session.run(source, 120)
            assert outcome.status == "ok", outcome
            return looked(session)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        facts, others = asyncio.run(look(port)), asyncio.run(look(port))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    visible = set(ast.literal_eval(facts["checkout"])) if facts["checkout"].startswith("[") else set()
    assert visible <= {"course", ".venv"}
    assert facts["root"] == [] and facts["autograder"] == "ModuleNotFoundError"
    assert facts["network"] in ("OSError", "ConnectionRefusedError")
    assert facts["processes"] == [1, 2]
    assert facts["descriptors"] == ["/dev/null"] or facts["descriptors"][0] == "/dev/null"
    refused = ("OSError", "PermissionError")
    for name in ("course", "python", "root file", "device file", "socket file", "control"):
        assert facts[name] in refused, name
    assert facts["passwords"] in ("FileNotFoundError", "PermissionError")
    assert facts["host"] in ("FileNotFoundError", "PermissionError")
    assert facts["secret"] is None and facts["threads"] == 1
    assert facts["capabilities"] == [0] * 5 and (facts["no new privileges"], facts["filter"]) == ("1", "2")
    assert all(mine != theirs for mine, theirs in zip(facts["draws"], others["draws"], strict=True))
    assert not Path("/tmp/mine").exists() and not Path("/dev/shm/mine").exists()


def test_a_kernel_is_gone_with_all_that_it_started(tmp_path):
    """A daemon that left its session and ignores signals still ends with the kernel, and so does a stopped one."""
    name = f"left-behind-{os.getpid()}"
    source = (
        "import os, signal, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):\n"
        "        signal.signal(n, signal.SIG_IGN)\n"
        f"    os.execv(sys.executable, [{name!r}, '-c', 'import time; time.sleep(600)'])\n"
    )

    def there() -> int:
        lines = (process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"]))
        return sum(line[0] == name for line in lines)

    async def look() -> None:
        async with Session("bubblewrap") as session:
            assert (await session.run(source, 60)).status == "ok"
            while not there():
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(look(), 60))
    assert not there()


@pytest.mark.parametrize(
    "source",
    [
        "print('x' * 10**7)\nsys.stderr.write('y' * 10**7)",
        "for i in range(100):\n    display(i)\ni",
        "sys.stdout.fileno(), sys.stdout.buffer.write(b'z'), sys.stdout.encoding.upper()",
        "sys.stdout.close(); sys.stderr.close(); print('on')",
        "sys.stdout = sys.stderr = None",
        "import io\nsys.stdout = io.StringIO()",
    ],
)
def test_nothing_that_a_cell_does_with_its_outputs_delays_or_ends_its_kernel(source):
    async def look() -> None:
        async with Session("bubblewrap") as session:
            began = time.monotonic()
            assert (await session.run(f"import sys\n{source}", 60)).status == "ok"
            assert (await session.run("print('and on')", 60)).status == "ok"
            assert time.monotonic() - began < 5

    asyncio.run(look())


def test_a_kernel_that_is_let_go_is_gone_when_the_next_one_is_there():
    async def look() -> None:
        async with Run("bubblewrap", 60) as run:
            first = run.session.manager.provisioner.kernel
            await run.cell("import os\nif os.fork() == 0:\n    import time\n    time.sleep(600)")
        kernels = sandbox.nursery(run.session.manager.provisioner.limits)
        assert kernels.leaving == [first]
        async with Session("bubblewrap"):
            assert not kernels.leaving and first.ended == "closed" and first.supervisor.fileno() < 0

    asyncio.run(look())


def test_a_zygote_that_was_killed_is_replaced():
    nursery = sandbox.Nursery(sandbox.Limits())
    try:
        nursery.take().end()
        zygote = nursery.zygote
        os.kill(zygote_process(nursery), signal.SIGKILL)
        zygote.process.wait()
        kernel = nursery.take()
        assert nursery.zygote is not zygote and kernel.alive()
        kernel.end()
        assert not kernel.alive()
    finally:
        nursery.end()


def zygote_process(nursery: sandbox.Nursery) -> int:
    bwrap = nursery.zygote.process.pid
    return int(Path(f"/proc/{bwrap}/task/{bwrap}/children").read_text())


def test_a_kernel_that_is_lost_is_no_fault_of_the_code_in_it():
    async def look() -> None:
        async with Session("bubblewrap") as session:
            os.kill(zygote_process(sandbox.nursery(session.manager.provisioner.limits)), signal.SIGKILL)
            await session.run("import time; time.sleep(60)", 60)

    with pytest.raises(KernelLost):
        asyncio.run(look())


def test_processes_forked_from_one_with_a_zygote_share_it_but_no_kernel():
    """Each gets a kernel of its own from the one zygote, which lives on when they have ended."""
    nursery = sandbox.nursery(sandbox.Limits(processes=333))
    nursery.take().end()
    zygote, [one, other] = nursery.zygote, [os.pipe() for _ in range(2)]
    for _, write in (one, other):
        if os.fork() == 0:
            try:
                kernel = nursery.take()
                os.write(write, f"{kernel.connection['key']} {nursery.zygote is zygote}".encode())
                kernel.end()
                nursery.end()
            finally:
                os._exit(0)
    told = [os.read(read, 200).decode().split() for read, _ in (one, other)]
    for _ in told:
        os.wait()
    keys = {key for key, _ in told} | {nursery.ahead.connection["key"]}
    assert len(keys) == 3 and [same for _, same in told] == ["True", "True"]
    kernel = nursery.take()
    assert kernel.alive() and nursery.zygote is zygote
    nursery.end()


def test_what_goes_wrong_in_a_zygote_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "zygote.py"
    broken.write_text(sandbox.SCRIPT.read_text().replace('"tqdm.auto"', '"tqdm.otto"'))
    monkeypatch.setattr(sandbox, "SCRIPT", broken)
    with pytest.raises(RuntimeError, match=r"No kernel comes up in the sandbox: ModuleNotFoundError.*tqdm\.otto"):
        sandbox.Nursery(sandbox.Limits()).take()


@pytest.mark.parametrize(
    ("limits", "source", "told"),
    [
        ({"memory": 2**29}, "x = [bytearray(2**20) for _ in range(2**12)]", "MemoryError"),
        (
            {"memory": 2**29},
            "import mmap\nx = mmap.mmap(-1, 2**33)\nwhile True:\n    x.write(bytes(2**26))",
            "memory",
        ),
        ({"cpu_seconds": 3}, "while True: pass", "cpu_seconds"),
        ({"scratch": 2**20}, "open('large', 'wb').write(bytes(2**21))", "OSError"),
        ({"file_size": 2**20}, "open('large', 'wb').write(bytes(2**21))", "OSError"),
        (
            {"processes": 60},
            "import os, time\nwhile True:\n    try:\n        os.fork() or time.sleep(60)\n    except OSError:\n        pass",
            "processes",
        ),
        ({}, "import os\nos._exit(3)", "exit"),
    ],
)
def test_limits_hold_for_each_kernel_by_itself(limits, source, told):
    """A limit of one process raises in it; one that holds for all together ends the kernel, and the supervisor tells which."""
    nursery = sandbox.Nursery(sandbox.Limits(**limits))
    try:
        kernel = nursery.take()
        client = BlockingKernelClient()
        client.load_connection_info(kernel.connection)
        client.start_channels(iopub=False, stdin=False, hb=False)
        request, deadline = client.execute(source, allow_stdin=False), time.monotonic() + 60
        reply = None
        while kernel.alive() and reply is None and time.monotonic() < deadline:
            with contextlib.suppress(Empty):
                reply = client.get_shell_msg(timeout=0.1)
        client.stop_channels()
        if reply is None:
            assert kernel.ended == told
        else:
            assert reply["parent_header"]["msg_id"] == request and reply["content"]["ename"] == told
        kernel.end()
    finally:
        nursery.end()


def test_kernels_cannot_meet(tmp_path):
    """Two at a time: neither sees a file, a process or an abstract socket of the other's."""
    leave = (
        "import os, socket\nopen('/tmp/note', 'w').write('x')\nopen('/dev/shm/note', 'w').write('x')\n"
        "s = socket.socket(socket.AF_UNIX)\ns.bind(chr(0) + 'meeting')\ns.listen()\n"
        "t = socket.create_server(('127.0.0.1', 4567))"
    )
    look = (
        "import json, os, socket\n"
        "def tried(f):\n    try:\n        f()\n        return True\n    except OSError:\n        return False\n"
        "facts = [os.path.exists('/tmp/note'), os.path.exists('/dev/shm/note'),\n"
        "         tried(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + 'meeting')),\n"
        "         tried(lambda: socket.create_connection(('127.0.0.1', 4567), 2)),\n"
        "         len([n for n in os.listdir('/proc') if n.isdigit()]) > 2]\n"
        "json.dump(facts, open('facts.json', 'w'))"
    )

    async def meet() -> tuple[list, list]:
        async with Session("bubblewrap") as one, Session("bubblewrap") as two:
            assert (await one.run(leave, 60)).status == (await one.run(look, 60)).status == "ok"
            assert (await two.run(look, 60)).status == "ok"
            return looked(one), looked(two)

    own, other = asyncio.run(meet())
    assert own == [True, True, True, True, False], "what one finds of its own, the other could have found"
    assert other == [False] * 5


def test_files_are_taken_for_what_they_are():
    """Whatever stands in the folder under a file's name: a link, a pipe, a folder, a file without end."""

    async def look() -> None:
        async with Session("bubblewrap") as session:
            session.put("mine", b"abc")
            assert session.take("mine", 3) == b"abc" and session.take("mine", 1) == b"ab"
            source = (
                "import os\nos.symlink('/etc/passwd', 'link')\nos.symlink('mine', 'inside')\nos.mkfifo('pipe')\n"
                "os.mkdir('folder')\nos.truncate(os.open('sparse', os.O_CREAT | os.O_RDWR), 10**8)"
            )
            assert (await session.run(source, 60)).status == "ok"
            for name in ("link", "inside", "pipe", "folder", "nothing"):
                with pytest.raises(OSError):
                    session.take(name, 100)
            assert len(session.take("sparse", 1000)) == 1001
            with pytest.raises(OSError):
                session.put("link", b"through the link")
            assert (await session.run("import shutil, os\nshutil.rmtree(os.getcwd())", 60)).status
            with pytest.raises(OSError):
                session.put("late", b"")

    asyncio.run(look())


def test_any_runner_of_notebooks_can_use_it_by_name(monkeypatch, tmp_path):
    """nbclient as it comes, through the kernelspec: outputs and errors arrive, and two runs share nothing."""
    (tmp_path / "kernels").symlink_to(KERNELSPECS)  # as `jupyter kernelspec install` would have it
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    cells = [new_code_cell(source) for source in ("print(6 * 7)", "import os; os.getcwd()", "open('x', 'x').close()")]
    for _ in range(2):
        notebook = new_notebook(cells=copy.deepcopy(cells))
        NotebookClient(notebook, kernel_name="course-sandbox", timeout=60).execute()
        assert [cell.outputs[0].get("text") for cell in notebook.cells[:1]] == ["42\n"]
        assert notebook.cells[1].outputs[0].data["text/plain"] == "'/scratch/work'"
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(new_notebook(cells=[new_code_cell("1 / 0")]), kernel_name="course-sandbox").execute()


def test_a_kernel_without_a_sandbox_is_the_same_kernel():
    async def look() -> str:
        async with Session("process") as session:
            assert (await session.run("import os; open('here', 'w').write(os.getcwd())", 60)).alive
            folder = session.take("here", 1000).decode()
            assert folder == session.folder and Path(folder).is_dir()
            loop = await session.run("while True: pass", 1)
            assert (loop.status, loop.alive) == ("timeout", True)
            assert (await session.run("import os; os._exit(0)", 60)).status == "crashed"
            return folder

    assert not Path(asyncio.run(look())).exists()


def test_both_kernelspecs_are_found_and_interrupted_by_message():
    specs = kernelspecs()
    for name in KERNELS.values():
        spec = specs.get_kernel_spec(name)
        assert spec.metadata["kernel_provisioner"]["provisioner_name"] == name
        assert spec.interrupt_mode == "message"  # a signal cannot reach it by its number


@pytest.fixture
def fresh_trial():
    sandbox.sandbox_trouble.cache_clear()
    yield
    sandbox.sandbox_trouble.cache_clear()


@pytest.mark.parametrize("broken", [False, True])
def test_without_bubblewrap_one_sentence_says_what_to_do(tmp_path, monkeypatch, fresh_trial, broken):
    if broken:
        (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(shutil.which('true')).parent}" if broken else str(tmp_path))
    with pytest.raises(CourseError, match="setting up uid map" if broken else "is not installed") as caught:
        sandbox.require("bubblewrap")
    assert "--isolation process" in str(caught.value) and "\n" not in str(caught.value)
    sandbox.require("process")


def test_without_libseccomp_one_sentence_says_what_to_do(monkeypatch, fresh_trial):
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    sandbox.system_call_filter.cache_clear()
    with pytest.raises(CourseError, match="libseccomp is not installed"):
        sandbox.require("bubblewrap")


def test_socket_paths_stay_short_whatever_tmpdir_is(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))

    async def look(isolation: str) -> str:
        async with Session(isolation) as session:
            return session.manager.ip

    for isolation in KERNELS:
        assert len(os.fsencode(asyncio.run(look(isolation)))) < 90
