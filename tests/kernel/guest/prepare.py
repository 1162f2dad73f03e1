#!/usr/bin/env python3
"""Make the guest in which tests/kernel runs: a Linux kernel that has GPIO lines on a machine that has none.

    python3 tests/kernel/guest/prepare.py        about a minute, and nothing at all the second time

Debian's kernel has all that is needed but gpio-sim, which simulates a GPIO chip below the kernel's own GPIO code. So
gpio-sim and its interrupt simulator are built as modules, from Debian's kernel source against Debian's headers. The
kernel packages are downloaded and unpacked, not installed: this machine's own kernel and boot loader stay as they are.
Only tools that are missing are installed, which takes root.

The result is in $XDG_CACHE_HOME/hwloop-guest (~/.cache/hwloop-guest): kernel, initramfs, and the stamp of the scripts
that made them. Delete the directory to have it made anew. Status 69: it can't be made, and what is missing is said.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hwloop-guest"
TOOLS = {  # command: Debian package
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "gcc": "gcc",
    "make": "make",
    "cpio": "cpio",
    "xz": "xz-utils",
    "depmod": "kmod",
    "/lib/systemd/systemd": "systemd",
}
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console", "virtio_rng", "configfs", "i2c_dev")
GPIO_SIM_SOURCES = ("drivers/gpio/gpio-sim.c", "drivers/gpio/gpiolib.h", "kernel/irq/irq_sim.c")


def main() -> None:
    stamp = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in ("prepare.py", "init.sh"))).hexdigest()
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (CACHE / "stamp").is_file() and (CACHE / "stamp").read_text() == stamp:
            return
        install_tools()
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            make_guest(Path(work))
            for name in ("kernel", "initramfs"):  # in one step each: a guest may be booting
                os.replace(Path(work) / name, CACHE / name)
        (CACHE / "stamp").write_text(stamp)
    say(f"the guest is ready in {CACHE}")


def install_tools() -> None:
    if platform.machine() != "x86_64" or not shutil.which("apt-get"):
        give_up("it is made of Debian's packages for x86-64, on a machine that has apt and that processor")
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # of Debian's tools, some are not on an ordinary user's path
    missing = sorted(package for command, package in TOOLS.items() if not shutil.which(command))
    if missing and os.geteuid() != 0:
        give_up(f"packages are missing: sudo apt-get install {' '.join(missing)}")
    if missing or not packaged_kernel():
        if os.geteuid() != 0:
            give_up("apt knows no package linux-image-amd64: sudo apt-get update")
        quietly("apt-get", "update", "-qq")
    if missing:
        say(f"installing {' '.join(missing)}")
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        quietly("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    if not packaged_kernel():
        give_up("apt knows no package linux-image-amd64; Debian has it, other distributions name theirs differently")


def packaged_kernel() -> str:
    """The version of Debian's current kernel, such as 6.1.0-56-amd64; empty where apt knows none."""
    said = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False)
    found = re.search(r"Depends: linux-image-(\S+-amd64)", said.stdout)
    return found[1] if found else ""


def make_guest(work: Path) -> None:
    version = packaged_kernel()
    series = ".".join(version.split(".")[:2])
    common = version.replace("-amd64", "-common")
    say(f"downloading Debian's kernel {version} and its source (about 220 MB)")
    packages = [f"linux-image-{version}", f"linux-headers-{version}", f"linux-headers-{common}"]
    packages += [f"linux-kbuild-{series}", f"linux-source-{series}"]
    quietly("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages, cwd=work)
    root = work / "root"
    for package in work.glob("*.deb"):
        quietly("dpkg-deb", "-x", str(package), str(root))
        package.unlink()

    say("building gpio-sim")
    build = work / "build"
    build.mkdir()
    source = f"linux-source-{series}"
    wanted = [f"{source}/{name}" for name in GPIO_SIM_SOURCES]
    archive = str(root / f"usr/src/{source}.tar.xz")
    quietly("tar", "-xf", archive, "-C", str(build), "--strip-components=3", "--occurrence=1", *wanted)
    make_modules_of(build)
    headers = root / f"usr/src/linux-headers-{version}"
    (headers / "Makefile").write_text(f"include {root}/usr/src/linux-headers-{common}/Makefile\n")
    quietly("make", "-C", str(headers), f"M={build}", "CC=gcc", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules")

    modules = root / "lib/modules" / version
    for name in ("irq_sim.ko", "gpio-sim.ko"):
        quietly("strip", "--strip-debug", str(build / name))
        shutil.copy(build / name, modules)
    quietly("depmod", "-b", str(root), version)
    make_initramfs(work / "initramfs", root, version)
    unpack_kernel((root / f"boot/vmlinuz-{version}").read_bytes(), work / "kernel")


def make_modules_of(build: Path) -> None:
    """Neither was meant to be a module apart: irq_sim has no licence tag, and calls what is not exported."""
    path = build / "irq_sim.c"
    text = path.read_text()
    text = re.sub(r"handle_simple_irq\(irq_to_desc\((\w+)\)\)", r"generic_handle_irq(\1)", text)
    path.write_text("#include <linux/module.h>\n" + text + '\nMODULE_LICENSE("GPL");\n')
    (build / "Kbuild").write_text("obj-m := irq_sim.o gpio-sim.o\n")


def make_initramfs(image: Path, root: Path, version: str) -> None:
    """busybox, init.sh, the modules in the order in which they are loaded, and those that a test may load."""
    tree = image.with_name("tree")
    for name in ("bin", "modules", "proc", "sys", "dev"):
        (tree / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", tree / "bin/busybox")
    shutil.copy(HERE / "init.sh", tree / "init")
    (tree / "init").chmod(0o755)
    order: list[str] = []
    for name in (*BOOT_MODULES, "gpio-sim", "i2c-stub"):
        said = subprocess.run(
            ["modprobe", "-d", str(root), "-S", version, "--show-depends", name],
            capture_output=True,
            text=True,
            check=True,
        )
        for path in re.findall(r"^insmod (\S+)", said.stdout, re.MULTILINE):
            if Path(path).name not in order:
                order.append(Path(path).name)
                shutil.copy(path, tree / "modules")
    order.remove("i2c-stub.ko")
    (tree / "modules/order").write_text("\n".join(order))
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with open(image, "wb") as file:
        archive = ["cpio", "-o", "-H", "newc", "--quiet"]
        subprocess.run(archive, cwd=tree, input=names.encode(), stdout=file, check=True)


def unpack_kernel(image: bytes, kernel: Path) -> None:
    """Write the ELF kernel that a bzImage holds: QEMU starts it, and the emulated processor need not unpack it.

    The image's header says where it lies (Documentation/arch/x86/boot.rst: setup_sects, payload_offset and
    payload_length, whose last four bytes are the unpacked size).
    """
    sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    packed = image[start : start + length - 4]
    unpacker = ["zstd", "-dc"] if packed.startswith(b"\x28\xb5\x2f\xfd") else ["xz", "-dc"]
    with open(kernel, "wb") as file:
        subprocess.run(unpacker, input=packed, stdout=file, check=True)


def quietly(*command: str, cwd: Path | None = None) -> None:
    """Run a command whose output matters only if it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        give_up(f"{' '.join(command[:3])} … failed:\n{done.stdout[-2000:]}")


def say(text: str) -> None:
    print(f"tests/kernel: {text}", flush=True)


def give_up(why: str) -> None:
    print(f"tests/kernel: NOT RUN, there is no guest to run them in: {why}", file=sys.stderr)
    sys.exit(os.EX_UNAVAILABLE)


if __name__ == "__main__":
    main()
