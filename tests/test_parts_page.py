"""docs/parts.md lists the parts as they are, and the pictures show the boards of examples/ as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_and_the_pictures_are_current() -> None:
    spec = importlib.util.spec_from_file_location("parts_page", ROOT / "tools" / "parts_page.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    stale = [
        str(file.relative_to(ROOT))
        for file, text in page.files()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run .venv/bin/python tools/parts_page.py"
