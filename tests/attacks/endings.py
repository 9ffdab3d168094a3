"""Code that will not end, that ends too early, that outlives its kernel, and that uses up the machine.

Sizes are such that a defence that fails does not take the machine down: each stops by itself.
"""

from tests.attacks.entry import OTHERS, Entry, Seen, attack

ENDING = "Ending the kernel, or never ending"
OUTLIVING = "Outliving the kernel"
USING = "Using up the machine"
FLOODING = "Flooding the grader"
TALKING = "Talking to other kernels"

MEMORY = 6 * 2**30
PROCESSES = 2000
DISK = 2**30


def _step(*lines: str) -> str:
    return "\n    ".join(["def rnn_step(x, h, *a):", *lines]) + "\n"


ENDS = [
    attack(
        "os-exit",
        ENDING,
        "Ends the process by `os._exit`, as if all were well.",
        step=_step("os._exit(0)"),
        status="crashed",
    ),
    attack(
        "exit-in-a-cell",
        ENDING,
        "Ends the process in a cell of its own, so that later cells and checks would not run.",
        "os._exit(0)",
    ),
    attack(
        "system-exit-in-a-cell", ENDING, "Raises SystemExit in a cell of its own.", "raise SystemExit(0)", raises=True
    ),
    attack(
        "keyboard-interrupt-in-a-cell",
        ENDING,
        "Raises KeyboardInterrupt in a cell of its own.",
        "raise KeyboardInterrupt",
        raises=True,
    ),
    attack(
        "segmentation-fault",
        ENDING,
        "Reads memory that is not there.",
        step=_step("ctypes.string_at(1)"),
        status="crashed",
    ),
    attack("kills-itself", ENDING, "Kills its own process.", step=_step("os.kill(os.getpid(), 9)"), status="crashed"),
    attack(
        "kills-all",
        ENDING,
        "Sends SIGKILL to every process that it may, and to its parent, its group and process 1.",
        step=_step(
            "for target in (os.getppid(), 1):",
            "    try:",
            "        target and os.kill(target, signal.SIGKILL)",
            "    except OSError:",
            "        pass",
            "os.kill(-1, signal.SIGKILL)",
            "time.sleep(2)",
            "return torch.zeros_like(h)",
        ),
        status="refused",
    ),
    attack(
        "stops-itself",
        ENDING,
        "Stops its own process by SIGSTOP, so that it neither ends nor goes on.",
        step=_step("os.kill(os.getpid(), signal.SIGSTOP)", "return torch.zeros_like(h)"),
        status="timeout|crashed|wrong",
    ),
    attack(
        "ignores-interrupts",
        ENDING,
        "Loops without end and catches every exception and signal.",
        "for number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass",
        step=_step(
            "while True:",
            "    try:",
            "        while True:",
            "            pass",
            "    except BaseException:",
            "        pass",
        ),
        status="timeout",
    ),
    attack(
        "loops-in-c",
        ENDING,
        "Computes for ever inside one C function that never lets Python look at signals.",
        step=_step("return pow(7, 10**9, 2**(10**7) + 1)"),
        status="timeout|crashed",
    ),
    attack(
        "loops-in-a-cell",
        ENDING,
        "Loops without end in a cell of its own and catches every exception.",
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
    ),
    attack("sleeps", ENDING, "Sleeps for a day.", step=_step("time.sleep(86400)"), status="timeout"),
    attack(
        "closes-its-sockets",
        ENDING,
        "Closes the sockets through which the grader talks to it, and goes on.",
        step=_step(
            "for fd in range(3, 200):",
            "    try:",
            "        os.close(fd) if os.readlink(f'/proc/self/fd/{fd}').startswith('socket') else None",
            "    except OSError:",
            "        pass",
            "return torch.zeros_like(h)",
        ),
        status="refused",
    ),
    attack(
        "removes-its-sockets",
        ENDING,
        "Deletes its sockets' files, writes nonsense into its connection file, and ends.",
        "from ipykernel.connect import get_connection_file\n"
        "try:\n    path = get_connection_file()\n    for name in os.listdir(os.path.dirname(path)):\n"
        "        os.unlink(os.path.join(os.path.dirname(path), name))\n"
        '    open(path, \'w\').write(\'{"ip": "192.0.2.1", "shell_port": 22, "key": ""}\')\n'
        "except OSError:\n    pass\nos._exit(0)",
    ),
    attack(
        "interrupts-in-a-drive",
        ENDING,
        "Raises KeyboardInterrupt from a timer, again and again, in the middle of the grader's own code.",
        step=_step(
            "def interrupt(*a):",
            "    raise KeyboardInterrupt",
            "signal.signal(signal.SIGALRM, interrupt)",
            "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)",
            "return torch.zeros_like(h)",
        ),
        status="refused",
        also=dict.fromkeys(OTHERS, "passed|error|crashed|timeout"),
    ),
    attack(
        "forks-and-both-return",
        ENDING,
        "Forks in the middle of a case, and both processes go on as the kernel.",
        step=_step("os.fork()", "return torch.zeros_like(h)"),
        status="refused",
        also=dict.fromkeys(OTHERS, "passed|error|crashed|timeout"),
    ),
    attack(
        "threads-that-stay",
        ENDING,
        "Leaves four threads that compute without end beside every later case.",
        "def burn():\n    while True:\n        sum(range(1000))\n\n\nfor _ in range(4):\n"
        "    threading.Thread(target=burn).start()",
        also=dict.fromkeys(OTHERS, "passed|timeout"),
        status="wrong|timeout",
    ),
]

DAEMON = """
def daemon(work):
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            branded()
            try:
                work()
            finally:
                os._exit(0)
        os._exit(0)
"""

OUTLIVES = [
    attack(
        "daemon",
        OUTLIVING,
        "Starts a daemon, in a session of its own, that ignores signals and lives for ten minutes.",
        DAEMON,
        "daemon(lambda: time.sleep(600))",
    ),
    attack(
        "daemon-that-kills-the-next",
        OUTLIVING,
        "A daemon keeps killing every other Python process that it sees.",
        DAEMON,
        "def hunt():\n    for _ in range(100):\n"
        "        for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):\n"
        "            if pid not in (1, os.getpid(), os.getppid()) and pid != KERNEL:\n                try:\n"
        "                    os.kill(pid, 9)\n                except OSError:\n                    pass\n"
        "        time.sleep(0.1)\n\n\n"
        "KERNEL = os.getpid()\ndaemon(hunt)",
    ),
    attack(
        "burning-children",
        OUTLIVING,
        "Leaves eight processes that compute without end.",
        DAEMON,
        "def burn():\n    end = time.monotonic() + 300\n    while time.monotonic() < end:\n        pass\n\n\n"
        "for _ in range(8):\n    daemon(burn)",
        status="wrong|timeout|crashed",
        also=dict.fromkeys(OTHERS, "passed|timeout|crashed"),
    ),
    attack(
        "files-that-stay",
        OUTLIVING,
        "Leaves files in /tmp, /dev/shm, /var/tmp and its home folder.",
        "for folder in ('/tmp', '/dev/shm', '/var/tmp', '/run', os.path.expanduser('~')):\n    try:\n"
        "        open(os.path.join(folder, TARGET['token']), 'w').write('here')\n    except OSError:\n        pass",
    ),
    attack(
        "exit-handlers",
        OUTLIVING,
        "Leaves exit handlers, threads and children that hold the kernel's end up for ten minutes.",
        "import atexit\natexit.register(time.sleep, 600)\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
        "subprocess.Popen(['sleep', '600'])\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    ),
    attack(
        "poisons-the-home-folder",
        OUTLIVING,
        "Writes start-up files of Python, IPython, Jupyter and matplotlib into the home folder, then ends the kernel.",
        "import site\nhome = os.path.expanduser('~')\nlines = 'import builtins; builtins.POISONED = True'\n"
        "for path in (site.getusersitepackages() + '/usercustomize.py', site.getusersitepackages() + "
        "'/sitecustomize.py',\n"
        "             site.getusersitepackages() + '/evil.pth', home + "
        "'/.ipython/profile_default/startup/00-evil.py',\n"
        "             home + '/ipython/profile_default/startup/00-evil.py', home + '/.pythonrc.py',\n"
        "             home + '/.jupyter/jupyter_config.py', home + '/sitecustomize.py', 'sitecustomize.py', "
        "'torch.py',\n"
        "             home + '/matplotlib/matplotlibrc'):\n    try:\n"
        "        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)\n"
        "        open(path, 'w').write('backend: evil' if path.endswith('rc') else lines)\n"
        "    except OSError:\n        pass\nimport builtins\nbuiltins.POISONED = True",
        also=dict.fromkeys(OTHERS, "passed|error|missing"),
        status="refused",
    ),
    attack(
        "poisoned-neighbour",
        OUTLIVING,
        "Looks, in a later submission's kernel, for what that one left: start-up files, modules, built-in names.",
        step=_step(
            "import builtins",
            "found = [p for p in (os.path.expanduser('~'), os.getcwd()) for _, _, names in os.walk(p) for n in "
            "names if 'evil' in n]",
            "poisoned = hasattr(builtins, 'POISONED') or found",
            "tell(poisoned=poisoned)",
        ),
        status="error",
        witness=lambda seen: "" if '"poisoned": []' in seen.evidence else f"it found {seen.evidence[:200]}",
    ),
]


def _stored(limit: float):
    """A witness: the code told how many MB it holds, and that is no more than `limit`; or it was ended before it could."""

    def witness(seen: Seen) -> str:
        if '"held"' not in seen.evidence:
            return "" if seen.verdict().status in ("crashed", "timeout") else f"it told nothing: {seen.evidence[:200]}"
        held = int(seen.evidence.split('"held": ')[1].split("}")[0].split(",")[0])
        return f"it holds {held} MB" if held > limit else ""

    return witness


def _fill(name: str, tries: str, *lines: str, limit: float, free: str = "pass", **more) -> Entry:
    """`lines` add MB, or a number, to `held`, and may raise where they can get no more; `free` makes room to tell of it."""
    step = _step(
        "held, keep = [0], []",
        "try:",
        *(f"    {line}" for line in lines),
        "except (OSError, MemoryError, RuntimeError, ValueError):",
        "    pass",
        free,
        "tell(held=held[0])",
    )
    return attack(name, USING, tries, step=step, status="error|crashed|timeout", witness=_stored(limit), **more)


USES = [
    _fill(
        "memory-bomb",
        "Allocates memory, page by page, to 6 GB.",
        f"while held[0] < {MEMORY // 2**20}:",
        "    keep.append(bytearray(b'x') * 2**26)",
        "    held[0] += 64",
        limit=3072,
    ),
    _fill(
        "memory-bomb-by-children",
        "Allocates memory in twelve processes of 512 MB each.",
        "for _ in range(12):",
        "    read, write = os.pipe()",
        "    if os.fork() == 0:",
        "        branded()",
        "        keep.append(bytearray(b'x') * 2**29)",
        "        os.write(write, b'x')",
        "        time.sleep(30)",
        "        os._exit(0)",
        "    os.close(write)",
        "    held[0] += 512 if os.read(read, 1) else 0",
        limit=3072,
    ),
    _fill(
        "memory-bomb-by-memfd",
        "Writes to anonymous files in memory, which no process's own memory counts, to 4 GB.",
        "while held[0] < 4096:",
        "    fd = os.memfd_create('evil')",
        "    for _ in range(4):",
        "        os.write(fd, bytes(2**26))",
        "        held[0] += 64",
        limit=3072,
    ),
    _fill(
        "memory-bomb-by-shared-memory",
        "Fills System V shared memory and lets go of it without deleting it, to 4 GB.",
        "libc.shmat.restype = ctypes.c_void_p",
        "while held[0] < 4096:",
        "    number = must(libc.shmget(0, ctypes.c_size_t(2**28), 0o1600))",
        "    at = libc.shmat(number, None, 0)",
        "    ctypes.memset(at, 1, 2**28)",
        "    libc.shmdt(ctypes.c_void_p(at))",
        "    held[0] += 256",
        limit=3072,
    ),
    _fill(
        "memory-bomb-by-sockets",
        "Fills the buffers of socket pairs and pipes, which are the system's memory, to 1 GB.",
        "while held[0] < 1024:",
        "    for _ in range(8):",
        "        a, b = socket.socketpair()",
        "        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)",
        "        a.setblocking(False)",
        "        keep.append((a, b))",
        "        try:",
        "            while True:",
        "                a.send(bytes(65536))",
        "        except BlockingIOError:",
        "            pass",
        "    held[0] += 1",
        limit=768,
        free="keep.clear()",
    ),
    _fill(
        "fork-bomb",
        f"Forks until it may not, or has {PROCESSES:,} processes.",
        f"while held[0] < {PROCESSES}:",
        "    if os.fork() == 0:",
        "        time.sleep(20)",
        "        os._exit(0)",
        "    held[0] += 1",
        limit=600,
        also=dict.fromkeys(OTHERS, "passed|error|crashed|timeout"),
    ),
    _fill(
        "thread-bomb",
        f"Starts threads until it may not, or has {PROCESSES:,}.",
        f"while held[0] < {PROCESSES}:",
        "    threading.Thread(target=time.sleep, args=(20,), daemon=True).start()",
        "    held[0] += 1",
        limit=600,
        also=dict.fromkeys(OTHERS, "passed|error|crashed|timeout"),
    ),
    _fill(
        "open-files",
        "Opens files until it may not, or has 100,000.",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)",
        "while held[0] < 100_000:",
        "    keep.append(os.open('/dev/null', os.O_RDONLY))",
        "    held[0] += 1",
        limit=70_000,
        free="[os.close(keep.pop()) for _ in range(100)]",
    ),
    *[
        _fill(
            f"fills-{name}",
            f"Fills {where} to 1 GB, in files of 64 MB.",
            f"folder = {folder}",
            f"while held[0] < {DISK // 2**20}:",
            "    with open(os.path.join(folder, f'fill-{held[0]}'), 'wb') as file:",
            "        for _ in range(64):",
            "            file.write(bytes(2**20))",
            "            file.flush()",
            "            held[0] += 1",
            limit=768,
            free="[os.unlink(path) for path in glob.glob(os.path.join(folder, 'fill-*'))]",
            also=dict.fromkeys(OTHERS, "passed|error|crashed"),
        )
        for name, where, folder in (
            ("working-folder", "its working folder", "os.getcwd()"),
            ("home-folder", "its home folder", "os.path.expanduser('~')"),
            ("tmp", "/tmp", "'/tmp'"),
            ("dev-shm", "/dev/shm", "'/dev/shm'"),
            ("root-folder", "the root folder", "'/'"),
        )
    ],
    _fill(
        "one-large-file",
        "Writes one file of 1 GB.",
        "with open('large', 'wb') as file:",
        "    while held[0] < 1024:",
        "        file.write(bytes(2**20))",
        "        file.flush()",
        "        held[0] += 1",
        limit=768,
        also=dict.fromkeys(OTHERS, "passed|error|crashed"),
    ),
    _fill(
        "many-small-files",
        "Makes 300,000 files without contents.",
        "for i in range(300_000):",
        "    os.close(os.open(f'small-{i}', os.O_CREAT))",
        "    held[0] += 1",
        limit=250_000,
        free="[os.unlink(f'small-{i}') for i in range(100)]",
        also=dict.fromkeys(OTHERS, "passed|error|crashed|timeout"),
    ),
    attack(
        "processor-time-in-children",
        USING,
        "Computes in eight processes at once for two minutes, while the cell waits.",
        step=_step(
            "for _ in range(8):",
            "    if os.fork() == 0:",
            "        branded()",
            "        end = time.monotonic() + 120",
            "        while time.monotonic() < end:",
            "            pass",
            "        os._exit(0)",
            "os.wait()",
            "return torch.zeros_like(h)",
        ),
        status="timeout|crashed|error|wrong",
        within=60,
    ),
]

FLOODS = [
    attack(
        "one-line-of-100-mb",
        FLOODING,
        "Prints one line of 100 MB.",
        "print('x' * 100_000_000)",
        step=_step("print('x' * 50_000_000)", "return torch.zeros_like(h)"),
        status="refused",
    ),
    attack(
        "a-million-lines",
        FLOODING,
        "Prints a million lines.",
        "for i in range(1_000_000):\n    print(i)",
    ),
    attack(
        "a-million-displays",
        FLOODING,
        "Displays a hundred thousand objects and pages of HTML.",
        "from IPython.display import HTML\nfor i in range(100_000):\n"
        "    display(HTML('<script>alert(1)</script>' * 10))",
    ),
    attack(
        "raw-descriptors",
        FLOODING,
        "Writes 200 MB to file descriptors 1 and 2 themselves, past Python.",
        "for _ in range(100):\n    os.write(1, bytes(2**20))\n    os.write(2, bytes(2**20))",
    ),
    attack(
        "waits-for-input",
        FLOODING,
        "Asks for input that nobody will type.",
        "input('your answer')",
        step=_step("input()", "return torch.zeros_like(h)"),
        raises=True,
        status="error|timeout",
    ),
    attack(
        "floods-in-the-background",
        FLOODING,
        "A thread prints without end while later cells and cases run.",
        "def flood():\n    for _ in range(3_000):\n        print('y' * 10_000)\n        time.sleep(0.001)\n\n\n"
        "threading.Thread(target=flood, daemon=True).start()",
    ),
]

NEIGHBOUR = """
def mark(channel):
    open(os.path.join(channel, TARGET['token'] + '-' + ME), 'w').write('here')


def there(channel):
    return any(TARGET['token'] in name and not name.endswith(ME) for name in os.listdir(channel))


ME = os.urandom(4).hex()
KEY = int(TARGET['token'][3:], 16) & 0x7fffffff
heard = set()
shell = socket.socket(socket.AF_UNIX)
try:
    shell.bind('\\0' + TARGET['token'] + '-kernel')
    shell.listen()
    first = True
except OSError:
    first = False
    heard.add('abstract socket')
server = socket.socket()
try:
    server.bind(('127.0.0.1', 20000 + KEY % 20000))
    server.listen()
except OSError:
    heard.add('port')
memory = libc.shmget(KEY, 4096, 0o1600 | 0o2000)
if memory < 0 and ctypes.get_errno() == errno.EEXIST:
    heard.add('shared memory')
for folder in ('/tmp', '/dev/shm', '/dev/mqueue', os.path.expanduser('~'), TARGET['outside'], '/var/tmp', '/run'):
    try:
        mark(folder)
    except OSError:
        pass
end = time.monotonic() + 3.5
while time.monotonic() < end:
    for folder in ('/tmp', '/dev/shm', '/dev/mqueue', os.path.expanduser('~'), '/var/tmp', '/run'):
        try:
            if there(folder):
                heard.add(folder)
        except OSError:
            pass
    time.sleep(0.05)
if memory >= 0:
    libc.shmctl(memory, 0, None)
"""

TALKS = [
    attack(
        name,
        TALKING,
        "Looks for another kernel of the same class by abstract sockets, ports, shared memory and shared folders"
        " (two submissions that run side by side).",
        NEIGHBOUR,
        step=_step("tell(heard=sorted(heard))"),
        status="error",
        witness=lambda seen: (
            "" if '"heard": []' in seen.evidence else f"it heard its neighbour by {seen.evidence[:200]}"
        ),
    )
    for name in ("neighbour-a", "neighbour-b")
]

ENDINGS = [*TALKS, *ENDS, *OUTLIVES, *FLOODS, *USES]
