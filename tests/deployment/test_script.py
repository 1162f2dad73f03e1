"""A program in a file: its inline dependencies, the modules beside it, and files that nobody should follow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwloop.deployment.script import ProgramError, read_file, read_metadata, read_script

HEADER = """\
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "smbus2>=0.4",
#   "RPi.bme280",
# ]
# ///
"""


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        Path(f"{path}.py").write_text(text, encoding="utf-8")
    return directory / f"{next(iter(files))}.py"


def test_the_dependencies_are_those_of_its_inline_metadata(tmp_path: Path) -> None:
    script = read_script(write(tmp_path, door=HEADER + "async def main(): pass\n"))
    assert script.dependencies == ("smbus2>=0.4", "RPi.bme280")
    assert script.requires_python == ">=3.11"


def test_a_plain_file_has_no_dependencies(tmp_path: Path) -> None:
    script = read_script(write(tmp_path, door="# just a comment\n"))
    assert (script.dependencies, script.requires_python, list(script.files)) == ((), "", ["door.py"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{HEADER}\n{HEADER}", "has 2 blocks"),
        ("# /// script\n# dependencies = [\n# ///\n", "is not valid TOML"),
        ("# /// script\n# dependencies = 'x'\n# ///\n", "dependencies must be a list of strings"),
        ("# /// script\n# requires-python = 3\n# ///\n", "requires-python must be a string"),
        ("def main(:\n", "line 1 is not valid Python: "),
        ("\0", "is not valid Python: "),
        ("from . import x\n", "it has a relative import"),
    ],
)
def test_a_program_that_can_not_be_installed_says_why(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ProgramError, match=problem):
        read_script(write(tmp_path, door=text))


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\n# uv = []", "[tool.uv]\n# sources = {}", "[tool.ruff]"])
def test_the_settings_of_other_tools_do_not_matter(tmp_path: Path, text: str) -> None:
    assert read_script(write(tmp_path, door=f"# /// script\n# {text}\n# ///\n")).dependencies == ()


def test_metadata_may_have_the_line_ends_of_windows(tmp_path: Path) -> None:
    assert read_metadata(HEADER.replace("\n", "\r\n"), tmp_path)["requires-python"] == ">=3.11"


def test_modules_beside_it_belong_to_it_at_any_depth(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        door="import lamp, json\nfrom house.rooms import hall\n",
        lamp="import pump.valve\n",
        pump="import door\n",
        other="",
        house__rooms="",
        json_="",
    )
    (tmp_path / "house" / "__init__.py").write_text("")
    (tmp_path / "house" / "map.txt").write_text("hall")
    (tmp_path / "house" / "__pycache__").mkdir()
    (tmp_path / "house" / "__pycache__" / "rooms.pyc").write_text("")
    script = read_script(path)
    assert sorted(script.files) == [
        "door.py",
        "house/__init__.py",
        "house/map.txt",
        "house/rooms.py",
        "lamp.py",
        "pump.py",
    ]
    assert script.modules() == {"door", "lamp", "pump", "house"}


def test_a_link_is_not_followed_wherever_it_leads(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x = 1\n")
    path = write(tmp_path, door="import lamp\n")
    (tmp_path / "lamp.py").symlink_to(secret)
    with pytest.raises(ProgramError, match=rf"lamp\.py is a symbolic link; give the file itself: {secret}"):
        read_script(path)


def test_a_fifo_does_not_block_the_installation(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "door.py")
    with pytest.raises(ProgramError, match="is not a regular file"):
        read_script(tmp_path / "door.py")


def test_a_mistake_in_a_module_beside_it_names_the_module(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"lamp\.py, line 2 is not valid Python"):
        read_script(write(tmp_path, door="import lamp\n", lamp="x = 1\nx ="))


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    """The check for links and the opening of a file are two steps, and the owner may act in between."""
    secrets, base = tmp_path / "secrets", tmp_path / "base"
    secrets.mkdir()
    base.mkdir()
    (secrets / "shadow").write_text("root:")
    (base / "sounds").symlink_to(secrets)
    with pytest.raises(
        ProgramError, match=rf"sounds/shadow leads out of {base}, to {secrets}/shadow, by a symbolic link"
    ):
        read_file(base / "sounds" / "shadow", below=base)
    (base / "sounds").unlink()
    (base / "sounds").mkdir()
    (base / "sounds" / "ding").write_text("ding")
    assert read_file(base / "sounds" / "ding", below=base) == b"ding"
