"""A program that tries what a service should not be able to do, and prints what it could: a Python dictionary.

It runs below a unit (test_hardened_service.py), on a plain Python without any package. The test has made the files that
it tries to read, and the rest that it needs. It imports little, as dozens of it start in a slow emulator.
"""

import _socket
import ctypes
import mmap
import os
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PORT = 47000
SHARED_KEY = 0x4857
PTRACE_TRACEME, ADDR_NO_RANDOMIZE, SYSLOG_READ_ALL = 0, 0x0040000, 3
GPIO_GET_CHIPINFO, I2C_FUNCS = 0x8044B401, 0x0705


def call(function, *arguments):
    """Call a function of libc, and raise OSError where it returns -1."""
    result = getattr(LIBC, function)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def in_child(attempt):
    """Try it in another process, which it may change or end."""
    child = os.fork()
    if not child:
        try:
            attempt()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise OSError(0, f"signal {os.WTERMSIG(status)}")
    if os.WEXITSTATUS(status):
        raise OSError(os.WEXITSTATUS(status), os.strerror(os.WEXITSTATUS(status)))


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def read(path):
    with open(path, "rb") as file:
        return file.read(16)


def own_file(mode):
    path = f"file-{mode:o}"
    write(path, "")
    if mode:
        os.chmod(path, mode)
    return os.stat(path).st_mode


def readable_by_others():
    if not own_file(0) & 0o077:
        raise PermissionError(0, "nobody else may read it")


def execute(code):
    """Execute machine code, in memory that is writable and executable at once."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def connect():
    client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    client.settimeout(3)
    client.connect(("127.0.0.1", PORT))
    client.close()


def become_root():
    reading, writing = os.pipe()

    def identify():
        os.dup2(writing, 1)
        os.execv("/usr/local/bin/probe-id", ["id", "-u"])

    in_child(identify)
    if os.read(reading, 16).strip() != b"0":
        raise PermissionError(0, "the setuid bit has no effect")


ATTEMPTS = {
    "read a file of root": lambda: read("/etc/shadow"),
    "become root by a setuid program": become_root,
    "use a capability": lambda: in_child(lambda: os.chroot("/")),
    "open a device that everybody may open": lambda: os.open("/dev/probe", os.O_RDONLY),
    "connect to a server": connect,
    "write where everybody may write": lambda: write(f"/var/probe/{os.getpid()}", ""),
    "read a file in /home": lambda: read("/home/probe/file"),
    "read a file in /tmp": lambda: read("/tmp/probe"),
    "leave a file that others can read": readable_by_others,
    "see other processes": lambda: read("/proc/1/cmdline"),
    "change a setting of the kernel": lambda: write("/sys/module/printk/parameters/time", "1"),
    "see the kernel's modules": lambda: os.listdir("/usr/lib/modules"),
    "read the kernel's log": lambda: call("klogctl", SYSLOG_READ_ALL, ctypes.create_string_buffer(64), 64),
    "make a control group": lambda: os.mkdir(f"/sys/fs/cgroup/probe/{os.getpid()}"),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "rename the machine": lambda: _socket.sethostname(_socket.gethostname()),
    "use shared memory of others": lambda: call("shmget", SHARED_KEY, 0, 0),
    "make a namespace": lambda: in_child(lambda: call("unshare", 0x10000000)),
    "make a setuid program": lambda: own_file(0o4755),
    "get real time": lambda: in_child(lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))),
    "turn off the randomization of addresses": lambda: in_child(lambda: call("personality", ADDR_NO_RANDOMIZE)),
    "execute memory that it has written": lambda: execute(b"\xc3"),
    "call the kernel as a 32-bit program": lambda: in_child(lambda: execute(bytes.fromhex("b814000000cd80c3"))),
    "call what services do not need": lambda: in_child(lambda: call("ptrace", PTRACE_TRACEME, 0, 0, 0)),
    "choose its processors": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
}


def ioctl(path, request):
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, request, bytearray(72))
    os.close(descriptor)


def possible():
    """Return the names of the attempts that succeed."""
    found = []
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except OSError:
            continue
        found.append(name)
    return sorted(found)


def devices(chip):
    """Try the devices of a Raspberry Pi, and return the error for each."""
    found = {}
    opened = {
        chip: lambda: ioctl(chip, GPIO_GET_CHIPINFO),
        "/dev/i2c-0": lambda: ioctl("/dev/i2c-0", I2C_FUNCS),
        "/dev/ttyS1": lambda: os.close(os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)),
        "/dev/spidev0.0": lambda: os.close(os.open("/dev/spidev0.0", os.O_RDWR)),
        "/sys/devices/platform": lambda: write(os.environ["PROBE_SYSFS"], "pull-down"),
    }
    for name, attempt in opened.items():
        try:
            attempt()
            found[name] = "open"
        except OSError as error:
            found[name] = error.strerror
    return found


def secret():
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return read(f"{directory}/secret").decode() if directory else ""


if __name__ == "__main__":
    said = {"possible": possible(), "devices": devices(sys.argv[1]), "secret": secret(), "user": os.getuid()}
    write(f"/dev/shm/probe-{os.getpid()}", "")
    print(said | {"process": os.getpid()})
