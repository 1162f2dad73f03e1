#!/usr/bin/env python3
"""Report the worst habits of our prose: `tools/prose.py [FILE…]`, by default in every file of the project.

The check reads docstrings, comments, messages and the names of functions in Python files, and the whole text of pages
and scripts. It knows few patterns, the ones that readers stumble over most; "How we write" in CONTRIBUTING.md says how
to do better.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PARTS = ["*.md", "*.toml", "Makefile", ".ci/run", "deploy/*", "systemd/*", "docs/**/*.md"]
PARTS += [
    f"{folder}/**/*.{suffix}"
    for folder in ("hwloop", "hwloop_bench", "firmware_sim", "tests", "examples", "benchmarks", "tools", "docs")
    for suffix in ("py", "toml", "sh")
]
QUOTING = ("tools/prose.py", "tests/test_prose.py", "CONTRIBUTING.md")
"""Files that quote the habits."""

PEOPLE = (
    "people person user users reader readers beginner beginners programmer programmers those anyone someone everyone"
)
NOT_OF_PEOPLE = "".join(f"(?<!(?i:{noun}) )" for noun in PEOPLE.split())

HABITS = {
    r"\b[Tt]old\b": 'name the subject, then "reported", "logged", "notified" or "stated"',
    rf"{NOT_OF_PEOPLE}\b[Ww]ho\b(?![^.?\n]*\?)": '"who" is for people: write "which", or name the thing',
    r"\b(?:is|are|was|were|be|been|being) refused\b": 'name the subject: "the kernel rejects", "the call raises"',
    r"\bone's own\b": '"your own", or a noun: "custom sources"',
    r"\bso many \w+s\b": 'say which number: "for `timeout` seconds"',
    r"\b[Oo]f which\b": "make it two sentences",
    r"\bado\b": 'say it plainly: "cheaper to construct", "at once"',
    r"(?:^|(?<=[.:;!] ))What (?![^.?\n]*\?)": "begin with a verb (functions) or a noun (classes, headings, sentences)",
    r"^test what ": "make the name a sentence with a subject: test_non_bus_device_raises",
}
PATTERNS = {re.compile(habit, re.MULTILINE): advice for habit, advice in HABITS.items()}


class Finding(NamedTuple):
    """A habit at a line of a file."""

    file: str
    line: int
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text!r}: {self.advice}"


def passages(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield each passage of prose of a file, with the number of its first line."""
    if not name.endswith(".py"):
        yield 1, text
        return
    comment: list[str] = []
    first = defined = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            if comment and line != first + len(comment):
                yield first, "\n".join(comment)
                comment = []
            if not comment:
                first = line
            comment.append(token.string.lstrip("#! "))
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            yield line, re.sub(r'^\w*("""|"|\'\'\'|\')|("""|"|\'\'\'|\')$', "", token.string)
        elif token.type == tokenize.NAME:
            if defined:
                yield line, token.string.replace("_", " ")
            defined = token.string in ("def", "class")
    if comment:
        yield first, "\n".join(comment)


def joined(passage: str) -> tuple[str, list[int]]:
    """Return the passage with each paragraph or item on one line, and for each character its line in the passage."""
    text, lines = "", []
    for number, line in enumerate(passage.split("\n")):
        stripped = re.sub(r"^(?:[-*#>|]+|\d+\.)\s+", "\n", line.strip()) or "\n"
        added = stripped if not text or text.endswith("\n") else f" {stripped}"
        text += added
        lines += [number] * len(added)
    return text, lines


def findings(name: str, text: str) -> Iterator[Finding]:
    """Yield every habit in the text of a file."""
    for first, passage in passages(name, text):
        line_of_text, lines = joined(passage)
        for pattern, advice in PATTERNS.items():
            for match in pattern.finditer(line_of_text):
                around = " ".join(line_of_text[max(0, match.start() - 20) : match.end() + 30].split())
                yield Finding(name, first + lines[match.start()], around, advice)


def check(files: Iterable[str], root: Path) -> Iterator[Finding]:
    """Yield the findings in all files, in the order of their lines."""
    for name in files:
        found = findings(name, (root / name).read_text(encoding="utf-8"))
        yield from sorted(found, key=lambda finding: finding.line)


def project_files() -> list[str]:
    """Return the files that the check reads by default."""
    found = {path for part in PARTS for path in ROOT.glob(part) if path.is_file() and not path.is_symlink()}
    return sorted(name for path in found if (name := path.relative_to(ROOT).as_posix()) not in QUOTING)


def main() -> int:
    parser = argparse.ArgumentParser(description="Report the worst habits of our prose.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="by default every file of the project")
    options = parser.parse_args()
    known = project_files()
    files = [str(Path(file).resolve().relative_to(ROOT)) for file in options.files]
    files = [file for file in files if file in known] if files else known
    wrong = list(check(files, ROOT))
    for finding in wrong:
        print(finding)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
