"""README.md, CHANGELOG.md and docs/ are right about names, options, files, links, modules and pictures.

tests/test_docs_programs.py runs the code samples of the same pages.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import tomllib
import types
from fnmatch import fnmatch
from pathlib import Path

import pytest

import firmware_sim
import hwloop
from hwloop import gpio, i2c, plugins, serial, service
from hwloop.cli import COMMANDS, main
from hwloop.cli.service import ACTIONS

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not page.is_symlink()
]


PYTHON = [*(ROOT / "hwloop").rglob("*.py"), *(ROOT / "tests" / "kernel").rglob("*.py")]
CODE = "".join(path.read_text(encoding="utf-8") for path in PYTHON)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
OPTION = re.compile(r"(?<!\S)\[?`?(--[a-z][a-z-]+)")
SOURCES = {
    "loop": hwloop.SimLoop,
    "asyncio": asyncio,
    "firmware_sim": firmware_sim,
    "gpio": gpio,
    "hwloop": hwloop,
    "i2c": i2c,
    "os": os,
    "serial": serial,
    "service": service,
}
DOTTED = re.compile(rf"(?<![\w./-])(?:{'|'.join(SOURCES)})(?:\.[A-Za-z_]\w*)+(?![\w/])(?<!\.py)")


def names_in(text):
    """Return the dotted names in the code of a text, inline or fenced."""
    code = re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
    return {name for part in code for name in DOTTED.findall(part)}


def exists(name):
    if name in (plugins.BOARDS, plugins.DEVICES):  # groups of entry points
        return True
    first, *rest = name.split(".")
    found = SOURCES[first]
    for attribute in rest:
        if isinstance(found, types.ModuleType) and not hasattr(found, attribute):
            try:
                importlib.import_module(f"{found.__name__}.{attribute}")
            except ImportError:
                return False
        if not hasattr(found, attribute):
            return False
        found = getattr(found, attribute)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_on_the_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    assert not [name for name in names_in(text) if not exists(name)]
    variables = set(re.findall(r"\bHWLOOP_[A-Z_]+", text))
    assert not [name for name in variables if name not in CODE]
    targets = set(re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", text, re.MULTILINE))
    assert not [name for pair in targets for name in pair if name and f"\n{name}:" not in MAKEFILE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_on_the_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), target
            assert page.name != "CHANGELOG.md", (
                "the changelog is a page of the site too, where this path leads elsewhere"
            )
            # The site has the pages of docs/ and no other files.
            assert page.parent == ROOT or (ROOT / "docs") in Path(os.path.normpath(file)).parents, (
                f"{target} is not part of the site"
            )
            assert not anchor or anchor in anchors(file), target
    for path in re.findall(
        r"(?<![\w/])(?:benchmarks|docs|examples|deploy|systemd|tests|hwloop|firmware_sim)/[\w./@-]+\w", text
    ):
        assert (ROOT / path).exists() or path == "tests/test_door.py", path  # that one is somebody's


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_page_has_every_option_and_no_other(command, capsys):
    for words in [[], *([action] for action in ACTIONS if command == "service")]:
        with pytest.raises(SystemExit):
            main([command, *words, "--help"])
    options = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = re.search(rf"^## hwloop {command}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]
    assert options - {"--help", "--debug"} <= set(OPTION.findall(section))
    for call in re.findall(rf"^(?:\$ )?hwloop {command}.*(?:\n {{8,}}.*)*", section, re.MULTILINE):
        assert set(OPTION.findall(call.partition(" -- ")[0])) <= options


def test_the_architecture_page_lists_every_module():
    listed = re.findall(r"[\w*]+\.py", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    modules = [*(ROOT / "hwloop").rglob("[a-z]*.py"), *(ROOT / "firmware_sim").rglob("[a-z]*.py")]
    parts = ROOT / "firmware_sim" / "devices"  # listed by `hwloop parts`
    assert not [
        path.name
        for path in modules
        if path.parent != parts and not any(fnmatch(path.name, pattern) for pattern in listed)
    ]


def test_the_reference_has_every_public_name():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    listed = set(
        re.findall(r"^::: ([\w.]+)$", "".join(page.read_text(encoding="utf-8") for page in pages), re.MULTILINE)
    )
    for name in [*hwloop.__all__, "EventLoopPolicy"]:
        value = getattr(hwloop, name) if name in hwloop.__all__ else None
        path = value.__name__ if isinstance(value, types.ModuleType) else f"hwloop.{name}"
        inside = {path, *(f"hwloop.{base}" for base in ("sources",) if name in ("Backoff", "RateLimit"))}
        assert listed & inside or any(one.startswith(f"{path}.") for one in listed), name


def test_the_pictures_are_drawn_from_their_source():
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "images" / "draw.py")
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    for name, text in draw.pictures().items():
        file = ROOT / "docs" / "images" / name
        assert file.read_text(encoding="utf-8") == text, "run python docs/images/draw.py"


def test_no_change_is_listed_twice():
    entries = re.findall(r"^- (.{0,25})", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(entries) == len(set(entries)), [entry for entry in entries if entries.count(entry) > 1]


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("hwloop", "firmware_sim", "hwloop_bench")
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found | {"hwloop.examples"}


def test_the_extras_that_pages_and_messages_name_exist_and_are_listed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `hwloop\[(\w+)\]` \|", page, re.MULTILINE))
    files = [path for name in ("hwloop", "firmware_sim", "hwloop_bench") for path in (ROOT / name).rglob("*.py")]
    texts = "".join(path.read_text(encoding="utf-8") for path in [*files, *PAGES])
    assert set(re.findall(r"hwloop\[(\w+)\]", texts)) <= listed <= set(extras)
