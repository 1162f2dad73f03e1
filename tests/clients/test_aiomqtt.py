"""aiomqtt, unchanged, against a broker just large enough: paho's own socket on the loop's readers and writers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

aiomqtt = pytest.importorskip("aiomqtt", reason="pip install aiomqtt")

Run = Callable[[Coroutine[Any, Any, Any]], Any]

# Packet types of MQTT 3.1.1, section 2.2.1.
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14,
)  # fmt: skip


class Broker:
    """As much of an MQTT 3.1.1 broker as a client needs to see: quality of service 0 and 1, filters with a final #."""

    def __init__(self) -> None:
        self._subscriptions: dict[asyncio.StreamWriter, set[bytes]] = {}

    async def __aenter__(self) -> int:
        """The port it listens on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for writer in list(self._subscriptions):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._subscriptions[writer] = set()
        try:
            while (kind := await self._answer(reader, writer)) != DISCONNECT:
                assert kind in (CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ), kind
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self._subscriptions[writer]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """Read one packet and do what it asks; its type."""
        first = (await reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        body = await reader.readexactly(length)
        kind = first >> 4
        if kind == CONNECT:
            writer.write(packet(CONNACK, b"\0\0"))
        elif kind == PINGREQ:
            writer.write(packet(PINGRESP, b""))
        elif kind == SUBSCRIBE:
            topic, rest = string(body[2:])
            self._subscriptions[writer].add(topic)
            writer.write(packet(SUBACK, body[:2] + rest[:1]))
        elif kind == UNSUBSCRIBE:
            self._subscriptions[writer].discard(string(body[2:])[0])
            writer.write(packet(UNSUBACK, body[:2]))
        elif kind == PUBLISH:
            self._publish(first, body, writer)
        return kind

    def _publish(self, first: int, body: bytes, publisher: asyncio.StreamWriter) -> None:
        topic, rest = string(body)
        if quality := first >> 1 & 3:
            publisher.write(packet(PUBACK, rest[:2]))
            rest = rest[2:]
        number = b"\0\1" if quality else b""
        message = len(topic).to_bytes(2, "big") + topic + number + rest
        for writer, filters in self._subscriptions.items():
            if any(topic == filter or (filter[-1:] == b"#" and topic.startswith(filter[:-1])) for filter in filters):
                writer.write(packet(PUBLISH, message, quality << 1))


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind << 4 | flags]) + bytes(encoded) + body


def string(data: bytes) -> tuple[bytes, bytes]:
    """A string with its length before it, and the rest."""
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]


@pytest.mark.parametrize("quality", [0, 1])
def test_published_messages_reach_subscribers(run: Run, quality: int) -> None:
    async def main() -> list[tuple[str, bytes]]:
        async with (
            Broker() as port,
            aiomqtt.Client("127.0.0.1", port) as listener,
            aiomqtt.Client("127.0.0.1", port) as sensor,
        ):
            await listener.subscribe("house/#", qos=quality)
            for number in range(3):
                await sensor.publish("garden/temperature", "not for you", qos=quality)
                await sensor.publish(f"house/room{number}/temperature", f"{20 + number}", qos=quality)
            received = []
            async for message in listener.messages:
                received.append((str(message.topic), message.payload))
                if len(received) == 3:
                    break
            return received

    assert run(main()) == [(f"house/room{number}/temperature", b"%d" % (20 + number)) for number in range(3)]


def test_a_payload_larger_than_the_socket_takes_at_once_arrives(run: Run) -> None:
    payload = bytes(range(256)) * 8192

    async def main() -> bytes:
        async with Broker() as port, aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("image")
            await client.publish("image", payload, timeout=30)
            message = await anext(aiter(client.messages))
            assert isinstance(message.payload, bytes)
            return message.payload

    assert run(main()) == payload


def test_the_loss_of_the_broker_is_reported_to_listeners(run: Run) -> None:
    async def listen(port: int, broker: Broker) -> None:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("house/#")
            await broker.__aexit__()
            await anext(aiter(client.messages))

    async def main() -> None:
        broker = Broker()
        port = await broker.__aenter__()
        with pytest.raises(aiomqtt.MqttError):
            await listen(port, broker)

    run(main())
