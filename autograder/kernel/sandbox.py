"""The sandbox from outside: bubblewrap's command line, the zygote that runs in it, and the kernels that it is forked into.

A process that grades has one zygote for each set of limits, shared with the processes that it is forked into, and one kernel
of its own that has been forked ahead, so that a submission waits for no import. Nothing of a kernel is on the machine's
disk: its scratch folder and its sockets are file systems in memory of its own, which are reached from here by descriptors
that it handed over before it ran any code of a student's. All ends with the process that started it, however that ends: the
zygote and each kernel's supervisor look at a socket whose other end is here.
"""

import atexit
import contextlib
import functools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import course
from autograder.errors import CourseError
from autograder.kernel import KERNELS

SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
NAMESPACES = ("user", "pid", "net", "ipc", "uts")
CAPABILITIES = (
    "SYS_ADMIN",
    "NET_ADMIN",
    "SETPCAP",
    "SETFCAP",
)  # the zygote's, in its user namespace; kernels have none
SCRIPT = Path(__file__).with_name("zygote.py")
SCRATCH, SOCKETS = "/scratch", "/run/kernel"
MAX_MESSAGE = 2**16
CHANNELS = ("shell", "iopub", "stdin", "hb", "control")
END_TIMEOUT = 30.0  # seconds for a kernel's processes to be gone
START_TIMEOUT = 120.0  # seconds for the zygote's imports on a busy machine
NEITHER = (
    "Submissions cannot be graded safely here: {why}. Install bubblewrap (apt install bubblewrap) on a Linux that lets it "
    "make namespaces, or accept grading without a sandbox with --isolation process."
)

# What no notebook needs and what past escapes from containers used; by name, with errno EPERM. Socket families besides
# these few (AF_VSOCK reaches the machine below a virtual one) and new namespaces by flags of clone are refused as well,
# and memory that no process needs to have mapped, which no sum of what processes use would show (memfd_create, shmget, msgget).
REFUSED = """
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime create_module delete_module fanotify_init
    finit_module fsconfig fsmount fsopen fspick get_kernel_syms init_module io_uring_enter io_uring_register
    io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind memfd_create
    memfd_secret migrate_pages modify_ldt mount mount_setattr move_mount move_pages msgget name_to_handle_at nfsservctl
    open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root process_madvise process_vm_readv
    process_vm_writev ptrace query_module quotactl quotactl_fd reboot request_key seccomp set_mempolicy
    shmget sethostname setdomainname setns settimeofday stime swapoff swapon syslog umount umount2 unshare uselib
    userfaultfd ustat vhangup vm86 vm86old
"""
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_NETLINK", 16))
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWUSER, NEWPID, NEWNET, NEWIPC, NEWUTS, NEWCGROUP and NEWNS
TERMINAL_INPUT = (0x5412, 0x541C)  # ioctl TIOCSTI and TIOCLINUX


@dataclass(frozen=True)
class Limits:
    """Of one kernel with all its processes: bytes, processes and threads, CPU seconds. `file_size` is each file's."""

    memory: int = 2 * 2**30
    scratch: int = 512 * 2**20
    file_size: int = 256 * 2**20
    processes: int = 400
    cpu_seconds: int = 1800


# For glibc, where there is one: large tensors lie in huge pages, and their memory is kept for the next ones, so that fewer
# pages are asked for, one fault each, and cleared.
MALLOC = f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={128 * 2**20}:glibc.malloc.trim_threshold={256 * 2**20}"


def environment(home: Path, temporary: Path) -> dict[str, str]:
    """The whole environment of a kernel. One thread, no network, no window; files that libraries keep go below `home`."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(home / "huggingface"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "IPYTHONDIR": str(home / "ipython"),
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a zygote must have one thread, and datasets brings this one
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",  # or else the order of sets would differ from one grading to the next
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "GLIBC_TUNABLES": MALLOC,
    }


@functools.cache
def font_lists() -> list[Path]:
    """matplotlib's list of fonts, made once here: every new home would spend a second on making it again."""
    import matplotlib.font_manager

    return sorted(Path(matplotlib.get_cachedir()).glob("fontlist-*.json"))


def readable() -> list[Path]:
    """Folders that a kernel may read besides the system's: Python, its packages, and the `course` package."""
    folders = [Path(sys.base_prefix), Path(sys.prefix), Path(course.__file__).resolve().parent]
    return [
        folder
        for i, folder in enumerate(folders)
        if not any(folder.is_relative_to(other) for other in [Path("/usr"), *folders[:i]])
    ]


def command_line(command: list[str], fonts: Sequence[Path] = ()) -> list[str]:
    """bubblewrap's, for a zygote or a trial of one: a read-only system, no network, no file but those of `readable`."""
    home = Path("/zygote")
    line = [shutil.which("bwrap") or "bwrap", *(f"--unshare-{namespace}" for namespace in NAMESPACES)]
    line += ["--as-pid-1", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    line += [word for capability in CAPABILITIES for word in ("--cap-add", f"CAP_{capability}")]
    for folder in SYSTEM:
        line += ["--ro-bind-try", folder, folder]
    line += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", SCRATCH, "--dir", SOCKETS]
    for folder in readable():
        line += ["--ro-bind", str(folder), str(folder)]
    line += ["--ro-bind", str(SCRIPT), str(home / SCRIPT.name)]
    for path in fonts:
        line += ["--ro-bind", str(path), str(home / "matplotlib" / path.name)]
    for name, value in environment(home, Path("/tmp")).items():
        line += ["--setenv", name, value]
    line += ["--setenv", "PYTHONPATH", str(Path(course.__file__).resolve().parent.parent)]
    return [*line, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--", *command]


@functools.cache
def system_call_filter() -> bytes:
    """The seccomp filter of kernels, as a BPF program, made by libseccomp for this processor.

    Raises OSError where libseccomp is not installed.
    """
    import errno

    import pyseccomp

    refuse = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in REFUSED.split():
        try:
            rules.add_rule(refuse, name)
        except (OSError, ValueError):  # a call that this libseccomp or this processor does not know
            continue
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags lie in memory; the C library goes on to clone
    for bit in (1 << i for i in range(32) if NEW_NAMESPACES >> i & 1):
        rules.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, bit, bit))
    for request in TERMINAL_INPUT:
        rules.add_rule(refuse, "ioctl", pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, request))
    most = max(FAMILIES)
    for family in set(range(most)) - set(FAMILIES):
        rules.add_rule(refuse, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    rules.add_rule(refuse, "socket", pyseccomp.Arg(0, pyseccomp.GT, most))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


@functools.cache
def sandbox_trouble() -> str:
    """Why there can be no sandbox here, in words; empty where there can. Tried once a process."""
    if sys.platform != "linux":
        return f"bubblewrap does not exist for {sys.platform}"
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed"
    try:
        system_call_filter()
    except (ImportError, OSError, RuntimeError) as error:
        return f"libseccomp is not installed ({error})"
    trial = subprocess.run(command_line(["/bin/sh", "-c", "exit 0"]), capture_output=True, text=True, timeout=30)
    return f"bubblewrap says {trial.stderr.strip()!r}" if trial.returncode else ""


def require(isolation: str) -> None:
    """Raises CourseError, with what to do, where this kind of isolation is not to be had on this machine."""
    if isolation not in KERNELS:
        raise CourseError(f"There is no isolation {isolation!r}; there are {' and '.join(KERNELS)}.")
    if isolation == "bubblewrap" and (why := sandbox_trouble()):
        raise CourseError(NEITHER.format(why=why))


# ---------------------------------------------------------------------------------------------- zygote and kernels


def received(line: socket.socket) -> bytes:
    """The next message; empty at the end. That the other end went away with messages unread is told first, and passed over."""
    for _ in range(2):
        with contextlib.suppress(ConnectionResetError):
            return line.recv(MAX_MESSAGE)
    return b""


class Kernel:
    """A kernel that listens already. It ends when its supervisor's socket is closed, here or because this process ends.

    connection  what Jupyter's connection file holds
    work        descriptor of its working folder, which is `SCRATCH/work` to itself
    line        socket whose other end code in it can use, by the descriptor `its_line`
    ended       why it ended, once it has: a key of the limits, "exit", "closed" from here, or "lost", which is no fault of
                the code in it: its supervisor or the zygote was killed
    cpu_seconds that it and its processes took, once it has ended
    """

    def __init__(self, supervisor: socket.socket, connection: dict):
        self.supervisor, self.connection = supervisor, connection
        self.work = self.sockets = self.its_line = -1
        self.line: socket.socket | None = None
        self.ended, self.cpu_seconds = "", 0.0

    def wait_ready(self) -> "Kernel":
        """Raises RuntimeError where it does not come up."""
        if self.work < 0:
            self.supervisor.settimeout(START_TIMEOUT)
            try:
                message, descriptors, *_ = socket.recv_fds(self.supervisor, MAX_MESSAGE, 3)
            except OSError as error:
                raise RuntimeError(str(error)) from error
            told = json.loads(message) if message else {}
            if "ready" not in told:
                raise RuntimeError(told.get("failed", "it ended while it was being made"))
            self.work, self.sockets, line = descriptors
            self.line, self.its_line = socket.socket(fileno=line), told["line"]
            self.line.setblocking(False)
            self.connection["ip"] = f"/proc/self/fd/{self.sockets}/s"
            self.supervisor.setblocking(False)
        return self

    def alive(self) -> bool:
        if not self.ended:
            try:
                self._note_end(received(self.supervisor))
            except BlockingIOError:
                return True
        return False

    def stop(self) -> None:
        """Has it ended with all of its processes, and does not wait for that."""
        with contextlib.suppress(OSError):
            self.supervisor.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Ends it with all of its processes, and returns when they are gone. May be called again."""
        if self.supervisor.fileno() < 0:
            return
        self.stop()
        with contextlib.suppress(OSError):
            self.supervisor.settimeout(END_TIMEOUT)
            while message := received(self.supervisor):
                self._note_end(message)
        self._note_end(b"")
        self.forget()

    def forget(self) -> None:
        """Closes what this process has of it. It lives on where another process has the same."""
        self.supervisor.close()
        if self.line is not None:
            self.line.close()
            os.close(self.work)
            os.close(self.sockets)

    def _note_end(self, message: bytes) -> None:
        if not self.ended:
            told = json.loads(message) if message else {}
            self.ended, self.cpu_seconds = told.get("ended", "lost"), told.get("cpu_seconds", 0.0)


class Zygote:
    """A process in the sandbox that has everything imported and is forked into kernels."""

    def __init__(self, limits: Limits):
        self.owner = os.getpid()
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        home = Path(SCRATCH, "home")
        kept = [str(folder) for folder in [*readable()] if folder.is_relative_to("/tmp")]
        settings = {
            "limits": asdict(limits),
            "filter": system_call_filter().hex(),
            "env": environment(home, Path("/tmp")),
            "kept": kept,
        }
        with theirs:
            self.process = subprocess.Popen(
                command_line([sys.executable, f"/zygote/{SCRIPT.name}", str(theirs.fileno())], font_lists()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.line.send(json.dumps(settings).encode())

    def order(self) -> Kernel:
        """Asks for a kernel, and does not wait for it. Raises OSError where the zygote has ended."""
        connection = {
            "transport": "ipc",
            "ip": "",
            **{f"{name}_port": number for number, name in enumerate(CHANNELS, 1)},
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
        }
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self.line, [json.dumps({"connection": connection}).encode()], [theirs.fileno()])
        return Kernel(mine, connection)

    def end(self) -> str:
        """Ends it with all of its kernels, where this process started it; returns what went wrong in it, if it told."""
        if self.owner != os.getpid():
            self.line.close()
            return ""
        self.line.shutdown(socket.SHUT_WR)
        told = ""
        while message := received(self.line):
            told = json.loads(message).get("failed", told)
        self.line.close()
        self.process.wait()
        return told


class Nursery:
    """The zygote of one set of limits, and the kernel that it has been forked into ahead. Safe to use from many threads."""

    def __init__(self, limits: Limits):
        self.limits, self.lock = limits, threading.Lock()
        self.zygote: Zygote | None = None
        self.ahead: Kernel | None = None
        self.leaving: list[Kernel] = []

    def warm_up(self) -> None:
        """Starts the zygote, if there is none, and does not wait for it."""
        with self.lock:
            self.zygote = self.zygote or Zygote(self.limits)

    def take(self) -> Kernel:
        """A kernel that nobody else has, in the time that it takes to hand it over. Raises RuntimeError where none comes up."""
        trouble = ""
        for _ in range(2):  # a zygote that was killed is replaced
            self.warm_up()
            with self.lock:
                self._see_off()
                try:
                    kernel, self.ahead = self.ahead or self.zygote.order(), None
                    kernel.wait_ready()
                    self.ahead = self.zygote.order()
                    return kernel
                except (OSError, RuntimeError) as error:
                    trouble = self._end() or str(error)
        raise RuntimeError(f"No kernel comes up in the sandbox: {trouble}")

    def let_go(self, kernel: Kernel) -> None:
        """Ends a kernel and does not wait for it: whoever takes the next one does, and finds it gone."""
        kernel.stop()
        with self.lock:
            self.leaving.append(kernel)

    def end(self) -> None:
        with self.lock:
            self._end()

    def after_fork(self) -> None:
        """In a new process: the zygote is shared with the one that it was forked from, but not the kernel."""
        self.lock = threading.Lock()
        if self.ahead is not None:
            self.ahead.forget()
            self.ahead = None
        for kernel in self.leaving:
            kernel.forget()
        self.leaving = []

    def _see_off(self) -> None:
        for kernel in self.leaving:
            kernel.end()
        self.leaving = []

    def _end(self) -> str:
        self._see_off()
        if self.ahead is not None:
            self.ahead.end()
        told = self.zygote.end() if self.zygote is not None else ""
        self.zygote = self.ahead = None
        return told


_nurseries: dict[Limits, Nursery] = {}
_lock = threading.Lock()


def nursery(limits: Limits) -> Nursery:
    """This process's nursery for such limits, which lives until the process ends."""
    with _lock:
        return _nurseries.setdefault(limits, Nursery(limits))


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for each in _nurseries.values():
        each.after_fork()


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def end_zygotes() -> None:
    """Ends this process's zygotes and waits for them; they would end by themselves, but a moment later."""
    for each in _nurseries.values():
        each.end()
