"""lgpio's constants and error texts.

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

    SPI_MODE_0 = 0
    SPI_MODE_1 = 1
    SPI_MODE_2 = 2
    SPI_MODE_3 = 3

    OKAY = 0
    INIT_FAILED = -1
    BAD_MICROS = -2
    BAD_PATHNAME = -3
    NO_HANDLE = -4
    BAD_HANDLE = -5
    BAD_SOCKET_PORT = -6
    NOT_PERMITTED = -7
    SOME_PERMITTED = -8
    BAD_SCRIPT = -9
    BAD_TX_TYPE = -10
    GPIO_IN_USE = -11
    BAD_PARAM_NUM = -12
    DUP_TAG = -13
    TOO_MANY_TAGS = -14
    BAD_SCRIPT_CMD = -15
    BAD_VAR_NUM = -16
    NO_SCRIPT_ROOM = -17
    NO_MEMORY = -18
    SOCK_READ_FAILED = -19
    SOCK_WRIT_FAILED = -20
    TOO_MANY_PARAM = -21
    SCRIPT_NOT_READY = -22
    BAD_TAG = -23
    BAD_MICS_DELAY = -24
    BAD_MILS_DELAY = -25
    I2C_OPEN_FAILED = -26
    SERIAL_OPEN_FAILED = -27
    SPI_OPEN_FAILED = -28
    BAD_I2C_BUS = -29
    BAD_I2C_ADDR = -30
    BAD_SPI_CHANNEL = -31
    BAD_I2C_FLAGS = -32
    BAD_SPI_FLAGS = -33
    BAD_SERIAL_FLAGS = -34
    BAD_SPI_SPEED = -35
    BAD_SERIAL_DEVICE = -36
    BAD_SERIAL_SPEED = -37
    BAD_FILE_PARAM = -38
    BAD_I2C_PARAM = -39
    BAD_SERIAL_PARAM = -40
    I2C_WRITE_FAILED = -41
    I2C_READ_FAILED = -42
    BAD_SPI_COUNT = -43
    SERIAL_WRITE_FAILED = -44
    SERIAL_READ_FAILED = -45
    SERIAL_READ_NO_DATA = -46
    UNKNOWN_COMMAND = -47
    SPI_XFER_FAILED = -48
    BAD_POINTER = -49
    MSG_TOOBIG = -50
    BAD_MALLOC_MODE = -51
    TOO_MANY_SEGS = -52
    BAD_I2C_SEG = -53
    BAD_SMBUS_CMD = -54
    BAD_I2C_WLEN = -55
    BAD_I2C_RLEN = -56
    BAD_I2C_CMD = -57
    FILE_OPEN_FAILED = -58
    BAD_FILE_MODE = -59
    BAD_FILE_FLAG = -60
    BAD_FILE_READ = -61
    BAD_FILE_WRITE = -62
    FILE_NOT_ROPEN = -63
    FILE_NOT_WOPEN = -64
    BAD_FILE_SEEK = -65
    NO_FILE_MATCH = -66
    NO_FILE_ACCESS = -67
    FILE_IS_A_DIR = -68
    BAD_SHELL_STATUS = -69
    BAD_SCRIPT_NAME = -70
    CMD_INTERRUPTED = -71
    BAD_EVENT_REQUEST = -72
    BAD_GPIO_NUMBER = -73
    BAD_GROUP_SIZE = -74
    BAD_LINEINFO_IOCTL = -75
    BAD_READ = -76
    BAD_WRITE = -77
    CANNOT_OPEN_CHIP = -78
    GPIO_BUSY = -79
    GPIO_NOT_ALLOCATED = -80
    NOT_A_GPIOCHIP = -81
    NOT_ENOUGH_MEMORY = -82
    POLL_FAILED = -83
    TOO_MANY_GPIOS = -84
    UNEGPECTED_ERROR = -85  # so spelt in lgpio
    BAD_PWM_MICROS = -86
    NOT_GROUP_LEADER = -87
    SPI_IOCTL_FAILED = -88
    BAD_GPIOCHIP = -89
    BAD_CHIPINFO_IOCTL = -90
    BAD_CONFIG_FILE = -91
    BAD_CONFIG_VALUE = -92
    NO_PERMISSIONS = -93
    BAD_USERNAME = -94
    BAD_SECRET = -95
    TX_QUEUE_FULL = -96
    BAD_CONFIG_ID = -97
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
    Constants.INIT_FAILED: "initialisation failed",
    Constants.BAD_MICROS: "micros not 0-999999",
    Constants.BAD_PATHNAME: "can not open pathname",
    Constants.NO_HANDLE: "no handle available",
    Constants.BAD_HANDLE: "unknown handle",
    Constants.BAD_SOCKET_PORT: "socket port not 1024-32000",
    Constants.NOT_PERMITTED: "GPIO operation not permitted",
    Constants.SOME_PERMITTED: "one or more GPIO not permitted",
    Constants.BAD_SCRIPT: "invalid script",
    Constants.BAD_TX_TYPE: "bad tx type for GPIO and group",
    Constants.GPIO_IN_USE: "GPIO already in use",
    Constants.BAD_PARAM_NUM: "script parameter id not 0-9",
    Constants.DUP_TAG: "script has duplicate tag",
    Constants.TOO_MANY_TAGS: "script has too many tags",
    Constants.BAD_SCRIPT_CMD: "illegal script command",
    Constants.BAD_VAR_NUM: "script variable id not 0-149",
    Constants.NO_SCRIPT_ROOM: "no more room for scripts",
    Constants.NO_MEMORY: "can not allocate temporary memory",
    Constants.SOCK_READ_FAILED: "socket read failed",
    Constants.SOCK_WRIT_FAILED: "socket write failed",
    Constants.TOO_MANY_PARAM: "too many script parameters (> 10)",
    Constants.SCRIPT_NOT_READY: "script initialising",
    Constants.BAD_TAG: "script has unresolved tag",
    Constants.BAD_MICS_DELAY: "bad MICS delay (too large)",
    Constants.BAD_MILS_DELAY: "bad MILS delay (too large)",
    Constants.I2C_OPEN_FAILED: "can not open I2C device",
    Constants.SERIAL_OPEN_FAILED: "can not open serial device",
    Constants.SPI_OPEN_FAILED: "can not open SPI device",
    Constants.BAD_I2C_BUS: "bad I2C bus",
    Constants.BAD_I2C_ADDR: "bad I2C address",
    Constants.BAD_SPI_CHANNEL: "bad SPI channel",
    Constants.BAD_I2C_FLAGS: "bad I2C open flags",
    Constants.BAD_SPI_FLAGS: "bad SPI open flags",
    Constants.BAD_SERIAL_FLAGS: "bad serial open flags",
    Constants.BAD_SPI_SPEED: "bad SPI speed",
    Constants.BAD_SERIAL_DEVICE: "bad serial device name",
    Constants.BAD_SERIAL_SPEED: "bad serial baud rate",
    Constants.BAD_FILE_PARAM: "bad file parameter",
    Constants.BAD_I2C_PARAM: "bad I2C parameter",
    Constants.BAD_SERIAL_PARAM: "bad serial parameter",
    Constants.I2C_WRITE_FAILED: "i2c write failed",
    Constants.I2C_READ_FAILED: "i2c read failed",
    Constants.BAD_SPI_COUNT: "bad SPI count",
    Constants.SERIAL_WRITE_FAILED: "ser write failed",
    Constants.SERIAL_READ_FAILED: "ser read failed",
    Constants.SERIAL_READ_NO_DATA: "ser read no data available",
    Constants.UNKNOWN_COMMAND: "unknown command",
    Constants.SPI_XFER_FAILED: "spi xfer/read/write failed",
    Constants.BAD_POINTER: "bad (NULL) pointer",
    Constants.MSG_TOOBIG: "socket/pipe message too big",
    Constants.BAD_MALLOC_MODE: "bad memory allocation mode",
    Constants.TOO_MANY_SEGS: "too many I2C transaction segments",
    Constants.BAD_I2C_SEG: "an I2C transaction segment failed",
    Constants.BAD_SMBUS_CMD: "SMBus command not supported by driver",
    Constants.BAD_I2C_WLEN: "bad I2C write length",
    Constants.BAD_I2C_RLEN: "bad I2C read length",
    Constants.BAD_I2C_CMD: "bad I2C command",
    Constants.FILE_OPEN_FAILED: "file open failed",
    Constants.BAD_FILE_MODE: "bad file mode",
    Constants.BAD_FILE_FLAG: "bad file flag",
    Constants.BAD_FILE_READ: "bad file read",
    Constants.BAD_FILE_WRITE: "bad file write",
    Constants.FILE_NOT_ROPEN: "file not open for read",
    Constants.FILE_NOT_WOPEN: "file not open for write",
    Constants.BAD_FILE_SEEK: "bad file seek",
    Constants.NO_FILE_MATCH: "no files match pattern",
    Constants.NO_FILE_ACCESS: "no permission to access file",
    Constants.FILE_IS_A_DIR: "file is a directory",
    Constants.BAD_SHELL_STATUS: "bad shell return status",
    Constants.BAD_SCRIPT_NAME: "bad script name",
    Constants.CMD_INTERRUPTED: "Python socket command interrupted",
    Constants.BAD_EVENT_REQUEST: "bad event request",
    Constants.BAD_GPIO_NUMBER: "bad GPIO number",
    Constants.BAD_GROUP_SIZE: "bad group size",
    Constants.BAD_LINEINFO_IOCTL: "bad lineinfo IOCTL",
    Constants.BAD_READ: "bad GPIO read",
    Constants.BAD_WRITE: "bad GPIO write",
    Constants.CANNOT_OPEN_CHIP: "can not open gpiochip",
    Constants.GPIO_BUSY: "GPIO busy",
    Constants.GPIO_NOT_ALLOCATED: "GPIO not allocated",
    Constants.NOT_A_GPIOCHIP: "not a gpiochip",
    Constants.NOT_ENOUGH_MEMORY: "not enough memory",
    Constants.POLL_FAILED: "GPIO poll failed",
    Constants.TOO_MANY_GPIOS: "too many GPIO",
    Constants.UNEGPECTED_ERROR: "unexpected error",
    Constants.BAD_PWM_MICROS: "bad PWM micros",
    Constants.NOT_GROUP_LEADER: "GPIO not the group leader",
    Constants.SPI_IOCTL_FAILED: "SPI iOCTL failed",
    Constants.BAD_GPIOCHIP: "bad gpiochip",
    Constants.BAD_CHIPINFO_IOCTL: "bad chipinfo IOCTL",
    Constants.BAD_CONFIG_FILE: "bad configuration file",
    Constants.BAD_CONFIG_VALUE: "bad configuration value",
    Constants.NO_PERMISSIONS: "no permission to perform action",
    Constants.BAD_USERNAME: "bad user name",
    Constants.BAD_SECRET: "bad secret for user",
    Constants.TX_QUEUE_FULL: "TX queue full",
    Constants.BAD_CONFIG_ID: "bad configuration id",
    Constants.BAD_DEBOUNCE_MICS: "bad debounce microseconds",
    Constants.BAD_WATCHDOG_MICS: "bad watchdog microseconds",
    Constants.BAD_SERVO_FREQ: "bad servo frequency",
    Constants.BAD_SERVO_WIDTH: "bad servo pulsewidth",
    Constants.BAD_PWM_FREQ: "bad PWM frequency",
    Constants.BAD_PWM_DUTY: "bad PWM dutycycle",
    Constants.GPIO_NOT_AN_OUTPUT: "GPIO not set as an output",
    Constants.INVALID_GROUP_ALERT: "can not set a group to alert",
}


def error_text(number: int) -> str:
    """Return lgpio's text for a negative status."""
    return TEXTS.get(number, "unknown error")


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
