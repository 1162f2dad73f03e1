"""The README's program delivers sentences in virtual time, and the custom source of examples/ delivers keys."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path

import pytest

import hwloop

ROOT = Path(__file__).parents[1]


def test_the_program_of_the_readme_runs_on_the_simulated_board(capsys):
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len([line for line in program.splitlines() if line]) <= 15
    definitions = program.replace("hwloop.run(main())", "")
    assert definitions != program
    namespace = {}
    exec(definitions, namespace)

    async def for_three_seconds():
        await asyncio.wait_for(namespace["main"](), 3)

    with pytest.raises(TimeoutError):
        hwloop.run(for_three_seconds(), board="sim", clock="virtual")
    assert capsys.readouterr().out.count("$GPGGA") >= 2


def test_a_custom_source_delivers_events(capsys, run):
    spec = importlib.util.spec_from_file_location("own_source", ROOT / "examples" / "own_source.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run(module.main())
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["key 35 pressed", "key 35 released"]
    assert lines[5] == "key 48 released"
