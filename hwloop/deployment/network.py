"""The network: whether a program wants it, as far as its text shows. A service without it has only its devices to lose.

The program is read, not run. Modules that speak to a network, asyncio's calls for sockets and addresses such as
`socket://10.0.0.7:4001` show it. Commands that the program starts do not, nor do Unix sockets need it.
"""

from __future__ import annotations

import ast
import re

_MODULES = frozenset(
    (
        # of Python itself
        "ftplib", "http", "imaplib", "nntplib", "poplib", "smtplib", "socket", "socketserver", "ssl", "telnetlib",
        "urllib", "wsgiref", "xmlrpc",
        # of others
        "aiohttp", "aiomqtt", "asyncpg", "asyncssh", "fastapi", "flask", "httpx", "influxdb_client", "paho",
        "pymodbus", "redis", "requests", "starlette", "urllib3", "uvicorn", "websockets",
    )
)  # fmt: skip
_CALLS = frozenset(
    ("create_connection", "create_datagram_endpoint", "create_server", "getaddrinfo", "open_connection", "start_server")
)
_ADDRESS = re.compile(r"(?:ftp|https?|mqtts?|rfc2217|socket|tcp|tls|udp|wss?)://\S+")


def use_of_network(node: ast.AST) -> str:
    """Return how a part of a program shows that it wants the network, as a phrase; "" if it does not."""
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        modules = [node.module] if node.module and not node.level else []
    elif isinstance(node, ast.Attribute):
        return f"it calls {node.attr}" if node.attr in _CALLS else ""
    elif isinstance(node, ast.Constant):
        found = isinstance(node.value, str) and _ADDRESS.fullmatch(node.value)
        return "it has the address of a server" if found else ""
    else:
        return ""
    used = [first for first in (module.partition(".")[0] for module in modules) if first in _MODULES]
    return f"it imports {used[0]}" if used else ""
