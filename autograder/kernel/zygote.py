"""The zygote: runs inside bubblewrap, has everything imported, and is forked for each kernel.

    python zygote.py FD        FD: a SOCK_SEQPACKET socket to `autograder.kernel.sandbox.Zygote`

It imports nothing of `autograder`, which the sandbox does not show it. Its fork for one kernel is three processes:

    supervisor   outside the kernel's PID namespace; adds up what the kernel uses and ends it beyond its limits
    init         process 1 of the namespaces: mounts what the kernel sees, reaps what the kernel leaves behind
    kernel       ipykernel, which is where students' code runs: no capabilities, a seccomp filter, limits of its own

The order of steps matters, and so each says why it stands where it does. What a fork inherits of user namespace and mounts
it could undo with the zygote's capabilities; so the kernel goes into a user namespace of its own, in which every mount is
locked, and gives up the capabilities that it has there, before it becomes an ipykernel.
"""

import contextlib
import ctypes
import errno
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import re
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

WARM = (  # what an ipykernel imports as it starts, and what the course's notebooks and drives import
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "course.check",
    "course.data",
    "course.plots",
    "course.train",
    "course.window",
    "datasets",
    "ipykernel.debugger",
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "numpy.ctypeslib",
    "pandas",
    "pygments.formatters.terminal256",
    "safetensors.torch",
    "torch.nn.functional",
    "torch.profiler",
    "tornado.platform.asyncio",
    "torch.utils.data",
    "tqdm.auto",
)
SCRATCH = (
    "/scratch"  # the kernel's own file system: work/ (where it runs), home/, tmp/ (also /tmp), shm/ (also /dev/shm)
)
SOCKETS = "/run/kernel"  # its sockets, on a file system that is read-only before any code of a student's runs
MAX_MESSAGE = 2**16
# Of /proc, what belongs to the machine and not to a process. Its root may write there even without capabilities.
PROC_READ_ONLY = ("acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger")
PROC_HIDDEN = ("kcore", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "timer_list")
LEAST_PID_MAX = 301  # Linux takes no less
WATCH = 0.1  # seconds between two looks at what a kernel uses

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
MADV_HUGEPAGE, MADV_COLLAPSE, HUGE_PAGE = 14, 25, 2**21
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    checked(libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    checked(libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def bind(source: str, target: str, flags: int = 0) -> None:
    """Shows `source` at `target` too; flags such as MS_RDONLY need a second step."""
    mount(source, target, None, MS_BIND | MS_REC)
    if flags:
        mount("none", target, None, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | flags)


def prctl(option: int, *arguments: object) -> None:
    padded = [*arguments, *[ctypes.c_ulong(0)] * (4 - len(arguments))]
    checked(libc.prctl(option, *padded), f"prctl {option}")


def drop_capabilities() -> None:
    """No capability is left in any set, nor can one come back by executing something."""
    for number in range(64):
        if libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) < 0 and ctypes.get_errno() == errno.EINVAL:
            break  # beyond the last capability of this Linux
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")  # the ambient set goes with the permitted one
    prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))


class FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_system_calls(program: bytes) -> None:
    prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(FilterProgram(len(program) // 8, program)))


def loopback_up() -> None:
    """ipykernel talks to itself over it. Each kernel has a network of its own, with nothing else in it."""
    with socket.socket() as sock:
        request = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def own_user_namespace() -> None:
    """A user namespace in which this process is who it was, and a mount namespace whose mounts nobody in it can change."""
    user, group = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def has_own_pid_max() -> bool:
    """Whether this Linux counts processes for each PID namespace; earlier ones have one limit for the whole machine."""
    major, minor = (int(part) for part in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())
    return (major, minor) >= (6, 14)


def mount_all(limits: dict, kept: list[str]) -> None:
    """What the kernel sees besides the zygote's read-only system: its own /proc, scratch and sockets.

    `kept` are folders below /tmp (the course or its packages may lie there) that go on being seen there.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if has_own_pid_max():
        with open("/proc/sys/kernel/pid_max", "w") as file:
            file.write(str(max(limits["processes"] + 100, LEAST_PID_MAX)))  # the supervisor ends the kernel before that
    for name in filter(os.path.exists, (f"/proc/{name}" for name in PROC_READ_ONLY)):
        bind(name, name, MS_RDONLY)
    for name in filter(os.path.exists, (f"/proc/{name}" for name in PROC_HIDDEN)):
        bind("/dev/null", name, MS_RDONLY)
    mount("scratch", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, f"size={limits['scratch']},nr_inodes=50k,mode=755")
    for name in ("work", "home", "tmp", "shm"):
        os.mkdir(f"{SCRATCH}/{name}")
    folders = [(os.open(folder, os.O_PATH | os.O_DIRECTORY), folder) for folder in kept]
    bind(f"{SCRATCH}/tmp", "/tmp")
    bind(f"{SCRATCH}/shm", "/dev/shm")
    for descriptor, folder in folders:
        os.makedirs(folder)
        bind(f"/proc/self/fd/{descriptor}", folder, MS_RDONLY)
        os.close(descriptor)
    mount("sockets", SOCKETS, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,nr_inodes=32,mode=755")


def set_limits(limits: dict) -> None:
    """Limits of each process. Those of all together are the supervisor's business, and RLIMIT_NPROC's except for root."""
    with open("/proc/self/statm") as file:
        data = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    hard = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits["cpu_seconds"] + 60,
        resource.RLIMIT_DATA: data + limits["memory"],
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_MEMLOCK: 2**16,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_NPROC: limits["processes"],
    }
    for which, limit in hard.items():
        most = resource.getrlimit(which)[1]
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(which, (limit, limit))


def close_all_but(kept: set[int]) -> None:
    """Closes every inherited descriptor except 0, 1, 2 and those kept."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):  # the one that listed the folder is closed already
                os.close(int(name))


# ------------------------------------------------------------------------------------------------------ the kernel


def fresh_randomness() -> None:
    import random

    import numpy
    import torch

    random.seed()
    numpy.random.seed()
    torch.seed()


def run_kernel(order: dict, host: socket.socket, bound: int, go: int) -> None:
    """Becomes an ipykernel. Tells init when its sockets are bound, and runs nothing before init says so."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    own_user_namespace()
    set_limits(order["limits"])
    drop_capabilities()
    prctl(PR_SET_DUMPABLE, ctypes.c_ulong(1))  # or else its own /proc/self would not be its own
    filter_system_calls(bytes.fromhex(order["filter"]))
    # From here on this process can do what students' code can do, and no more.
    os.chdir(f"{SCRATCH}/work")
    fresh_randomness()
    from ipykernel.kernelapp import IPKernelApp

    file = f"{SCRATCH}/home/connection.json"
    with open(file, "w") as out:
        json.dump({**order["connection"], "ip": f"{SOCKETS}/s"}, out)
    app = IPKernelApp.instance()
    app.initialize(["-f", file, "--HistoryManager.enabled=False", "--log-level=CRITICAL"])
    os.write(bound, b".")
    os.read(go, 1)
    host.close()
    os.close(bound)
    os.close(go)
    gc.enable()
    app.start()


def run_init(order: dict, host: socket.socket, supervisor: socket.socket) -> None:
    """Process 1 of the kernel's namespaces."""
    prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    loopback_up()
    mount_all(order["limits"], order["kept"])
    line, its_line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bound, tell_bound = os.pipe()
    wait_go, go = os.pipe()
    kernel = os.fork()
    if kernel == 0:
        close_all_but({tell_bound, wait_go, host.fileno(), its_line.fileno()})
        run_guarded(lambda: run_kernel(order, host, tell_bound, wait_go), host)
    os.close(tell_bound)
    os.close(wait_go)
    prctl(PR_SET_DUMPABLE, ctypes.c_ulong(0))  # the kernel has the same user: it must not open this process's memory
    if not os.read(bound, 1):
        os._exit(1)
    mount("none", SOCKETS, None, MS_REMOUNT | MS_RDONLY)
    work, sockets, proc = (
        os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (f"{SCRATCH}/work", SOCKETS, "/proc")
    )
    drop_capabilities()
    filter_system_calls(bytes.fromhex(order["filter"]))
    socket.send_fds(supervisor, [b"proc"], [proc])
    ready = {"ready": True, "line": its_line.fileno()}
    socket.send_fds(host, [json.dumps(ready).encode()], [work, sockets, line.fileno()])
    close_all_but({go})
    os.write(go, b".")
    os.close(go)
    while True:
        try:
            child, status = os.wait()
        except ChildProcessError:
            os._exit(0)
        if child == kernel:  # all that it left behind ends with this process
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


# -------------------------------------------------------------------------------------------------- the supervisor


def read_in(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


def used(proc: int) -> tuple[int, int, float]:
    """(processes and threads, bytes, CPU seconds) of all that runs in a PID namespace, given a descriptor of its /proc.

    Pages that processes share count in each of them: the bytes are an upper bound that costs little.
    """
    tasks, pages, ticks = 0, 0, 0
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                stat = read_in(proc, f"{name}/stat").rpartition(b")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            tasks += int(stat[17])
            pages += int(stat[21])
            ticks += sum(int(part) for part in stat[11:15])  # its own and those of its children that have ended
    return tasks, pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK")


def own_memory(proc: int) -> int:
    """Bytes of memory of all that runs in a PID namespace: what is shared with others counts in parts, files do not."""
    kilobytes = 0
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                rollup = read_in(proc, f"{name}/smaps_rollup").splitlines()
            except OSError:
                continue
            kilobytes += sum(int(line.split()[1]) for line in rollup if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")))
    return kilobytes * 1024


def excess(proc: int, tasks: int, size: int, seconds: float, limits: dict) -> str:
    """Which limit is exceeded: "memory", "processes", "cpu_seconds" or none."""
    if tasks > limits["processes"]:
        return "processes"
    if seconds > limits["cpu_seconds"]:
        return "cpu_seconds"
    return "memory" if size > limits["memory"] and own_memory(proc) > limits["memory"] else ""


def supervise(order: dict, host: socket.socket) -> dict:
    """Runs a kernel to its end. Returns why it "ended" (a key of the limits, "exit", or "closed" by its owner) and the
    "cpu_seconds" that it took, as last seen.

    The owner ends it by closing the socket, which happens also where the owner is killed.
    """
    unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS)  # the PID namespace is the child's
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    init = os.fork()
    if init == 0:
        mine.close()
        run_guarded(lambda: run_init(order, host, theirs), host)
    theirs.close()
    ended = os.pidfd_open(init)
    poll = select.poll()
    for source in (host, mine, ended):
        poll.register(source, select.POLLIN)
    proc, why, seconds = -1, "", 0.0
    while not why:
        for descriptor, _ in poll.poll(1000 * WATCH if proc >= 0 else None):
            if descriptor == ended:
                why = why or "exit"
            elif descriptor == host.fileno():
                why = "closed"
            elif descriptor == mine.fileno():
                proc = next(iter(socket.recv_fds(mine, 16, 1)[1]), -1)
                poll.unregister(mine)
        if proc >= 0 and why != "exit":
            tasks, size, seconds = used(proc)
            why = why or excess(proc, tasks, size, seconds, order["limits"])
    os.kill(init, signal.SIGKILL)
    os.waitpid(init, 0)
    return {"ended": why, "cpu_seconds": seconds}


def run_guarded(run: Callable[[], Any], host: socket.socket) -> NoReturn:
    """Runs a fork's part and ends the fork; what goes wrong in it is told to the host."""
    try:
        run()
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
        told = {"failed": f"{type(error).__name__}: {error} (zygote.py, line {lines[-1]})"[:2000]}
        with contextlib.suppress(OSError):
            host.send(json.dumps(told).encode(), socket.MSG_NOSIGNAL)
        os._exit(1)
    os._exit(0)


# ------------------------------------------------------------------------------------------------------ the zygote


def report_end(order: dict, host: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told = supervise(order, host)
    with contextlib.suppress(OSError):
        host.send(json.dumps(told).encode(), socket.MSG_NOSIGNAL)


def reap(*_: Any) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def drives() -> list[str]:
    """The modules by which the exercises of every week are exercised."""
    import course.drives

    return [f"course.drives.{module.name}" for module in pkgutil.iter_modules(course.drives.__path__)]


def use_huge_pages() -> None:
    """Has Linux keep this process's memory in pages of 2 MB, where it can: each fork copies, and frees, a table of its pages."""
    with open("/proc/self/maps") as file:
        lines = file.read().splitlines()
    for line in lines:
        addresses, permissions, _, _, inode, *name = line.split()
        first, last = (int(part, 16) for part in addresses.split("-"))
        if permissions == "rw-p" and inode == "0" and name in ([], ["[heap]"]) and last - first >= HUGE_PAGE:
            for advice in (
                MADV_HUGEPAGE,
                MADV_COLLAPSE,
            ):  # an older Linux, or one set up otherwise, refuses; all goes on
                libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), advice)


def serve(control: socket.socket) -> None:
    """Imports everything, then forks a kernel for each order until the other end of the socket is closed."""
    settings = json.loads(control.recv(MAX_MESSAGE))
    gc.disable()
    for name in [*WARM, *drives()]:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"{threads} threads run in the zygote, and a fork would lose all but one")
    gc.collect()
    gc.freeze()
    use_huge_pages()
    signal.signal(signal.SIGCHLD, reap)
    control.send(b'{"warm": true}')
    while True:
        message, descriptors, *_ = socket.recv_fds(control, MAX_MESSAGE, 1)
        if not message:
            return
        order = {**settings, **json.loads(message)}
        with socket.socket(fileno=descriptors[0]) as host:
            if os.fork() == 0:
                control.close()
                run_guarded(lambda order=order, host=host: report_end(order, host), host)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as line:
        run_guarded(lambda: serve(line), line)
