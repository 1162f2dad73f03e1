#!/usr/bin/env python3
"""Boot the guest, run one command in it, pass on its output and status.

    python3 tests/kernel/guest/run.py [options] [--] COMMAND [ARGUMENT...]

The guest's root is this machine's, read-only, under an overlay that is gone afterwards: what COMMAND writes outside
/guest/out is lost, and it finds every file where it is here. It runs as root, on two emulated processors with 1 GiB,
with no network but loopback; stdin is empty. gpio-sim and configfs are there; i2c-stub waits in /guest/modules.

Now and then QEMU's emulation leaves a processor without interrupts: it sleeps for ever, and the other one waits for it.
No program can do that to a kernel. Each processor gives a sign of life every five seconds; where one gives none for a
minute, or the kernel panics before the command has begun, the guest is ended, and the command runs in a new one. That
is said on stderr.

Status: the command's own; 124 it took too long; 125 the guest did not come up, or stood still each time (its console
goes to stderr).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from enum import Enum
from pathlib import Path

from prepare import CACHE

MACHINE = (
    *("qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "Nehalem-v1"),
    *("-M", "pc,usb=off,vmport=off,hpet=off", "-smp", "2", "-m", "1024", "-no-reboot"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
    *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
)
KERNEL_ARGUMENTS = (
    "console=ttyS0 loglevel=4 panic=-1 reboot=k mitigations=off tsc=reliable random.trust_cpu=on nokaslr no_timer_check"
)
NO_GUEST, TIMED_OUT = 125, 124
TRIES = 3
SILENT_SECONDS = 60

Ending = Enum("Ending", ["POWER_OFF", "TIMEOUT", "STANDSTILL"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-t", "--timeout", type=float, default=300, help="seconds for it all, boot included (300)")
    parser.add_argument("-C", "--directory", default=os.getcwd(), help="where the command runs (the current directory)")
    parser.add_argument("-o", "--out", help="a directory of this machine that the guest may write: /guest/out")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="for the command")
    parser.add_argument("-S", "--systemd", action="store_true", help="systemd is the first process")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    command = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    if not command:
        parser.error("no command given")
    if not (CACHE / "stamp").exists():
        print("tests/kernel: there is no guest; run tests/kernel/guest/prepare.py first", file=sys.stderr)
        return NO_GUEST
    # Ended by a signal, leave no emulator behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
    environment |= dict(each.partition("=")[::2] for each in asked.env)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    steps = [*exports, f"cd {shlex.quote(os.path.abspath(asked.directory))} || exit 126", f"exec {shlex.join(command)}"]
    script = "\n".join(steps) + "\n"
    for attempt in range(1, TRIES + 1):
        with tempfile.TemporaryDirectory(prefix="hwloop-guest-") as scratch:
            job = Path(scratch)
            (job / "out").mkdir()
            (job / "command").write_text(script)
            ending = boot(job, asked.out or str(job / "out"), asked.systemd, asked.timeout)
            if (job / "status").exists():
                return int((job / "status").read_text())
            console = (job / "console").read_text(errors="replace") if (job / "console").exists() else ""
            begun = any(job.glob("alive-*"))
        if ending is Ending.POWER_OFF and not begun and "Kernel panic" in console:
            ending = Ending.STANDSTILL
        if ending is not Ending.STANDSTILL:
            break
        sys.stdout.flush()
        print(f"\ntests/kernel: the emulated machine stood still (attempt {attempt} of {TRIES})", file=sys.stderr)
    said = {
        Ending.POWER_OFF: "ended without a status",
        Ending.TIMEOUT: f"was stopped after {asked.timeout:g} s",
        Ending.STANDSTILL: "stood still each time",
    }
    print(f"tests/kernel: the guest {said[ending]}; its console:\n{console[-4000:]}", file=sys.stderr)
    return TIMED_OUT if ending is Ending.TIMEOUT else NO_GUEST


def boot(job: Path, out: str, systemd: bool, timeout: float) -> Ending:
    """Start the emulator and wait for its end, or end it after `timeout` seconds or when it stands still."""
    append = KERNEL_ARGUMENTS + (" systemd systemd.show_status=1" if systemd else "")
    arguments = [*MACHINE, "-kernel", str(CACHE / "kernel"), "-initrd", str(CACHE / "initramfs"), "-append", append]
    arguments += ["-chardev", f"file,id=console,path={job}/console", "-serial", "chardev:console"]
    for tag, path, extra in (("root", "/", ",readonly=on"), ("job", str(job), ""), ("out", os.path.abspath(out), "")):
        arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{extra}"]
        arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    streams = [writable(1), writable(2)]
    for port, fd in enumerate(streams, 1):
        arguments += ["-add-fd", f"fd={fd},set={port}"]
        arguments += ["-chardev", f"file,id=stream{port},path=/dev/fdset/{port},append=on"]
        arguments += ["-device", f"virtserialport,chardev=stream{port},nr={port}"]
    emulator = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, pass_fds=streams)
    until = time.monotonic() + timeout
    try:
        while time.monotonic() < until:
            try:
                emulator.wait(min(5, max(0.0, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                if silent_for(job) > SILENT_SECONDS:
                    return Ending.STANDSTILL
            else:
                return Ending.POWER_OFF
        return Ending.TIMEOUT
    finally:
        emulator.kill()
        emulator.wait()


def writable(fd: int) -> int:
    """Open an output again, for writing only: QEMU takes no descriptor that can be read too, as a terminal's can."""
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        return os.dup(fd)
    return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND)


def silent_for(job: Path) -> float:
    """The seconds since the last sign of life of the processor that has been silent longest."""
    return max((time.time() - sign.stat().st_mtime for sign in job.glob("alive-*")), default=0.0)


if __name__ == "__main__":
    sys.exit(main())
