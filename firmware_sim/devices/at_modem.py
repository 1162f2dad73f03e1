"""A GSM modem with AT commands: a SIM800L, with text messages, calls and unsolicited lines.

A command line ends with CR. The modem echoes it until ATE0, and answers lines between CR LF, at the end OK or ERROR
(3GPP TS 27.005 and 27.007; SIMCom "SIM800 Series AT Command Manual" V1.09). A text message is written after the prompt
"> " and ends with Ctrl-Z; Esc gives it up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import BAUD_RATES, within
from firmware_sim.timeline import Timeline
from firmware_sim.uart import Port

_CTRL_Z, _ESC = "\x1a", "\x1b"


@dataclass
class Message:
    """A text message in the modem's memory."""

    number: str
    text: str
    read: bool = False


@dataclass
class AtModem(Device):
    """A GSM modem such as a SIM800L.

    Parameters:
        port: the serial port it is on.
        baudrate: bits a second.
        pin: of its SIM card; "" for one that is unlocked.
        signal: the field strength, 0 to 31; 99 for none.
        operator: the name of the network.
        reply_delay: seconds from a command to its answer.
        answers: more commands and their answers: ["AT+GMR", "Revision:1418B05SIM800L24"]; "ERROR" as the answer fails.

    Attributes:
        echo: whether it repeats what it receives.
    """

    port: str
    baudrate: int = within(*BAUD_RATES, "bits a second", default=9600)
    pin: str = ""
    signal: int = 20
    operator: str = "hwloop mobile"
    reply_delay: float = within(0, 60, "seconds", default=0.02)
    answers: list[list[str]] = field(default_factory=list)
    echo: bool = field(default=True, init=False)
    _sent: list[tuple[str, str]] = field(default_factory=list, init=False, repr=False)
    _messages: dict[int, Message] = field(default_factory=dict, init=False, repr=False)
    _commands: list[str] = field(default_factory=list, init=False, repr=False)

    wiring = (
        "VCC to 4.0 V of a supply that gives 2 A, GND to both, TXD to RXD (line 15), RXD over 1 kΩ to TXD (line 14)"
    )
    example = 'port.write(b"AT+CMGF=1\\r"); port.write(b\'AT+CMGS="+491234"\\r\'); port.write(b"pump is dry\\x1a")'

    def __post_init__(self) -> None:
        if self.signal not in (*range(32), 99):
            raise ValueError(f"signal must be 0 to 31, or 99, not {self.signal}")
        if not all(len(row) == 2 for row in self.answers):
            raise ValueError("answers must be a list of pairs: a command and its answer")

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._port: Port = board.add_port(self.port)
        self._port.attach(self)
        self._received = ""
        self._recipient: str | None = None
        self._unlocked = not self.pin
        self._text_mode = self._caller_id = False
        self._table: tuple[tuple[str, Callable[[re.Match[str]], Iterator[str]]], ...] = (
            (r"AT\+CPIN\?", lambda _: self._lines(f"+CPIN: {'READY' if self._unlocked else 'SIM PIN'}")),
            (r'AT\+CPIN="?(\w+)"?', self._unlock),
            (r"AT\+CSQ", lambda _: self._lines(f"+CSQ: {self.signal},0")),
            (r"AT\+C(G?)REG\?", lambda match: self._lines(f"+C{match[1]}REG: 0,{1 if self._registered else 2}")),
            (r"AT\+COPS\?", lambda _: self._lines(f'+COPS: 0,0,"{self.operator}"' if self._registered else "+COPS: 0")),
            (r"AT\+CMGF=([01])", self._set_mode),
            (r"AT\+CMGF\?", lambda _: self._lines(f"+CMGF: {int(self._text_mode)}")),
            (r"AT\+CPMS=\?", lambda _: self._lines("+CPMS: " + ",".join(['("SM","ME")'] * 3))),
            (r"AT\+CPMS=.*", lambda _: self._lines(f"+CPMS: {','.join([f'{len(self._messages)},50'] * 3)}")),
            (r"AT\+CSCA\?", lambda _: self._lines('+CSCA: "+491710760000",145')),
            (r"AT\+CLIP=([01])", self._set_caller_id),
            (r"AT\+CMGR=(\d+)", self._read),
            (r'AT\+CMGL(?:="([\w ]+)")?', self._list),
            (r"AT\+CMGD=(\d+)(?:,([0-4]))?", self._delete),
            (r"ATI", lambda _: self._lines("SIM800 R14.18")),
            (r"AT\+CGMI|AT\+GMI", lambda _: self._lines("SIMCOM_Ltd")),
            (r"AT\+CGMM|AT\+GMM", lambda _: self._lines("SIMCOM_SIM800L")),
            (r"AT\+CGSN|AT\+GSN", lambda _: self._lines("867856030000000")),
            (
                r"AT|ATZ|AT&F|ATH|AT\+CNMI=.*|AT\+CMEE=.*|AT\+(CSCS|CSMP|CSCA|COPS|CFUN|CRC|IPR)=.*",
                lambda _: self._lines(),
            ),
        )

    @property
    def _registered(self) -> bool:
        return self._unlocked and self.signal != 99

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Text messages that the program has sent, as (number, text)."""
        return self._sent

    @property
    def messages(self) -> dict[int, Message]:
        """Text messages that have arrived, by their place in the memory."""
        return self._messages

    @property
    def commands(self) -> list[str]:
        """Command lines that it has received."""
        return self._commands

    # The network.

    def sms(self, number: str, text: str) -> None:
        """Let a text message arrive: the modem stores it, and reports its place with +CMTI."""
        with self._timeline.lock:
            place = next(place for place in range(1, len(self._messages) + 2) if place not in self._messages)
            self._messages[place] = Message(number, text)
            self._send(f'\r\n+CMTI: "SM",{place}\r\n')

    def ring(self, number: str) -> None:
        """Let a call arrive: RING, and after AT+CLIP=1 the number of the caller."""
        with self._timeline.lock:
            self._send("\r\nRING\r\n" + (f'\r\n+CLIP: "{number}",145\r\n' if self._caller_id else ""))

    # The wire.

    def receive(self, data: bytes) -> None:
        """Take what the program writes."""
        text = data.decode("latin-1")
        if self.echo:
            self._send(text)
        for character in text:
            if self._recipient is not None and character in (_CTRL_Z, _ESC):
                self._end_message(character == _CTRL_Z)
            elif self._recipient is None and character == "\r":
                self._execute(self._received.strip())
                self._received = ""
            else:
                self._received += character

    def _send(self, text: str) -> None:
        self._port.send(text.encode("latin-1", "replace"), self.baudrate)

    def _reply(self, *lines: str) -> None:
        self._timeline.after(self.reply_delay, lambda: self._send("".join(f"\r\n{line}\r\n" for line in lines)))

    def _execute(self, command: str) -> None:
        if not command:
            return
        self._commands.append(command)
        upper = command if '"' in command else command.upper()
        for known, answer in self.answers:
            if known.upper() == command.upper():
                self._reply(answer) if answer == "ERROR" else self._reply(answer, "OK")
                return
        if match := re.fullmatch(r"ATE([01])", upper):
            self.echo = match[1] == "1"
            self._reply("OK")
            return
        if (match := re.fullmatch(r'(?i:AT\+CMGS)="(\+?\d+)"', command)) and self._text_mode and self._registered:
            self._recipient = match[1]
            self._timeline.after(self.reply_delay, lambda: self._send("\r\n> "))
            return
        for pattern, answers in self._table:
            if match := re.fullmatch(pattern, upper, re.IGNORECASE):
                try:
                    self._reply(*answers(match), "OK")
                except LookupError:
                    break
                return
        self._reply("ERROR")

    def _end_message(self, wanted: bool) -> None:
        number, text = self._recipient, self._received.lstrip("\n")
        self._recipient, self._received = None, ""
        assert number is not None
        if not wanted:
            self._reply("OK")
            return
        self._sent.append((number, text))
        self._reply(f"+CMGS: {len(self._sent)}", "OK")

    # Commands: each yields the lines of its answer, and raises LookupError for ERROR.

    @staticmethod
    def _lines(*lines: str) -> Iterator[str]:
        yield from lines

    def _unlock(self, match: re.Match[str]) -> Iterator[str]:
        if match[1] != self.pin:
            raise LookupError
        self._unlocked = True
        yield from ()

    def _set_mode(self, match: re.Match[str]) -> Iterator[str]:
        self._text_mode = match[1] == "1"
        yield from ()

    def _set_caller_id(self, match: re.Match[str]) -> Iterator[str]:
        self._caller_id = match[1] == "1"
        yield from ()

    def _read(self, match: re.Match[str]) -> Iterator[str]:
        message = self._messages.get(int(match[1]))
        if message is None:
            return  # an empty place has no text, and is no error
        yield f"+CMGR: {_header(message)}\r\n{message.text}"
        message.read = True

    def _list(self, match: re.Match[str]) -> Iterator[str]:
        for place, message in sorted(self._messages.items()):
            if match[1] in (None, "ALL") or match[1] == _status(message):
                yield f"+CMGL: {place},{_header(message)}\r\n{message.text}"
                message.read = True

    def _delete(self, match: re.Match[str]) -> Iterator[str]:
        if match[2] in (None, "0"):
            self._messages.pop(int(match[1]), None)
        else:  # 1 and more: all that were read; 4: all
            self._messages = {place: it for place, it in self._messages.items() if match[2] != "4" and not it.read}
        yield from ()


def _status(message: Message) -> str:
    return "REC READ" if message.read else "REC UNREAD"


def _header(message: Message) -> str:
    return f'"{_status(message)}","{message.number}","","26/01/01,12:00:00+00"'
