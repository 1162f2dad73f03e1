"""Transports: what goes in comes out, as on asyncio's loop, and reads are as large as the traffic asks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import random
import socket
import ssl
import struct
import weakref

import pytest

import hwloop
from hwloop.core.transports import LARGEST_PACKET, LARGEST_READ, READS_TO_SHRINK, SMALLEST_READ


class Recorder(asyncio.Protocol):
    """Keeps what comes, and tells what happens in `events`."""

    def __init__(self):
        self.data = bytearray()
        self.events = []
        self.lost = asyncio.get_running_loop().create_future()
        self.keep_open = False
        self._awaited = None

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        if self._awaited is not None and len(self.data) >= self._awaited[0] and not self._awaited[1].done():
            self._awaited[1].set_result(None)

    def eof_received(self):
        self.events.append("eof")
        return self.keep_open

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, error):
        self.events.append("lost")
        self.lost.set_result(error)

    async def holds(self, count):
        """Wait until `count` bytes have come in all."""
        if len(self.data) < count:
            self._awaited = (count, asyncio.get_running_loop().create_future())
            await self._awaited[1]


class Asked(socket.socket):
    """Remembers how much each read asks for."""

    def __init__(self, sock):
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.sizes = []

    def recv(self, size, *flags):
        self.sizes.append(size)
        return super().recv(size, *flags)

    def recvfrom(self, size, *flags):
        self.sizes.append(size)
        return super().recvfrom(size, *flags)


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        return ours, server.accept()[0]


PAIRS = {"UNIX": socket.socketpair, "TCP": tcp_pair}


@contextlib.asynccontextmanager
async def connected(pair=socket.socketpair, wrap=lambda sock: sock):
    """A transport with its `Recorder`, and the blocking socket at the other end."""
    ours, theirs = pair()
    ours.setblocking(False)
    theirs.settimeout(10)
    transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Recorder, wrap(ours))
    with theirs:
        try:
            yield transport, protocol, theirs
        finally:
            transport.abort()
            await protocol.lost


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_small_messages_come_one_by_one_and_their_echoes_go_back(run, pair):
    async def main():
        async with connected(pair) as (transport, protocol, peer):
            for number in range(50):
                message = b"%d," % number
                peer.send(message)
                before = len(protocol.data)
                await protocol.holds(before + len(message))
                transport.write(bytes(protocol.data[before:]))
                assert peer.recv(100) == message
            assert protocol.events == ["made"]

    run(main())


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("debug", [False, True], ids=["usual", "debug"])
def test_many_megabytes_go_both_ways_at_once_unchanged(run, pair, debug):
    rng = random.Random(7)
    there, back = rng.randbytes(8_000_000), rng.randbytes(5_000_000)

    async def feed(protocol, data):
        """Pieces of all sizes and kinds."""
        at = 0
        while at < len(data):
            piece = data[at : at + rng.choice((1, 100, 5000, 70_000, 600_000))]
            protocol.transport.write(rng.choice((bytes, bytearray, memoryview))(piece))
            at += len(piece)
            if protocol.events[-1] == "pause":
                await asyncio.sleep(0)
        protocol.transport.write_eof()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        ends = []
        for sock in pair():
            sock.setblocking(False)
            ends.append((await loop.connect_accepted_socket(Recorder, sock))[1])
            ends[-1].keep_open = True
        one, other = ends
        await asyncio.gather(feed(one, there), feed(other, back), one.holds(len(back)), other.holds(len(there)))
        assert one.data == back
        assert other.data == there
        while not ("eof" in one.events and "eof" in other.events):
            await asyncio.sleep(0)
        for end in ends:
            assert "pause" in end.events  # the sender was held back
            end.transport.close()
            assert await end.lost is None
            writes = [event for event in end.events if event in ("pause", "resume")]
            assert writes == ["pause", "resume"] * (len(writes) // 2)

    run(main())


def test_reads_grow_with_the_traffic_and_shrink_again():
    async def main():
        async with connected(wrap=Asked) as (transport, protocol, peer):
            asked = transport._sock.sizes
            count = 0

            async def small(times):
                nonlocal count
                for _ in range(times):
                    peer.send(b"small")
                    count += 5
                    await protocol.holds(count)

            async def bulk(size):
                nonlocal count
                count += size
                await asyncio.gather(asyncio.to_thread(peer.sendall, bytes(size)), protocol.holds(count))

            await small(20)
            assert set(asked) == {SMALLEST_READ}
            asked.clear()

            transport.pause_reading()  # so that there is enough to read
            peer.send(bytes(SMALLEST_READ * 3))
            count += SMALLEST_READ * 3
            transport.resume_reading()
            await protocol.holds(count)
            assert asked == [SMALLEST_READ, SMALLEST_READ * 2]
            asked.clear()

            await small(READS_TO_SHRINK - 1)
            peer.send(bytes(SMALLEST_READ))  # a fair part of what is asked for: no ebb
            count += SMALLEST_READ
            await protocol.holds(count)
            await small(READS_TO_SHRINK)
            assert set(asked) == {SMALLEST_READ * 4}
            asked.clear()
            await small(READS_TO_SHRINK - 1)
            transport.pause_reading()
            peer.send(bytes(SMALLEST_READ * 2))  # full: begin to count again
            count += SMALLEST_READ * 2
            transport.resume_reading()
            await protocol.holds(count)
            asked.clear()
            await small(2 * READS_TO_SHRINK)
            assert asked == [SMALLEST_READ * 4] * READS_TO_SHRINK + [SMALLEST_READ * 2] * READS_TO_SHRINK
            asked.clear()

            while LARGEST_READ not in asked:
                await bulk(2_000_000)
            assert max(asked) == LARGEST_READ
            await small(5 * READS_TO_SHRINK)
            assert asked[-1] == SMALLEST_READ
            asked.clear()
            await small(2 * READS_TO_SHRINK)
            assert set(asked) == {SMALLEST_READ}

    hwloop.run(main())


def test_nothing_comes_while_reading_is_paused_and_nothing_is_lost(run):
    data = random.Random(3).randbytes(400_000)

    async def main():
        async with connected() as (transport, protocol, peer):
            sending = asyncio.create_task(asyncio.to_thread(peer.sendall, data))
            for part in range(100_000, 400_001, 100_000):
                await protocol.holds(part)
                transport.pause_reading()
                transport.pause_reading()
                assert not transport.is_reading()
                held = len(protocol.data)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(protocol.data) == held
                transport.resume_reading()
                assert transport.is_reading()
            await sending
            assert protocol.data == data

    run(main())


def test_a_descriptor_that_was_said_to_be_readable_and_is_not_does_no_harm(run):
    async def main():
        async with connected() as (transport, protocol, peer):
            transport._read_ready()
            peer.send(b"now")
            await protocol.holds(3)
            assert protocol.events == ["made"]

    run(main())


def test_a_peer_that_has_finished_still_gets_what_is_written(run):
    async def main():
        async with connected() as (transport, protocol, peer):
            protocol.keep_open = True
            peer.sendall(b"question")
            peer.shutdown(socket.SHUT_WR)
            while "eof" not in protocol.events:
                await asyncio.sleep(0)
            assert protocol.data == b"question"
            transport.write(b"answer")
            transport.write_eof()
            assert peer.recv(100) == b"answer"
            assert peer.recv(100) == b""
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                transport.write(b"more")
            assert "lost" not in protocol.events

    run(main())


def test_a_closed_transport_sends_nothing_more(run):
    async def main():
        async with connected() as (transport, protocol, peer):
            transport.write(b"before")
            transport.close()
            transport.write(b"after")
            await protocol.lost
            assert (peer.recv(100), peer.recv(100)) == (b"before", b"")

    run(main())


def test_an_end_that_the_socket_rejects_still_ends_the_writing(run):
    class Endless(socket.socket):
        def shutdown(self, how):
            raise OSError(errno.ENOTCONN, "not connected")

    async def main():
        async with connected(wrap=lambda sock: Endless(fileno=sock.detach())) as (transport, _, _):
            with pytest.raises(OSError, match="not connected"):
                transport.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                transport.write(b"more")

    run(main())


def test_an_end_of_file_closes_the_connection(run):
    async def main():
        async with connected() as (transport, protocol, peer):
            peer.close()
            assert await protocol.lost is None
            assert protocol.events == ["made", "eof", "lost"]
            assert transport.is_closing()

    run(main())


def test_a_connection_that_the_peer_resets_is_lost_with_that_error(run):
    async def main():
        async with connected(tcp_pair) as (_, protocol, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            assert isinstance(await protocol.lost, ConnectionResetError)
            assert protocol.events == ["made", "lost"]

    run(main())


def test_writing_to_a_peer_that_is_gone_ends_the_connection_and_is_logged_after_a_while(run, caplog):
    async def main():
        async with connected() as (transport, protocol, peer):
            transport.pause_reading()
            peer.close()
            transport.write(b"")  # nothing to send, nothing to fail
            assert not transport.is_closing()
            transport.write(b"into the void")
            assert transport.is_closing()
            for _ in range(6):
                transport.write(b"again")
            assert isinstance(await protocol.lost, BrokenPipeError)
            for _ in range(2):
                transport.write(b"and again")

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.message for record in caplog.records] == ["socket.send() raised exception."] * 4


@pytest.mark.parametrize("data", ["text", 5, None, [b"list"]])
def test_data_that_is_not_bytes_raises(run, data):
    async def main():
        async with connected() as (transport, _, _):
            with pytest.raises(TypeError, match="data argument must be a bytes"):
                transport.write(data)
            transport.write(b"")
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_a_protocol_that_raises_loses_its_connection_and_is_reported(run):
    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        async with connected() as (transport, protocol, peer):
            error = KeyError("a bug")

            def bug(data):
                raise error

            protocol.data_received = bug
            peer.send(b"x")
            assert await protocol.lost is error
            (report,) = reports
            assert report["message"] == "Fatal error: protocol.data_received() call failed."
            assert report["exception"] is error
            assert report["transport"] is transport
            assert report["protocol"] is protocol

    run(main())


class Buffered(asyncio.BufferedProtocol):
    def __init__(self):
        self.buffer = bytearray(100)
        self.got = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.got.set_result(bytes(self.buffer[:count]))

    def connection_lost(self, error):
        pass


def test_a_protocol_can_be_exchanged_for_one_of_the_other_kind_while_it_reads(run):
    async def main():
        async with connected() as (transport, first, peer):
            peer.send(b"one")
            await first.holds(3)
            second = Buffered()
            transport.set_protocol(second)
            peer.send(b"two")
            assert await second.got == b"two"
            transport.set_protocol(first)
            peer.send(b"three")
            await first.holds(8)
            assert first.data == b"onethree"
            assert transport.get_protocol() is first

    run(main())


def test_tls_can_start_in_the_middle_of_a_connection(run):
    def context(purpose):
        made = ssl.SSLContext(purpose)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers("AECDH:@SECLEVEL=0")  # anonymous: no certificate needed
        return made

    async def main():
        loop = asyncio.get_running_loop()
        async with connected() as (transport, plain, peer):
            peer.send(b"STARTTLS")
            await plain.holds(8)

            def converse():
                with context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(peer) as secure:
                    secure.sendall(bytes(1_000_000))
                    echoed = 0
                    while echoed < 1_000_000:
                        echoed += len(secure.recv(65536))
                    return secure.version()

            talking = asyncio.create_task(asyncio.to_thread(converse))
            inner = Recorder()
            secured = await loop.start_tls(transport, inner, context(ssl.PROTOCOL_TLS_SERVER), server_side=True)
            await inner.holds(1_000_000)
            secured.write(bytes(inner.data))
            assert await talking == "TLSv1.2"
            assert inner.data == bytes(1_000_000)
            assert plain.data == b"STARTTLS"
            secured.abort()
            await inner.lost
            plain.lost.set_result(None)  # whose place the other has taken

    run(main())


def test_a_read_that_is_cancelled_loses_nothing(run):
    async def main():
        ours, peer = socket.socketpair()
        with peer:
            reader, writer = await asyncio.open_connection(sock=ours)
            for _ in range(3):
                reading = asyncio.create_task(reader.readexactly(6))
                peer.send(b"abc")
                while not reader._buffer:
                    await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                peer.send(b"def")
                assert await reader.readexactly(6) == b"abcdef"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_file_can_be_sent_between_two_writes(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"file" * 50_000)

    async def main():
        async with connected(tcp_pair) as (transport, _, peer):

            def receive():
                got = b""
                while len(got) < 200_012:
                    got += peer.recv(65536)
                return got

            receiving = asyncio.create_task(asyncio.to_thread(receive))
            transport.write(b"before")
            with path.open("rb") as file:
                sending = asyncio.create_task(asyncio.get_running_loop().sendfile(transport, file))
                await asyncio.sleep(0)
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    transport.write(b"between")
                assert await sending == 200_000
            transport.write(b"behind")
            assert await receiving == b"before" + b"file" * 50_000 + b"behind"

    run(main())


def test_a_transport_that_nobody_closes_is_warned_of_under_asyncios_name(run):
    async def main():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        with theirs:
            transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
            fd = ours.fileno()
            assert repr(transport) == f"<_SelectorSocketTransport fd={fd} read=polling write=<idle, bufsize=0>>"
            loop._remove_reader(fd)
            del transport, protocol, ours
            with pytest.warns(ResourceWarning) as caught:
                gc.collect()
            texts = [str(warning.message) for warning in caught]
            assert f"unclosed transport <_SelectorSocketTransport fd={fd} read=idle write=<idle, bufsize=0>>" in texts

    run(main())


def test_a_closed_transport_is_freed_as_soon_as_on_asyncios_loop():
    async def is_freed():
        async with connected() as (transport, protocol, _):
            transport.close()
            gone = weakref.ref(transport)
        del transport, protocol.transport
        await asyncio.sleep(0)
        return gone() is None

    gc.disable()
    try:
        stock = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        with stock:
            expected = stock.run(is_freed())
        assert hwloop.run(is_freed()) >= expected
    finally:
        gc.enable()
        gc.collect()


def test_the_extra_information_of_a_connection_is_asyncios(run):
    async def main():
        async with connected(tcp_pair) as (transport, _, peer):
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            assert transport.get_extra_info("socket").family == socket.AF_INET
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.got.set_result(data)


@pytest.mark.parametrize(
    ("family", "asked", "size"), [(socket.AF_INET, LARGEST_PACKET, 65_507), (socket.AF_UNIX, 256 * 1024, 150_000)]
)
def test_the_largest_datagrams_come_whole(tmp_path, family, asked, size):
    async def main():
        receiver = Asked(socket.socket(family, socket.SOCK_DGRAM))
        receiver.setblocking(False)
        receiver.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=receiver)
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(bytes(size), receiver.getsockname())
            assert await protocol.got == bytes(size)
        assert receiver.sizes == [asked]
        transport.close()
        await asyncio.sleep(0)

    hwloop.run(main())


def test_a_pipe_is_read_to_its_end_in_pieces_of_what_it_holds():
    async def main():
        read_end, write_end = os.pipe()
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(read_end, "rb", buffering=0)
        transport, protocol = await loop.connect_read_pipe(Recorder, pipe)
        assert transport.max_size == LARGEST_PACKET

        def fill():
            with open(write_end, "wb") as file:
                file.write(bytes(range(256)) * 2000)

        await asyncio.to_thread(fill)
        assert await protocol.lost is None
        assert protocol.data == bytes(range(256)) * 2000
        assert protocol.events == ["made", "eof", "lost"]

    hwloop.run(main())


def test_a_second_transport_for_a_socket_ends_as_on_asyncios_loop():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        first, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        try:
            second, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        except RuntimeError as error:
            return type(error)
        else:
            second.close()
        finally:
            first.close()
            theirs.close()
            await asyncio.sleep(0)

    outcomes = []
    for factory in (asyncio.SelectorEventLoop, hwloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            outcomes.append(runner.run(main()))
    assert outcomes[0] == outcomes[1]
