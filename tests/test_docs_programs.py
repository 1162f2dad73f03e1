"""Every code sample of README.md and docs/ works as printed.

A Python block is a complete program. It runs on the simulated board: as the page says (`hwloop run NAME ...`,
`python NAME` or `pytest NAME`) where it has a title; otherwise under `hwloop run --board sim`. A program with a loop
runs in virtual time for a few seconds, unless it makes its own board or clock. It may end, or go on until its time is
up; it may print what it likes, but nothing on standard error. A text block titled "Output" after it must match what it
prints; `…` stands for anything.

A TOML block is a board file and is loaded, or a scenario, which a command on its page plays. The commands in a shell
block exist, and so do their options and files.
"""

from __future__ import annotations

import argparse
import configparser
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hwloop.cli import COMMANDS
from hwloop.testing.scenario import parse

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if not page.is_symlink()]
SECONDS = 5
"""Virtual seconds for which a program without an end runs."""

HANGS_AFTER = 200
"""Seconds after which a program is ended. The longest takes 6 s, and ten times as long on a machine with other work."""

SYSTEM = {
    "apt",
    "cp",
    "curl",
    "export",
    "git",
    "gtkwave",
    "journalctl",
    "kill",
    "pip",
    "prometheus-node-exporter",
    "scp",
    "sh",
    "sigrok-cli",
    "source",
    "ssh",
    "stty",
    "sudo",
    "systemctl",
    "usermod",
    "wget",
}
"""Commands that change or need the machine (packages, services, groups, processes). Their lines are not run."""

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)(?: title=\"(?P<title>[^\"]+)\")?(?P<rest>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
LANGUAGES = {"console", "ini", "json", "python", "sh", "text", "toml"}


class Block:
    """A fenced block; `page:line` names it."""

    def __init__(self, page, match, line):
        self.page = page
        self.name = f"{page.relative_to(ROOT)}:{line}"
        self.language, self.title, self.text = match["language"], match["title"], match["text"]
        self.understood = self.language in LANGUAGES and not match["rest"] and not match["indent"]
        self.output = None
        """Return the output that a program must print: the text of a block titled "Output" after it."""

    def __repr__(self):
        return self.name


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        block = Block(page, match, text.count("\n", 0, match.start()) + 1)
        if block.title == "Output":
            programs = [other for other in found if other.language == "python"]
            assert programs, f"{block}: no program stands before it"
            programs[-1].output = block.text
        found.append(block)
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def those(*languages):
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in languages], ids=str)


def commands_in(block):
    """The command lines of a shell block, as lists of words without assignments; output is left out."""
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)
        if words and words[-1] == "&":
            words.pop()
        if words:
            words[0] = re.sub(r"^\.?venv/bin/", "", words[0])
            yield words


def command_for(block):
    """The command line by which the page of a titled program says to run it."""
    for other in blocks_of(block.page):
        if other.language in ("console", "sh"):
            for words in commands_in(other):
                runs = words[0] in ("pytest", "python") or (
                    words[:1] == ["hwloop"] and words[1] not in ("doctor", "unit")
                )
                if runs and block.title in words:
                    return words[words.index("--") + 1 :] if words[:2] == ["hwloop", "guard"] else words
    return ["hwloop", "run", block.title]


def has_loop(block):
    return "async def" in block.text


def is_played(block):
    """Whether a test on the same page runs this script, which would not end by itself."""
    call = f'board.script("{block.title}")'
    return block.title and any(call in other.text for other in blocks_of(block.page))


def makes_its_time(block):
    return re.search(r"\b(SimBoard\(|SimLoop|board=|clock=|VirtualClock|time\.sleep\()", block.text)


def is_module(block):
    """Whether this block starts no run, and another one imports it or names it in a path such as module:Class."""
    if "hwloop.run(" in block.text:
        return False
    name = re.escape((block.title or "").removesuffix(".py"))
    others = (other.text for other in blocks_of(block.page) if other.title != block.title)
    pattern = rf"\b(?:from|import) {name}\b|\"{name}:\w"
    return name and any(re.search(pattern, text) for text in others)


@pytest.fixture(scope="module")
def run():
    """`run(argv, directory, **environment)` runs a program in a fork of a prepared process."""
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "program_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )

    def run(argv, directory, **environment):
        job = {"argv": argv, "directory": str(directory), "environment": environment, "seconds": HANGS_AFTER}
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    yield run
    server.stdin.close()
    server.wait()
    server.stdout.close()


def write_files(page, directory):
    """Write the titled blocks of a page, which its programs and commands find, and install the packages that it shows.

    conftest.py is for a plugin that need not be installed: it is run by itself, and tests/clients uses one like it.
    """
    for number, block in enumerate(blocks_of(page)):
        if block.title == "pyproject.toml":
            install(tomllib.loads(block.text)["project"], directory / f"package_{number}-1.dist-info")
        elif block.title and block.title not in ("Output", "conftest.py"):
            (directory / block.title).write_text(block.text, encoding="utf-8")


def install(project, directory):
    """Declare the entry points of a package whose module lies beside `directory`."""
    directory.mkdir()
    (directory / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {directory.name.partition('-')[0]}\nVersion: 1\n"
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project.get("entry-points", {}).items()
    ]
    (directory / "entry_points.txt").write_text("\n".join(groups))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python" and not is_played(b)], ids=str)
def test_a_program_runs_as_printed(block, run, tmp_path):
    write_files(block.page, tmp_path)
    name = block.title or "program.py"
    (tmp_path / name).write_text(block.text, encoding="utf-8")
    environment = {}
    if name.startswith("test_"):
        argv = ["pytest", "-q", "-p", "no:cacheprovider", name]
        # Our plugin, and no other that happens to be installed here.
        environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "hwloop.testing.plugin"}
    elif makes_its_time(block) or is_module(block):
        argv, environment = ["python", name], {"HWLOOP_BOARD": "sim"}
    else:
        argv = command_for(block) if block.title else ["hwloop", "run", name]
        if argv[0] == "python":
            argv = ["hwloop", "run", *argv[1:]]
        simulated = argv[1] == "sim"
        if "--board" not in argv and not simulated:
            argv[3:3] = ["--board", "sim"]
        if has_loop(block) and not simulated:
            if "--clock" not in argv:
                argv[3:3] = ["--clock", "virtual"]
            if "--limit" not in argv:
                argv[3:3] = ["--limit", str(SECONDS)]
    result = run(argv, tmp_path, **environment)
    # A system that grants no real time says so in a line, and the program goes on.
    result["stderr"] = re.sub(r"^real time: .*\n", "", result["stderr"], flags=re.MULTILINE)
    if "TimeLimitError" in result["stderr"]:
        # It would have gone on; apart from this error it said nothing.
        assert result["stderr"].startswith("Traceback"), result["stderr"]
        assert result["stderr"].count("Traceback") == 1, result["stderr"]
        assert not re.search(r"^\S.*(Error|Exception)\b(?<!TimeLimitError)", result["stderr"], re.MULTILINE)
    else:
        assert (result["status"], result["stderr"]) == (0, ""), result
    if block.output is not None:
        pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", block.output))
        assert re.fullmatch(pattern, result["stdout"], re.DOTALL), result["stdout"]


@those("toml")
def test_a_board_file_loads(block, run, tmp_path):
    document = tomllib.loads(block.text)
    if "steps" in document:
        parse(block.text, block.title)
        assert [words for words in simulations_on(block.page) if block.title in words], "no command plays it"
        return
    if "device" not in document:
        assert block.title == "pyproject.toml"
        return
    write_files(block.page, tmp_path)
    (tmp_path / "walk.nmea").write_bytes((ROOT / "examples" / "weather_station.nmea").read_bytes())
    (tmp_path / "board.toml").write_text(block.text, encoding="utf-8")
    (tmp_path / "load.py").write_text("from firmware_sim import SimBoard\nSimBoard('board.toml').close()\n")
    result = run(["python", "load.py"], tmp_path)
    assert (result["status"], result["stderr"]) == (0, ""), result


def simulations_on(page):
    """Return the calls of `hwloop sim` on a page."""
    blocks = [block for block in blocks_of(page) if block.language in ("console", "sh")]
    return [words for block in blocks for words in commands_in(block) if words[:2] == ["hwloop", "sim"]]


SIMULATIONS = [
    (page, words) for page in PAGES if page.name in ("scenarios.md", "faults.md") for words in simulations_on(page)
]


@pytest.mark.parametrize(("page", "words"), SIMULATIONS, ids=lambda each: each.name if isinstance(each, Path) else "")
def test_scenarios_pass_as_the_page_says(page, words, run, tmp_path):
    write_files(page, tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    result = run(words, tmp_path)
    assert (result["status"], result["stderr"]) == (0, ""), result


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def check(words, block):
    """Fail if a command line has a command, option or file that does not exist."""
    command, *rest = words
    titles = {other.title for other in blocks_of(block.page)}
    if command == "hwloop":
        if "--help" in rest or rest == ["--version"]:
            return
        assert rest[0] in COMMANDS, words
        parser = Parser(add_help=True)
        importlib.import_module(f"hwloop.cli.{rest[0]}").add_arguments(parser)
        parser.add_argument("--debug", action="store_true")
        own, _, program = (
            " ".join(rest[1:]).partition(" -- ") if " -- " in " ".join(rest) else (" ".join(rest[1:]), "", "")
        )
        if own.startswith("-- "):
            own, program = "", own[3:]
        arguments = parser.parse_args(shlex.split(own))
        if program and rest[0] == "guard":
            check(shlex.split(program), block)
        if getattr(arguments, "program", None):
            assert_exists(arguments.program.partition(":")[0], titles)
    elif command == "make":
        assert all(f"\n{target}:" in MAKEFILE for target in rest if "=" not in target), words
    elif command in ("python", "python3", "pytest"):
        for word in rest:
            if word.endswith(".py"):
                assert_exists(word, titles)
    elif "/" in command:
        assert (ROOT / command).exists(), words
    else:
        assert command in SYSTEM, f"{command}: unknown; is it a command of ours, or one that a test can't run?"
        if command == "sudo" and (rest[0] == "hwloop" or "/" in rest[0]):
            check(rest, block)


def assert_exists(path, titles):
    assert path in titles or (ROOT / path).exists() or path == "-", (
        f"{path}: no such program on the page, nor in the repository"
    )


@those("sh", "console")
def test_the_commands_of_a_shell_block_exist(block):
    for words in commands_in(block):
        check(words, block)


@those("json")
def test_a_json_block_is_json(block):
    json.loads(block.text.replace("…", ""))


@those("ini")
def test_an_ini_block_is_a_unit_file(block):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(block.text)
    assert parser.sections()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_says_its_language(page):
    assert not [block for block in blocks_of(page) if not block.understood]
    files = [block for block in blocks_of(page) if block.language == "text" and block.title not in (None, "Output")]
    # A text file (a golden file, say) is checked by the program that reads it.
    wrong = [block for block in files if not block.title.endswith(".txt")]
    assert not wrong, "a file has the language of its contents, so that it is checked"
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert "```" not in text, "an unclosed or oddly fenced block"
    commands = re.findall(r"^ {4}(?:\$ )?(?:hwloop|make|python3?|sudo|pip) .*", text, re.MULTILINE)
    assert not commands, "commands stand in a fenced block (sh or console), where they are checked"
