"""Clean systems of Debian to try packages in: directories that debootstrap makes once, and copies for one test each.

A copy is an overlay: what a test changes lies in a directory of its own. Mounts are made in a mount namespace of the
process (`isolate`), so they end with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREES = ROOT / "build" / "debian"
ARCHIVE = "http://deb.debian.org/debian"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SECONDS = 1200
"""Seconds for one command. Debian's packages come over the network, and the machine may have other work."""
VARIABLES = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "HOME": "/root", "TERM": "dumb"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Unavailable(Exception):
    """Trees can't be made here; the message says what is missing."""


class Failed(Exception):
    """A command ended with the wrong status; the message has its output."""


def isolate() -> None:
    """Start this program again in a mount namespace of its own."""
    if os.environ.get("HWLOOP_ISOLATED") != str(os.getpid()):
        if os.geteuid() != 0:
            raise Unavailable("chroot and mount need root: use sudo")
        try:
            call("unshare", "--mount", "true")
        except Failed as error:
            raise Unavailable(f"this machine allows no mounts: {error}") from None
        os.environ["HWLOOP_ISOLATED"] = str(os.getpid())  # exec keeps the process's number
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])


def base(release: str, name: str = "", packages: tuple[str, ...] = ()) -> Path:
    """Return the tree of a release, with more packages as a tree of another name; make it if it is missing.

    Raises `Unavailable`.
    """
    tree = TREES / (f"{release}-{name}" if name else release)
    if (tree / "complete").exists():
        return tree
    for tool, package in (("debootstrap", "debootstrap"), ("apt-get", "apt")):
        if not shutil.which(tool):
            raise Unavailable(f"{tool} is missing: sudo apt install {package}")
    shutil.rmtree(tree, ignore_errors=True)
    TREES.mkdir(parents=True, exist_ok=True)
    print(f"making {tree.relative_to(ROOT)}", flush=True)
    try:
        if not name:
            include = "--include=ca-certificates"
            call("debootstrap", "--variant=minbase", include, release, str(tree), ARCHIVE)
            shutil.copy(CERTIFICATES, tree / CERTIFICATES.lstrip("/"))  # with those that this machine trusts
            (tree / "etc/apt/apt.conf.d/retries").write_text('Acquire::Retries "3";\n')
        else:
            call("cp", "-a", "--reflink=auto", str(base(release)), str(tree))
            (tree / "complete").unlink()
        call("chroot", str(tree), "apt-get", "update", "-qq")
        if packages:
            call("chroot", str(tree), "apt-get", "install", "-qq", "--no-install-recommends", *packages)
    except Failed as error:
        raise Unavailable(f"{release} can't be made from {ARCHIVE}: {error}") from None
    (tree / "complete").touch()
    return tree


class Copy:
    """A copy of a tree, as long as the process lives.

    Parameters:
        tree: the tree.
        name: the name of the copy.
    """

    def __init__(self, tree: Path, name: str) -> None:
        work = TREES / "copies" / name
        shutil.rmtree(work, ignore_errors=True)
        self.root = work / "root"
        for each in ("root", "upper", "work"):
            (work / each).mkdir(parents=True)
        layers = f"lowerdir={tree},upperdir={work / 'upper'},workdir={work / 'work'}"
        (tree / "dev/pts").mkdir(exist_ok=True)
        try:
            call("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
            call("mount", "-t", "proc", "proc", str(self.root / "proc"))
            call("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", str(self.root / "dev/pts"))
        except Failed as error:
            raise Unavailable(f"this machine allows no mounts: {error}") from None
        ptmx = self.root / "dev/ptmx"
        ptmx.unlink(missing_ok=True)
        ptmx.symlink_to("pts/ptmx")
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        policy = self.root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)

    def run(self, *command: str, status: int = 0, cwd: str = "/") -> str:
        """Run a command in the copy, and return what it prints. Raises `Failed` unless it ends with the status."""
        inside = ["env", "-i", "-C", cwd, f"PATH={PATH}", *(f"{name}={value}" for name, value in VARIABLES.items())]
        return call("chroot", str(self.root), *inside, *command, status=status)

    def files(self) -> set[str]:
        """Return the paths of all files, without those that change whatever is done."""
        found = call("find", str(self.root), "-xdev", "-printf", "/%P\n").splitlines()
        volatile = ("/tmp/", "/var/log/", "/var/cache/", "/var/lib/apt/", "/var/lib/dpkg/", "/run/", "/root/")
        backups = ("/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-")
        return {path for path in found if not path.startswith(volatile) and path not in backups}


def call(*command: str, status: int = 0) -> str:
    """Run a command, and return what it prints. Raises `Failed` unless it ends with the status."""
    environment = os.environ | VARIABLES | {"HOME": os.environ.get("HOME", "/root")}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        env=environment,
    )
    if done.returncode != status:
        raise Failed(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout
