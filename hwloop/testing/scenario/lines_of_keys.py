"""The lines on which the keys of a TOML document stand, which `tomllib` does not report.

`lines_of_keys` reads the structure of a document that `tomllib` has accepted, and nothing of its values: so it needs
only brackets, keys, strings and comments. A key's path is as in the parsed document: ("steps", 2, "press").
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_PLAIN = re.compile(r"[^,\]}\n#]+")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_SHORT = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def lines_of_keys(text: str) -> Mapping[Path, int]:
    """Return the line of each key and array item of a valid TOML document, by its path."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._found: dict[Path, int] = {(): 1}
        self._tables: dict[Path, int] = {}  # arrays of tables: the number of items so far
        self._counted = 0, 1  # a position, and the line that it is on

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_blanks():
            if self._take("[["):
                table = self._header(is_array=True)
            elif self._take("["):
                table = self._header(is_array=False)
            else:
                self._pair(table)
        return self._found

    def _header(self, *, is_array: bool) -> Path:
        line = self._line()
        path: Path = ()
        for number, part in enumerate(keys := self._keys()):
            path = (*path, part)
            if is_array and number == len(keys) - 1:
                self._tables[path] = self._tables.get(path, -1) + 1
            self._found.setdefault(path, line)
            if path in self._tables:
                path = (*path, self._tables[path])
        self._found.setdefault(path, line)
        self._take("]]" if is_array else "]")
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for part in self._keys():
            path = (*path, part)
            self._found.setdefault(path, line)
        self._take("=")
        self._value(path)

    def _keys(self) -> list[str]:
        """Read a key, which may be dotted."""
        keys = []
        while True:
            self._skip_blanks()
            match = _STRING.match(self._text, self._position) or _BARE.match(self._text, self._position)
            assert match is not None, "the document is valid TOML"
            self._position = match.end()
            keys.append(_unquoted(match[0]))
            self._skip_blanks()
            if not self._take("."):
                return keys

    def _value(self, path: Path) -> None:
        self._skip_blanks()
        if self._take("["):
            item = 0
            while self._skip_blanks() and not self._take("]"):
                self._found[*path, item] = self._line()
                self._value((*path, item))
                self._skip_blanks()
                self._take(",")
                item += 1
        elif self._take("{"):
            while self._skip_blanks() and not self._take("}"):
                self._pair(path)
                self._skip_blanks()
                self._take(",")
        else:
            match = _STRING.match(self._text, self._position) or _PLAIN.match(self._text, self._position)
            assert match is not None, "the document is valid TOML"
            self._position = match.end()

    def _skip_blanks(self) -> bool:
        """Skip blanks and comments; return whether there is more."""
        match = _BLANK.match(self._text, self._position)
        assert match is not None
        self._position = match.end()
        return self._position < len(self._text)

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._position):
            return False
        self._position += len(token)
        return True

    def _line(self) -> int:
        position, line = self._counted
        line += self._text.count("\n", position, self._position)
        self._counted = self._position, line
        return line


def _unquoted(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    return _ESCAPE.sub(_escaped, key[1:-1]) if key[0] == '"' else key


def _escaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _SHORT.get(match[3], match[3])
