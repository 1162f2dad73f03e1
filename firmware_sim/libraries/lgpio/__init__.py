"""lgpio over a simulated chip: `hwloop.boards.lgpio`, gpiozero and plain lgpio scripts run on it unchanged."""
