"""Kernels: what a sandboxed one can reach, how it ends, and what is said where there is no sandbox."""

import ast
import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from autograder.engine import Session
from autograder.kernel import KERNELS, kernelspecs, provisioner
from autograder.week import CourseError

PROBE = """
import getpass, json, os, socket, sys
import course, torch

def tried(action):
    try:
        return str(action())
    except Exception as error:
        return type(error).__name__

facts = {
    "root": [name for name in os.listdir("/") if name in ("home", "opt", "srv", "var", "mnt")],
    "checkout": tried(lambda: sorted(os.listdir(CHECKOUT))),
    "autograder": tried(lambda: __import__("autograder")),
    "network": tried(lambda: socket.create_connection(("127.0.0.1", PORT), 2)),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[-1],
    "course": tried(lambda: open(course.__file__, "a")),
    "python": tried(lambda: open(os.path.join(sys.prefix, "evil"), "w")),
    "passwords": tried(lambda: open("/etc/shadow")),
    "secret": os.environ.get("COURSE_TEST_SECRET"),
    "threads": torch.get_num_threads(),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")],
}
open("/tmp/mine", "w").write("ok")
json.dump(facts, open("facts.json", "w"))
"""


def test_a_sandboxed_kernel_reaches_nothing_but_its_own(tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("COURSE_TEST_SECRET", "hunter2")
    checkout = str(Path(provisioner.__file__).parents[2])

    async def look() -> tuple[Path, int]:
        async with Session("bubblewrap", tmp_path) as session:
            source = PROBE.replace("CHECKOUT", repr(checkout)).replace("PORT", str(listener.getsockname()[1]))
            outcome = await session.run(source, 120)
            assert outcome.status == "ok", outcome
            kernel = session.manager.provisioner
            return kernel.sockets, kernel.process.pid

    with socket.create_server(("127.0.0.1", 0)) as listener:
        sockets, pid = asyncio.run(look())
    facts = json.loads((tmp_path / "facts.json").read_text())
    visible = set(ast.literal_eval(facts["checkout"])) if facts["checkout"].startswith("[") else set()
    assert visible <= {"course", ".venv"}
    assert facts["root"] == [] and facts["autograder"] == "ModuleNotFoundError"
    assert facts["network"] in ("OSError", "ConnectionRefusedError")
    assert facts["processes"] < 20, "processes of the machine are visible"
    assert (facts["course"], facts["python"]) == ("OSError", "OSError")
    assert facts["passwords"] in ("FileNotFoundError", "PermissionError")
    assert facts["secret"] is None and facts["threads"] == 1
    assert int(facts["capabilities"][0], 16) == 0
    assert not sockets.exists() and not Path(f"/proc/{pid}").exists() and not Path("/tmp/mine").exists()


def test_a_kernel_without_a_sandbox_is_the_same_kernel(tmp_path):
    async def look() -> None:
        async with Session("process", tmp_path) as session:
            assert (await session.run("import os; open('here', 'w').write(os.getcwd())", 60)).alive
            loop = await session.run("while True: pass", 1)
            assert (loop.status, loop.alive) == ("timeout", True)
            assert (await session.run("import os; os._exit(0)", 60)).status == "crashed"

    asyncio.run(look())
    assert (tmp_path / "here").read_text() == str(tmp_path)


def test_both_kernelspecs_are_found_and_interrupted_by_message():
    specs = kernelspecs()
    for isolation, name in KERNELS.items():
        spec = specs.get_kernel_spec(name)
        assert spec.metadata["kernel_provisioner"]["config"]["isolation"] == isolation
        assert spec.interrupt_mode == "message"  # a signal to bubblewrap would end it


@pytest.fixture
def fresh_trial():
    provisioner.sandbox_trouble.cache_clear()
    yield
    provisioner.sandbox_trouble.cache_clear()


@pytest.mark.parametrize("broken", [False, True])
def test_without_bubblewrap_one_sentence_says_what_to_do(tmp_path, monkeypatch, fresh_trial, broken):
    if broken:
        (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(shutil.which('true')).parent}" if broken else str(tmp_path))
    with pytest.raises(CourseError, match="setting up uid map" if broken else "is not installed") as caught:
        provisioner.require("bubblewrap")
    assert "--isolation process" in str(caught.value) and "\n" not in str(caught.value)
    provisioner.require("process")


def test_socket_paths_stay_short_whatever_tmpdir_is(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))

    async def look() -> str:
        async with Session("process", tmp_path) as session:
            return session.manager.ip

    assert len(os.fsencode(asyncio.run(look()))) < 90
