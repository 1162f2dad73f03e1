"""lgpio's settings and small helpers: the functions that reach no hardware."""

from __future__ import annotations

from firmware_sim.libraries.lgpio.calls import Unsigned, called
from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import Refused
from firmware_sim.libraries.lgpio.constants import error_text as text_of
from firmware_sim.libraries.lgpio.handles import Process

_DEBUG_LEVEL, _MIN_DELAY = 0, 1
_MIN_DELAY_MAX = 1000


class SettingsFunctions:
    """`get_internal` and `set_internal`, whose values have no effect here, `error_text` and `u2i`."""

    def __init__(self, process: Process) -> None:
        self.process: Process = process
        self._values = {_DEBUG_LEVEL: 1, _MIN_DELAY: 10}

    @called(0)
    def get_internal(self, config_id: int) -> list[int]:
        if config_id not in self._values:
            raise Refused(lg.BAD_CONFIG_ID)
        return [lg.OKAY, self._values[config_id]]

    @called()
    def set_internal(self, config_id: int, config_value: Unsigned) -> int:
        if config_id not in self._values:
            raise Refused(lg.BAD_CONFIG_ID)
        if config_id == _MIN_DELAY and config_value > _MIN_DELAY_MAX:
            raise Refused(lg.BAD_CONFIG_VALUE)
        self._values[config_id] = config_value | 1 if config_id == _DEBUG_LEVEL else config_value
        return lg.OKAY

    @called()
    def error_text(self, errnum: int) -> str:
        """Return the text of a negative status."""
        return text_of(errnum)

    def u2i(self, uint32: int) -> int:
        """Convert an unsigned number of 32 bits to a signed one."""
        return uint32 | ~0xFFFFFFFF if uint32 & 1 << 31 else uint32 & 0xFFFFFFFF

    def xref(self) -> None:
        """Do nothing: in lgpio its docstring describes the parameters."""
