"""GPIO lines through lgpio, real or simulated, without its callback thread: its reports are read from a FIFO."""
