"""lgpio's constants and error texts for GPIO, notifications and transmissions.

Programs compare with the constants and people search for the texts, so both are those of lgpio 0.2.2.0.
"""

from __future__ import annotations


class Constants:
    """lgpio's names for numbers."""

    LGPIO_PY_VERSION = 0x00020200

    OFF = LOW = CLEAR = 0
    ON = HIGH = SET = 1
    TIMEOUT = 2
    GROUP_ALL = 0xFFFFFFFFFFFFFFFF

    SET_ACTIVE_LOW = 4
    SET_OPEN_DRAIN = 8
    SET_OPEN_SOURCE = 16
    SET_PULL_UP = 32
    SET_PULL_DOWN = 64
    SET_PULL_NONE = 128

    RISING_EDGE = 1
    FALLING_EDGE = 2
    BOTH_EDGES = 3

    TX_PWM = 0
    TX_WAVE = 1

    OKAY = 0
    BAD_PATHNAME = -3
    NO_HANDLE = -4
    BAD_HANDLE = -5
    NOT_PERMITTED = -7
    BAD_TX_TYPE = -10
    BAD_GPIO_NUMBER = -73
    BAD_EVENT_REQUEST = -72
    BAD_GROUP_SIZE = -74
    BAD_LINEINFO_IOCTL = -75
    BAD_READ = -76
    BAD_WRITE = -77
    CANNOT_OPEN_CHIP = -78
    GPIO_BUSY = -79
    GPIO_NOT_ALLOCATED = -80
    NOT_A_GPIOCHIP = -81
    UNEGPECTED_ERROR = -85  # so spelt in lgpio
    BAD_PWM_MICROS = -86
    NOT_GROUP_LEADER = -87
    BAD_GPIOCHIP = -89
    BAD_CHIPINFO_IOCTL = -90
    TX_QUEUE_FULL = -96
    BAD_DEBOUNCE_MICS = -98
    BAD_WATCHDOG_MICS = -99
    BAD_SERVO_FREQ = -100
    BAD_SERVO_WIDTH = -101
    BAD_PWM_FREQ = -102
    BAD_PWM_DUTY = -103
    GPIO_NOT_AN_OUTPUT = -104
    INVALID_GROUP_ALERT = -105


TEXTS = {
    Constants.OKAY: "No error",
    Constants.BAD_PATHNAME: "can not open pathname",
    Constants.NO_HANDLE: "no handle available",
    Constants.BAD_HANDLE: "unknown handle",
    Constants.NOT_PERMITTED: "GPIO operation not permitted",
    Constants.BAD_TX_TYPE: "bad tx type for GPIO and group",
    Constants.BAD_GPIO_NUMBER: "bad GPIO number",
    Constants.BAD_EVENT_REQUEST: "bad event request",
    Constants.BAD_GROUP_SIZE: "bad group size",
    Constants.BAD_LINEINFO_IOCTL: "bad lineinfo IOCTL",
    Constants.BAD_READ: "bad GPIO read",
    Constants.BAD_WRITE: "bad GPIO write",
    Constants.CANNOT_OPEN_CHIP: "can not open gpiochip",
    Constants.GPIO_BUSY: "GPIO busy",
    Constants.GPIO_NOT_ALLOCATED: "GPIO not allocated",
    Constants.NOT_A_GPIOCHIP: "not a gpiochip",
    Constants.UNEGPECTED_ERROR: "unexpected error",
    Constants.BAD_PWM_MICROS: "bad PWM micros",
    Constants.NOT_GROUP_LEADER: "GPIO not the group leader",
    Constants.BAD_GPIOCHIP: "bad gpiochip",
    Constants.BAD_CHIPINFO_IOCTL: "bad chipinfo IOCTL",
    Constants.TX_QUEUE_FULL: "TX queue full",
    Constants.BAD_DEBOUNCE_MICS: "bad debounce microseconds",
    Constants.BAD_WATCHDOG_MICS: "bad watchdog microseconds",
    Constants.BAD_SERVO_FREQ: "bad servo frequency",
    Constants.BAD_SERVO_WIDTH: "bad servo pulsewidth",
    Constants.BAD_PWM_FREQ: "bad PWM frequency",
    Constants.BAD_PWM_DUTY: "bad PWM dutycycle",
    Constants.GPIO_NOT_AN_OUTPUT: "GPIO not set as an output",
    Constants.INVALID_GROUP_ALERT: "can not set a group to alert",
}


class error(Exception):
    """The exception of lgpio; `value` is the text."""

    __module__ = "lgpio"  # shown in tracebacks

    def __init__(self, value: str) -> None:
        self.value = value

    def __str__(self) -> str:
        return repr(self.value)


class Refused(Exception):
    """A call that lgpio answers with a negative status."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
