"""The picture of a display: dots of a few colours, as characters and as a PNG file.

PNG needs nothing but zlib and struct (PNG specification, third edition, sections 5 and 11): a header, a palette, and
the compressed rows, each chunk with its length and checksum.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

Colour = tuple[int, int, int]


class Picture(NamedTuple):
    """Dots in rows, each the index of a colour.

    Attributes:
        width: dots in a row.
        dots: all of them, row by row.
        colours: red, green and blue of each colour, 0 to 255; the first one is that of a dark dot.
    """

    width: int
    dots: bytes
    colours: Sequence[Colour]

    def dot(self, x: int, y: int) -> int:
        """Return the colour of a dot; beyond the last row they are dark."""
        place = y * self.width + x
        return self.dots[place] if x < self.width and place < len(self.dots) else 0

    def text(self) -> str:
        """Return the picture in braille characters, each of two by four dots, without the dark ends of lines."""
        lines = []
        for top in range(0, len(self.dots) // self.width, 4):
            cells = [self._cell(left, top) for left in range(0, self.width, 2)]
            lines.append("".join(chr(0x2800 + cell) if cell else " " for cell in cells).rstrip())
        return "\n".join(lines)

    def _cell(self, left: int, top: int) -> int:
        # Dots 1 to 3 and 7 on the left, 4 to 6 and 8 on the right (Unicode, "Braille Patterns").
        bits = ((0, 0, 1), (0, 1, 2), (0, 2, 4), (1, 0, 8), (1, 1, 16), (1, 2, 32), (0, 3, 64), (1, 3, 128))
        return sum(bit for x, y, bit in bits if self.dot(left + x, top + y))

    def png(self, scale: int = 4) -> bytes:
        """Return the picture as a PNG file, each dot `scale` pixels wide and high."""
        rows = []
        for start in range(0, len(self.dots), self.width):
            row = b"".join(bytes([dot]) * scale for dot in self.dots[start : start + self.width])
            rows.extend([b"\0" + row] * scale)  # no filter
        header = struct.pack(">IIBBBBB", self.width * scale, len(rows), 8, 3, 0, 0, 0)
        palette = b"".join(map(bytes, self.colours))
        chunks = (b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)

    def save(self, path: str | os.PathLike[str], scale: int = 4) -> None:
        """Write the picture as a PNG file."""
        with open(path, "wb") as file:
            file.write(self.png(scale))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
