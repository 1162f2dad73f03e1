"""A font of five by seven dots, for the pictures of character displays."""

from __future__ import annotations

# Of each character the seven rows, from the top; a row is a digit of base 32, whose highest bit is the leftmost dot.
_ROWS = """
    0000000 4444004 aaa0000 aavavaa 4fke5u4 op248j3 cik8lid c480000 2488842 8422248 04lel40 044v440 0000c48 000v000
    00000cc 01248g0 ehjlphe 4c4444e eh1248v v2421he 26aiv22 vgu11he 68guhhe v124888 ehhehhe ehhf12c 0cc0cc0 0cc0c48
    248g842 00v0v00 8421248 eh12404 eh1dlle ehhhvhh uhhuhhu ehggghe sihhhis vgguggv vgguggg ehgnhhf hhhvhhh e44444e
    72222ic hikokih ggggggv hrllhhh hhpljhh ehhhhhe uhhuggg ehhhlid uhhukih fgge11u v444444 hhhhhhe hhhhha4 hhhllla
    hha4ahh hhha444 v1248gv e88888e 0g84210 e22222e 4ah0000 000000v 8420000 00e1fhf ggmphhu 00egghe 11djhhf 00ehvge
    698s888 0fhhf1e ggmphhh 40c444e 20622ic ggikoki c44444e 00qllhh 00mphhh 00ehhhe 00uhugg 00djf11 00mpggg 00ege1u
    88s8896 00hhhjd 00hhha4 00hhlla 00ha4ah 00hhf1e 00v248v 2448442 4444444 8442448
"""
_FURTHER = {
    "~": "008l200",
    "→": "042v240",
    "←": "048v840",
    "¥": "hav4v44",
    "°": "eae0000",
    "█": "vvvvvvv",
    "Ω": "0ehhhar",
    "µ": "00hhpmg",
    "ä": "a0e1fhf",
    "ö": "a0ehhhe",
    "ü": "a0hhhjd",
    "ß": "cikihmg",
    "÷": "040v040",
    "□": "vhhhhhv",
}

GLYPHS: dict[str, tuple[int, ...]] = {
    character: tuple(int(row, 32) for row in rows)
    for character, rows in [*zip(map(chr, range(0x20, 0x7E)), _ROWS.split(), strict=True), *_FURTHER.items()]
}
"""The seven rows of each character, five bits each, the highest one on the left."""
