"""Parts for the simulated board. Each is a dataclass whose fields are its keys in a board file."""
