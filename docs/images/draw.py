"""Draw the pictures of the documentation: `python docs/images/draw.py` writes the SVG files beside this one.

The descriptions below are the source of the pictures; tests/test_docs.py fails while a file differs from them. Each
file has its own background and follows the reader's light or dark mode.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

STYLE = """
  .page { fill: #ffffff } .box { fill: #f4f6f8; stroke: #9aa5b1 } .inner { fill: #ffffff; stroke: #c3ccd5 }
  .urgent { fill: #fbd9d3; stroke: #cf5b45 } .event { fill: #fdecc4; stroke: #c99a2e }
  .work { fill: #d9e8fb; stroke: #5b8bc9 } .poll { fill: #d8f0df; stroke: #4b9b66 }
  .rest { fill: none; stroke: #9aa5b1 }
  .title { fill: #1b2733; font-weight: 600 } .text { fill: #3c4b5a } .arrow { stroke: #5d6b79; fill: none }
  .head { fill: #5d6b79 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #15191f } .box { fill: #20272f; stroke: #566372 } .inner { fill: #2a333d; stroke: #4a5664 }
    .urgent { fill: #5c2a22; stroke: #e0806d } .event { fill: #4f3f17; stroke: #dcb75a }
    .work { fill: #22395a; stroke: #7fa9e0 } .poll { fill: #1f4630; stroke: #74c08e } .rest { stroke: #7b8896 }
    .title { fill: #eef2f6 } .text { fill: #c0cad4 } .arrow { stroke: #9aa7b4 } .head { fill: #9aa7b4 }
  }
"""
FONT = 'font-family="system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"'

# Kind, x, y, width and height of each box, its title, and the lines below that.
ARCHITECTURE = """
box    20  20 820  62 | Your program | tasks, callbacks, handlers; on a Pi, on a desktop and in tests
work   20 106 190  84 | scheduling/ | every, sliced, throttle | Lock, Queue, Event | RateLimiter
event 230 106 190  84 | sources/ | gpio, serial, i2c, spi | your own sources
event 440 106 190  84 | pins/ | gpiozero's devices | on the loop
poll  650 106 190  84 | service/ | readiness, watchdog | safe levels
box    20 214 180 134 | virtual/ | the same loop | in virtual time: | jumps to the next event, | repeats by its seed
box   220 214 580 134 | core/ — the loop, which knows no hardware and no source
inner 236 244 128  42 | dispatch
inner 374 244 128  42 | run queue
inner 512 244 128  42 | timer queue
inner 650 244 128  42 | poller
inner 236 296 128  42 | urgency
inner 374 296 128  42 | monitor
inner 512 296 128  42 | transports
inner 650 296 128  42 | GC schedule
box    20 372 820  44 | board.py — what hardware must offer, and which board is in use
box    20 440 400  84 | boards/ — real hardware | gpiod or lgpio, pyserial, smbus2, spidev | gpiochip, tty, i2c, spidev
box   440 440 400  84 | firmware_sim — the simulated board | FIFO, terminals, ioctls | more than sixty parts
poll   20 548 820  44 | hwloop guard — a process of its own; drives safe levels when the program can't
"""
ARCHITECTURE_ARROWS = """
M115 82 V106
M325 82 V106
M535 82 V106
M745 82 V106
M190 190 L232 214
M300 190 V214
M500 190 V214
M745 190 V214
M200 281 H220
M350 190 V202 H820 V372
M560 190 V202 H820 V372
M220 416 V440
M640 416 V440
"""

# One turn above, several on a time line below.
TURN = """
poll   20  24 300 122 | 1. Poll | take calls from other threads | ask epoll for ready descriptors | take due timers
box   380  24 460 122 | 2. Slice: 0.05 ms, at least one callback
urgent 396 56 134  78 | first | INTERRUPT, HIGH | earliest deadline
event 543  56 134  78 | alternating | events: descriptors | and due timers
work  690  56 134  78 | alternating | ordinary work, | first come first
rest   20 196 300  60 | Nothing ready: wait in epoll | until a descriptor or a timer is ready
"""
TURN_ARROWS = """
M320 85 H380
M170 146 V196
M60 196 V148
M610 146 V172 H250 V148
"""
TIMELINE = [
    ("poll", "poll"),
    ("urgent", "edge"),
    ("urgent", "HIGH"),
    ("event", "timer"),
    ("work", "task"),
    ("event", "port"),
    ("work", "task"),
    ("poll", "poll"),
    ("work", "task"),
    ("work", "LOW"),
    ("work", "task"),
    ("poll", "poll"),
    ("rest", "wait"),
    ("poll", "poll"),
    ("urgent", "edge"),
]


def box(kind: str, x: float, y: float, width: float, height: float, lines: list[str]) -> str:
    """Draw a box; its text is centred."""
    dash = ' stroke-dasharray="5 4"' if kind == "rest" else ""
    drawn = [f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"{dash}/>']
    top = y + 22 if height > 100 else y + height / 2 - (len(lines) - 1) * 9 + 5
    for number, line in enumerate(lines):
        place = f'x="{x + width / 2:g}" y="{top + 18 * number:g}" text-anchor="middle"'
        drawn.append(f'<text class="{"text" if number else "title"}" {place}>{escape(line)}</text>')
    return "\n".join(drawn)


def boxes(description: str) -> list[str]:
    """Draw the boxes of a description."""
    drawn = []
    for row in description.strip().splitlines():
        place, *lines = (part.strip() for part in row.split("|"))
        kind, *numbers = place.split()
        drawn.append(box(kind, *map(float, numbers), lines))
    return drawn


def arrow(path: str) -> str:
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def arrows(description: str) -> list[str]:
    """Draw the arrows of a description, which has an SVG path on each line."""
    return [arrow(path) for path in description.strip().splitlines()]


def picture(title: str, width: int, height: int, parts: list[str]) -> str:
    """Return a whole SVG file."""
    head = (
        '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 L10 5 L0 10 z"/></marker>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" {FONT} font-size="13">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{head}</defs>",
            f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def timeline(top: float) -> list[str]:
    """Draw what runs one after another, and time below it."""
    parts, x = [], 20.0
    for kind, text in TIMELINE:
        width = 82 if kind == "rest" else 48
        parts.append(box(kind, x, top, width, 36, [text]))
        x += width + 4.4
    parts.append(arrow(f"M20 {top + 54:g} H840"))
    parts.append(f'<text class="text" x="836" y="{top + 74:g}" text-anchor="end">time</text>')
    return parts


def pictures() -> dict[str, str]:
    """Return the files, by name."""
    architecture = boxes(ARCHITECTURE) + arrows(ARCHITECTURE_ARROWS)
    turn = boxes(TURN) + arrows(TURN_ARROWS) + timeline(290)
    return {
        "architecture.svg": picture("The parts of hwloop, from the program to the hardware", 860, 612, architecture),
        "turn.svg": picture("A turn of the loop: a poll, then a slice of callbacks", 860, 376, turn),
    }


if __name__ == "__main__":
    for name, text in pictures().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")
