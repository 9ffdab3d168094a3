"""What code in a kernel may not reach. Each probe is tried for real, in the middle of a hidden case."""

from tests.attacks.entry import Probe

FILES = "Reading what is not the student's"
NETWORK = "Reaching other processes and the network"
WRITING = "Writing outside the scratch folder"
KERNEL = "Breaking out through the kernel"
RIGHTS = "What a kernel may still do"


def _reads(name: str, tries: str, path: str, control: str = "always") -> Probe:
    return Probe(name, FILES, tries, f"return repr(open({path}, 'rb').read(20))", control)


READING = [
    _reads("read-gradebook", "Opens the gradebook.", "TARGET['gradebook']"),
    _reads("read-solution", "Opens the week's solution.", "TARGET['solution']"),
    _reads("read-hidden-cases", "Opens the hidden cases and their answers.", "TARGET['hidden']"),
    _reads("read-secret-seed", "Opens the seed from which hidden cases are drawn.", "TARGET['secret']"),
    _reads("read-other-submission", "Opens another student's submission.", "TARGET['other']"),
    _reads("read-heldout-data", "Opens the data on which trained models are scored.", "TARGET['heldout']"),
    _reads("read-engine", "Opens the grader's own source.", "TARGET['engine']"),
    _reads("read-attack-suite", "Opens this list of attacks.", "TARGET['attacks']"),
    _reads("read-shadow", "Opens the machine's password file.", "'/etc/shadow'", "root"),
    _reads("read-users", "Opens the machine's list of users.", "'/etc/passwd'"),
    Probe(
        "read-through-dots",
        FILES,
        "Climbs out of its folder by `..` and links, also through /proc/self/cwd and /proc/self/root.",
        """
        os.symlink(TARGET['gradebook'], 'link')
        try:
            for path in ('link', '/proc/self/cwd/../../..' + TARGET['gradebook'], '/proc/self/root' + TARGET['gradebook'],
                         '/proc/1/root' + TARGET['gradebook'], '../' * 20 + TARGET['gradebook'][1:]):
                try:
                    return open(path, 'rb').read(20)
                except OSError:
                    pass
        finally:
            os.unlink('link')
        """,
    ),
    Probe(
        "read-homes",
        FILES,
        "Lists the home folders of the machine's users.",
        """
        home = os.environ.get("HOME", "")
        there = [path for path in glob.glob("/home/*") + glob.glob("/root/*") if not home.startswith(path)]
        return [path for path in there if not sys.prefix.startswith(path) and not sys.base_prefix.startswith(path)]
        """,
        "root",
    ),
    Probe(
        "read-environment",
        FILES,
        "Looks for a password of the grader's in its own environment and in that of every process it can see.",
        """
        blobs = [open(path, 'rb').read() for path in glob.glob('/proc/[0-9]*/environ') if os.access(path, os.R_OK)]
        blobs += [b' '.join(os.environb.values())]
        return "the password" if any(TARGET['password'].encode() in blob for blob in blobs) else ""
        """,
        "",
    ),
    Probe(
        "read-hidden-answers-in-memory",
        FILES,
        "Looks through all objects and all frames for the right answer to the case that it is just asked.",
        """
        frame, case = sys._getframe(), None
        while frame and case is None:
            found = frame.f_locals.get('a')
            case = found if isinstance(found, tuple) and len(found) == 6 else None
            frame = frame.f_back
        x, h, w_ih, w_hh, b_ih, b_hh = case
        right = torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
        for thing in gc.get_objects():
            values = list(thing.values()) if type(thing) is dict else thing if type(thing) in (list, tuple) else [thing]
            for value in values:
                if isinstance(value, torch.Tensor) and value is not right and value.shape == right.shape:
                    if torch.allclose(value, right, atol=1e-4):
                        return "the right answer"
        """,
        "",
    ),
    Probe(
        "read-cases-ahead",
        FILES,
        "Looks in its folders for cases that it has not been asked yet, and for answers or mistakes beside them.",
        """
        import course
        found, public = [], os.path.dirname(os.path.realpath(course.__file__))  # the public cases, where it lies below /tmp
        for top in (os.getcwd(), os.environ.get('HOME', '/nowhere'), '/tmp', '/dev/shm', '/run', '/var'):
            for folder, folders, names in os.walk(top):
                folders[:] = [name for name in folders if os.path.join(folder, name) not in (public, sys.prefix)]
                paths = [os.path.join(folder, name) for name in names if name.endswith('.json')]
                found += [os.path.realpath(p) for p in paths if '"upstream"' in open(p, errors='replace').read(10**6)]
        told = any('"tolerance"' in open(path).read() for path in found)
        return "answers" if told else f"{len(set(found))} cases" if len(set(found)) > 1 else ""
        """,
        "",
    ),
]

REACHING = [
    Probe(
        "connect-loopback",
        NETWORK,
        "Connects to a TCP port of the machine's loopback.",
        "return socket.create_connection(('127.0.0.1', TARGET['port']), 2) and 'connected'",
    ),
    Probe(
        "connect-udp",
        NETWORK,
        "Sends a datagram to the machine's loopback.",
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            s.connect(('127.0.0.1', TARGET['port']))
            s.send(b'x')
            s.send(b'x')  # where nobody listens, the second one says so
            return 'sent'
        """,
    ),
    Probe(
        "connect-beyond",
        NETWORK,
        "Sends datagrams and connects to addresses beyond the machine.",
        """
        for address in ('192.0.2.1', '198.51.100.7', '8.8.8.8'):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                try:
                    return s.sendto(b'x', (address, 53)) and f'sent to {address}'
                except OSError:
                    pass
        """,
        "",
    ),
    Probe(
        "network-interfaces",
        NETWORK,
        "Looks for a network interface other than loopback.",
        "return [name for _, name in socket.if_nameindex() if name != 'lo']",
        "",
    ),
    Probe(
        "raw-socket",
        NETWORK,
        "Opens a raw socket and a packet socket.",
        """
        for family in (socket.AF_INET, socket.AF_PACKET):
            try:
                return socket.socket(family, socket.SOCK_RAW, 1) and 'raw socket'
            except OSError:
                pass
        """,
        "root",
    ),
    Probe(
        "vsock",
        NETWORK,
        "Opens a socket to the hypervisor.",
        "return socket.socket(40, socket.SOCK_STREAM) and 'vsock'",
        "",
    ),
    Probe(
        "connect-abstract-socket",
        NETWORK,
        "Connects to an abstract Unix socket of a process outside.",
        """
        with socket.socket(socket.AF_UNIX) as s:
            s.connect('\\0' + TARGET['token'])
            return 'connected'
        """,
    ),
    Probe(
        "connect-named-socket",
        NETWORK,
        "Connects to a Unix socket by its path.",
        """
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(TARGET['socket'])
            return 'connected'
        """,
    ),
    Probe(
        "other-kernels-sockets",
        NETWORK,
        "Looks for the sockets and connection files of other kernels.",
        """
        from ipykernel.connect import get_connection_file
        path = get_connection_file()
        own = {os.path.dirname(os.path.realpath(path)), os.path.dirname(json.load(open(path))['ip'])}
        found = []
        for top in ('/tmp', '/run', '/var', '/dev/shm', os.path.expanduser('~')):
            for folder, folders, names in os.walk(top):
                folders[:] = [name for name in folders if os.path.join(folder, name) != sys.prefix]
                for name in names:
                    path = os.path.join(folder, name)
                    if os.path.dirname(os.path.realpath(path)) in own:
                        continue
                    if 'connection' in name or 'kernel-' in name or (os.path.exists(path) and not os.path.isfile(path)):
                        found.append(path)
        return found[:2]
        """,
        "",
    ),
    Probe(
        "see-processes",
        NETWORK,
        "Looks for the grader among the processes in /proc.",
        "return os.path.exists(f\"/proc/{TARGET['pid']}/cmdline\") and 'the grader'",
        "",
    ),
    Probe(
        "signal-grader",
        NETWORK,
        "Sends a signal to the grader's process.",
        "os.kill(TARGET['pid'], 0)\nreturn 'the grader'",
    ),
    Probe(
        "count-processes",
        NETWORK,
        "Looks for processes that are not its own: there may be the kernel, its first process and itself.",
        """
        names = [name for name in os.listdir('/proc') if name.isdigit()]
        return f'{len(names)} processes' if len(names) > 6 else ''
        """,
        "",
    ),
    Probe(
        "read-grader-memory",
        NETWORK,
        "Reads the grader's memory with process_vm_readv and /proc/PID/mem.",
        """
        try:
            return open(f"/proc/{TARGET['pid']}/mem", 'rb') and '/proc/PID/mem'
        except OSError:
            pass
        here, size = ctypes.create_string_buffer(8), ctypes.c_size_t(8)
        pair = (ctypes.c_void_p * 2)(ctypes.addressof(here), 8)
        must(libc.process_vm_readv(TARGET['pid'], pair, 1, pair, 1, 0))
        return 'process_vm_readv'
        """,
        "root",
    ),
    Probe(
        "inherited-descriptors",
        NETWORK,
        "Looks for open files and nameless sockets that the kernel has inherited.",
        """
        own = (os.getcwd(), '/dev/null', '/dev/pts', 'pipe:', 'anon_inode:', '/dev/urandom', '/memfd', '/proc', '/usr')
        own += (sys.prefix, sys.base_prefix, os.path.expanduser('~'))
        for fd in map(int, os.listdir('/proc/self/fd')):
            try:
                path = os.readlink(f'/proc/self/fd/{fd}')
            except OSError:
                continue
            if not path.startswith('socket:'):
                if not path.startswith(own):
                    return f'{fd} is {path}'
                continue
            s = socket.socket(fileno=os.dup(fd))
            if s.family != socket.AF_UNIX:
                continue  # ipykernel listens to itself on loopback
            pid = struct.unpack('3i', s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            nameless = not s.getsockname() and pid != -1
            try:
                nameless = nameless and not s.getpeername()
            except OSError:
                nameless = False
            if nameless and pid not in (1, os.getppid()):  # process 1 makes the line that cases come over
                return f'{fd} is a socket made by process {pid}'
        """,
        "",
    ),
]


def _writes(name: str, tries: str, path: str, control: str = "") -> Probe:
    code = f"with open({path}, 'ab') as file:\n    return file.name"
    return Probe(name, WRITING, tries, code, control)


WRITES = [
    _writes("write-gradebook", "Opens the gradebook for writing.", "TARGET['gradebook']", "always"),
    _writes(
        "write-canary", "Opens a file for writing that anybody on the machine may write.", "TARGET['canary']", "always"
    ),
    _writes("write-outside", "Makes a file in a folder where anybody may.", "TARGET['outside'] + '/evil'"),
    _writes("write-course", "Opens the package `course` for writing.", "__import__('course').__file__"),
    _writes("write-torch", "Opens a library's code for writing.", "torch.__file__"),
    _writes("write-python", "Makes a file beside Python.", "os.path.join(sys.prefix, 'evil')"),
    _writes("write-usr", "Makes a file in /usr.", "'/usr/evil'"),
    _writes("write-etc", "Makes a file in /etc.", "'/etc/evil'"),
    _writes("write-root", "Makes a file in the root folder.", "'/evil'"),
    _writes(
        "write-core-pattern",
        "Opens /proc/sys/kernel/core_pattern for writing.",
        "'/proc/sys/kernel/core_pattern'",
        "root",
    ),
    _writes("write-sysrq", "Opens /proc/sysrq-trigger for writing.", "'/proc/sysrq-trigger'", ""),
    Probe(
        "write-sys",
        WRITING,
        "Opens files below /sys and /proc/sys for writing.",
        """
        for top in ('/sys/kernel', '/sys/class', '/sys/devices/system', '/sys/fs', '/proc/sys'):
            for folder, _, names in os.walk(top):
                for name in names[:20]:
                    path = os.path.join(folder, name)
                    try:
                        os.close(os.open(path, os.O_WRONLY))
                        return path
                    except OSError:
                        pass
        """,
        "",
    ),
    Probe(
        "raise-own-limits",
        WRITING,
        "Makes itself the last to be killed when memory runs out.",
        "os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-900')\nreturn 'oom_score_adj'",
        "",
    ),
    Probe(
        "devices",
        WRITING,
        "Opens disks, memory and the kernel's log, and makes a device file of its own.",
        """
        for path in ('/dev/mem', '/dev/kmsg', '/dev/fuse', '/dev/kvm', '/dev/net/tun', '/dev/loop-control',
                     *glob.glob('/dev/vd*'), *glob.glob('/dev/sd*'), *glob.glob('/dev/nvme*')):
            try:
                os.close(os.open(path, os.O_RDONLY))
                return path
            except OSError:
                pass
        os.mknod('device', 0o600 | 0o020000, os.makedev(1, 3))
        os.unlink('device')
        return 'mknod'
        """,
        "root",
    ),
    Probe(
        "root-files",
        WRITING,
        "Leaves a program that runs with its owner's rights.",
        """
        shutil.copy('/bin/true', 'suid')
        os.chmod('suid', 0o4755)
        flags = os.statvfs('suid').f_flag
        os.unlink('suid')
        return '' if flags & os.ST_NOSUID else 'a set-user-id file'
        """,
        "",
    ),
]

NEW_NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}


def _unshare(kind: str, flag: int) -> Probe:
    article = "an" if kind == "ipc" else "a"
    return Probe(
        f"new-{kind}-namespace",
        KERNEL,
        f"Makes {article} {kind} namespace of its own.",
        f"must(libc.unshare({flag}))\nreturn 'a new {kind} namespace'",
        "always" if kind == "user" else "root",
    )


SYSCALLS = [
    Probe(
        "remount-root",
        KERNEL,
        "Remounts the root file system for writing.",
        "must(libc.mount(None, b'/', None, 32 | 4096, None))\nreturn 'remounted'",
        "",
    ),
    Probe(
        "remount-usr",
        KERNEL,
        "Remounts /usr for writing.",
        "must(libc.mount(None, b'/usr', None, 32 | 4096, None))\nreturn 'remounted'",
        "",
    ),
    Probe(
        "umount",
        KERNEL,
        "Unmounts what lies over /proc, /tmp and its own folder.",
        """
        for path in (b'/proc', b'/tmp', b'/dev', os.getcwd().encode()):
            if libc.umount2(path, 2) == 0:
                return path
        """,
        "",
    ),
    Probe(
        "mount-tmpfs",
        KERNEL,
        "Mounts a file system without a size limit.",
        "os.makedirs('m', exist_ok=True)\nmust(libc.mount(b'none', b'm', b'tmpfs', 0, None))\nreturn 'mounted'",
        "",
    ),
    *(_unshare(kind, flag) for kind, flag in NEW_NAMESPACES.items()),
    Probe(
        "new-user-namespace-by-clone",
        KERNEL,
        "Makes a user namespace by clone and by clone3.",
        """
        pid = libc.syscall(220 if ARM else 56, 0x10000000 | 17, 0, 0, 0, 0)
        if pid < 0:
            arguments = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17, 0, 0, 0)
            pid = libc.syscall(435, arguments, ctypes.sizeof(arguments))
        if pid == 0:
            os._exit(0)
        return f'process {pid} in a new user namespace' if pid > 0 else ''
        """,
    ),
    Probe(
        "mount-in-user-namespace",
        KERNEL,
        "Mounts by the programs `unshare` and `mount` in a user namespace of its own.",
        """
        done = subprocess.run(['unshare', '--user', '--map-root-user', '--mount', 'mount', '-t', 'tmpfs', 'none', '/tmp'],
                              capture_output=True, timeout=4)
        return 'mounted' if done.returncode == 0 else ''
        """,
    ),
    Probe(
        "new-mount-api",
        KERNEL,
        "Mounts by fsopen, open_tree, move_mount and mount_setattr.",
        """
        for number, arguments in ((430, (b'tmpfs', 0)), (428, (-100, b'/', 1)), (442, (-100, b'/', 0, None, 0))):
            if libc.syscall(number, *arguments) >= 0:
                return f'system call {number}'
        """,
        "root",
    ),
    Probe(
        "setns",
        KERNEL,
        "Enters the namespaces of other processes.",
        """
        for path in glob.glob('/proc/self/ns/*') + glob.glob('/proc/1/ns/*'):
            if os.access(path, os.R_OK) and libc.setns(os.open(path, os.O_RDONLY), 0) == 0:
                return path
        """,
        "root",
    ),
    Probe(
        "ptrace",
        KERNEL,
        "Attaches to the kernel's process as a debugger.",
        """
        if libc.ptrace(16, os.getppid(), 0, 0) == 0:
            os.waitpid(os.getppid(), 0x40000000)
            libc.ptrace(17, os.getppid(), 0, 0)
            return 'attached'
        must(libc.ptrace(0, 0, 0, 0))
        return 'may be traced'
        """,
    ),
    Probe("chroot", KERNEL, "Changes its root folder.", "os.chroot('.')\nreturn 'changed'", "root"),
    Probe(
        "pivot-root",
        KERNEL,
        "Exchanges its root folder.",
        "call(155, 41, b'.', b'.')\nreturn 'exchanged'",
        "",
    ),
    Probe(
        "keyctl",
        KERNEL,
        "Joins the session's keyring and adds a key to it.",
        """
        for x86, arm, arguments in ((250, 219, (1, None)), (248, 217, (b'user', b'evil', b'x', 1, -3))):
            if libc.syscall(arm if ARM else x86, *arguments) >= 0:
                return 'a keyring'
        """,
    ),
    Probe(
        "io-uring",
        KERNEL,
        "Sets up io_uring, which goes around filters of system calls.",
        "return f'descriptor {call(425, 425, 4, ctypes.create_string_buffer(240))}'",
        "",
    ),
    Probe(
        "bpf",
        KERNEL,
        "Loads a program into the kernel by bpf.",
        """
        attributes = struct.pack('IIII', 2, 4, 8, 1).ljust(128, b'\\0')
        return f'descriptor {call(321, 280, 0, attributes, len(attributes))}'
        """,
        "",
    ),
    Probe(
        "perf-event-open",
        KERNEL,
        "Counts events of the processor by perf_event_open.",
        """
        attributes = struct.pack('IIQ', 1, 128, 0).ljust(40, b'\\0') + struct.pack('Q', 0x61)
        return f'descriptor {call(298, 241, attributes.ljust(128, bytes(1)), 0, -1, -1, 0)}'
        """,
        "",
    ),
    Probe(
        "userfaultfd",
        KERNEL,
        "Takes page faults into its own hands by userfaultfd.",
        "return f'descriptor {call(323, 282, 1)}'",
        "",
    ),
    Probe(
        "pidfd-getfd",
        KERNEL,
        "Takes open files out of other processes by pidfd_getfd.",
        """
        for pid in (1, os.getppid(), TARGET['pid']):
            pidfd = libc.syscall(434, pid, 0)
            if pidfd >= 0:
                fd = libc.syscall(438, pidfd, 0, 0)
                if fd >= 0:
                    return f'descriptor 0 of process {pid}'
        """,
    ),
    Probe(
        "process-vm-writev",
        KERNEL,
        "Writes into the memory of the kernel's process.",
        """
        text = ctypes.create_string_buffer(b'12345678')
        pair = (ctypes.c_void_p * 2)(ctypes.addressof(text), 8)
        must(libc.process_vm_writev(os.getppid(), pair, 1, pair, 1, 0))
        return 'written'
        """,
    ),
    Probe(
        "open-by-handle",
        KERNEL,
        "Opens files by handles, past every folder's rights.",
        """
        handle, mount = ctypes.create_string_buffer(struct.pack('Ii', 128, 0), 136), ctypes.c_int()
        must(libc.name_to_handle_at(-100, b'/usr', handle, ctypes.byref(mount), 0))
        fd = os.open('/', os.O_RDONLY)
        return f'descriptor {must(libc.open_by_handle_at(fd, handle, 0))}'
        """,
        "",
    ),
    Probe(
        "terminal-input",
        KERNEL,
        "Types into the grader's terminal by TIOCSTI.",
        """
        import fcntl
        for path in ('/dev/tty', '/proc/self/fd/0', '/dev/console'):
            try:
                fcntl.ioctl(os.open(path, os.O_RDWR), 0x5412, b'x')
                return path
            except OSError:
                pass
        """,
        "",
    ),
    Probe(
        "load-module",
        KERNEL,
        "Loads a module into the kernel.",
        "call(175, 105, b'', 0, b'')\nreturn 'loaded'",
        "",
    ),
    Probe(
        "set-clock",
        KERNEL,
        "Sets the machine's clock.",
        "time.clock_settime(time.CLOCK_REALTIME, time.time())\nreturn 'set'",
        "",
    ),
    Probe(
        "set-host-name",
        KERNEL,
        "Renames the machine.",
        "socket.sethostname(socket.gethostname())\nreturn 'renamed'",
        "root",
    ),
    Probe(
        "swap-and-accounting",
        KERNEL,
        "Starts process accounting and swapping on files of its own.",
        """
        open('file', 'wb').write(bytes(65536))
        for name in ('acct', 'swapon'):
            if getattr(libc, name)(b'file', 0) == 0:
                return name
        """,
        "",
    ),
]

STATE = [
    Probe(
        "capabilities",
        RIGHTS,
        "Looks for a capability in any of its sets.",
        """
        sets = {name: status(name) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')}
        return {name: value for name, value in sets.items() if int(value, 16)}
        """,
        "root",
    ),
    Probe(
        "no-new-privileges",
        RIGHTS,
        "Looks whether programs that it starts could gain rights.",
        "return '' if status('NoNewPrivs') == '1' else 'they could'",
        "",
    ),
    Probe(
        "seccomp",
        RIGHTS,
        "Looks whether its system calls go unfiltered.",
        "return '' if status('Seccomp') == '2' else 'they do'",
        "",
    ),
    Probe(
        "set-user",
        RIGHTS,
        "Becomes another user.",
        """
        for call in (os.setuid, os.setgid):
            for number in (0, 1, 65534):
                if number not in (os.getuid(), os.getgid()):
                    try:
                        call(number)
                        return f'{call.__name__}({number})'
                    except OSError:
                        pass
        os.setgroups([0])
        return 'setgroups'
        """,
        "root",
    ),
    Probe(
        "raise-limits",
        RIGHTS,
        "Raises its own hard limits.",
        """
        for name in ('AS', 'CPU', 'FSIZE', 'NOFILE', 'NPROC', 'DATA', 'CORE', 'MEMLOCK'):
            which = getattr(resource, 'RLIMIT_' + name)
            soft, hard = resource.getrlimit(which)
            if hard == resource.RLIM_INFINITY:
                continue
            try:
                resource.setrlimit(which, (soft, hard + 4096))
                return name
            except (OSError, ValueError):
                pass
        """,
        "",
    ),
    Probe(
        "core-dumps",
        RIGHTS,
        "Looks whether a crash would write a core file.",
        "return '' if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 'it would'",
        "",
    ),
    Probe(
        "priority",
        RIGHTS,
        "Takes the processor from the others by priority and real-time scheduling.",
        """
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            return 'real time'
        except OSError:
            return f'nice {os.nice(-5)}'
        """,
        "root",
    ),
    Probe(
        "lock-memory",
        RIGHTS,
        "Locks 256 MB of memory in place.",
        """
        block = mmap.mmap(-1, 256 * 2**20)
        must(libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(block))), ctypes.c_size_t(256 * 2**20)))
        return 'locked'
        """,
        "",
    ),
]

PROBES = [*READING, *REACHING, *WRITES, *SYSCALLS, *STATE]
