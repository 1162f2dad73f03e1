#!/usr/bin/env python3
"""Boot the guest, run one command in it, pass on its output and status.

    python3 tests/kernel/guest/run.py [options] [--] COMMAND [ARGUMENT...]

The guest's root is this machine's, read-only, under an overlay that is gone afterwards: what COMMAND writes outside
/guest/out is lost, and it finds every file where it is here. It runs as root, on two emulated processors with 1 GiB,
with no network but loopback; stdin is empty. gpio-sim and configfs are there; i2c-stub waits in /guest/modules.

Status: the command's own; 124 it took too long; 125 the guest did not come up (its console goes to stderr).
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from prepare import CACHE

MACHINE = (
    *("qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "Nehalem-v1"),
    *("-M", "pc,usb=off,vmport=off,hpet=off", "-smp", "2", "-m", "1024", "-no-reboot"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
    *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
)
KERNEL_ARGUMENTS = "console=ttyS0 loglevel=4 panic=-1 reboot=k mitigations=off tsc=reliable random.trust_cpu=on nokaslr"
NO_GUEST, TIMED_OUT = 125, 124


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
    with tempfile.TemporaryDirectory(prefix="hwloop-guest-") as scratch:
        job = Path(scratch)
        (job / "out").mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
        environment |= dict(each.partition("=")[::2] for each in asked.env)
        exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        steps = [
            *exports,
            f"cd {shlex.quote(os.path.abspath(asked.directory))} || exit 126",
            f"exec {shlex.join(command)}",
        ]
        (job / "command").write_text("\n".join(steps) + "\n")
        in_time = boot(job, asked.out or str(job / "out"), asked.systemd, asked.timeout)
        if (job / "status").exists():
            return int((job / "status").read_text())
        console = (job / "console").read_text(errors="replace") if (job / "console").exists() else ""
        ending = "ended without a status" if in_time else f"was stopped after {asked.timeout:g} s"
        print(f"tests/kernel: the guest {ending}; its console:\n{console[-4000:]}", file=sys.stderr)
        return NO_GUEST if in_time else TIMED_OUT


def boot(job: Path, out: str, systemd: bool, timeout: float) -> bool:
    """Start the emulator and wait for its end. False if it had to be stopped."""
    append = KERNEL_ARGUMENTS + (" systemd systemd.show_status=1" if systemd else "")
    arguments = [*MACHINE, "-kernel", str(CACHE / "kernel"), "-initrd", str(CACHE / "initramfs"), "-append", append]
    arguments += ["-chardev", f"file,id=console,path={job}/console", "-serial", "chardev:console"]
    for tag, path, extra in (("root", "/", ",readonly=on"), ("job", str(job), ""), ("out", os.path.abspath(out), "")):
        arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{extra}"]
        arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    streams = [os.dup(1), os.dup(2)]
    for port, fd in enumerate(streams, 1):
        arguments += ["-add-fd", f"fd={fd},set={port}"]
        arguments += ["-chardev", f"file,id=stream{port},path=/dev/fdset/{port},append=on"]
        arguments += ["-device", f"virtserialport,chardev=stream{port},nr={port}"]
    emulator = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, pass_fds=streams)
    try:
        emulator.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    finally:
        emulator.kill()
        emulator.wait()
    return True


if __name__ == "__main__":
    sys.exit(main())
