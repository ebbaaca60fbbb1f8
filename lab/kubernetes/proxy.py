"""TCP proxies that can fail: a node has one for each API server, and all of them live in one process.

Run as a program of its own (``python -I -S proxy.py CONFIGURATION``), because what is measured through it
must not wait for the interpreter that also plays EC2. Standard library only. It ends when its standard input
ends.

CONFIGURATION is JSON: ``{"control": PATH, "mark": NUMBER, "links": {NAME: {"listen": [ADDRESS, PORT], "to":
[ADDRESS, PORT]}}}``. ``mark`` (0: none) is the firewall mark of what it sends to the servers, by which a rule
that sends a node's packets here leaves out its own.

The unix socket PATH takes orders, a line of JSON each, and answers when the order is carried out:

    {"link": NAME, "do": "pass"}                             as a network does that works
    {"link": NAME, "do": "cut"}                              connections are reset, new ones refused
    {"link": NAME, "do": "swallow", "what": "answers"}       bytes vanish in silence ("requests", "both")
    {"link": NAME, "do": "delay", "seconds": 0.5}            each byte arrives so much later, both ways
    {"do": "state"}                                          what each link does, and what went over it

"delay" and the others are independent: a link can be slow and swallow. A connection of which bytes were
swallowed is reset when the link passes again, because its stream has a hole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
from typing import Any

REQUESTS, ANSWERS = "requests", "answers"
SWALLOWED = {"pass": (), "cut": (), REQUESTS: (REQUESTS,), ANSWERS: (ANSWERS,), "both": (REQUESTS, ANSWERS)}
SO_MARK = 36  # asm-generic/socket.h; Python does not name it
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CHUNK = 1 << 16


class Connection:
    """One client's connection and ours to the server, with a pump for each direction."""

    def __init__(self, link: Link, client: socket.socket) -> None:
        self._link = link
        self._client = client
        self._ended = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self.has_hole = False

    async def run(self) -> None:
        """Carry bytes both ways until both sides have ended, or one is broken."""
        client = await asyncio.open_connection(sock=self._client)
        self._writers.append(client[1])
        server = await self._link.connect()
        self._writers.append(server[1])
        if self._ended.is_set():  # it was reset while the server had not answered
            return
        async with asyncio.TaskGroup() as group:
            for direction, reader, writer in (
                (REQUESTS, client[0], server[1]),
                (ANSWERS, server[0], client[1]),
            ):
                queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
                group.create_task(self._read(reader, queue))
                group.create_task(self._write(direction, queue, writer))
        for writer in self._writers:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Note when each piece is due; the last one is empty, and stands for the end of the stream."""
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            data = await reader.read(CHUNK)
            queue.put_nowait((clock() + self._link.seconds, data))

    async def _write(
        self, direction: str, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - clock()))
            if self._link.swallows(direction):
                self.has_hole = True
                self._link.swallowed += len(data)
                if not data:
                    await self._ended.wait()  # the other side does not hear that the stream has ended
                    return
                continue
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            self._link.carried[direction] += len(data)
            writer.write(data)
            await writer.drain()

    def reset(self) -> None:
        """Break both connections, so that both sides hear it at once."""
        self._ended.set()
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


class Link:
    """The way from a node to one API server."""

    def __init__(self, listen: tuple[str, int], to: tuple[str, int], mark: int) -> None:
        self._listen = listen
        self._to = to
        self._mark = mark
        self._listener: socket.socket | None = None
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.does = "pass"
        self.seconds = 0.0
        self.accepted = 0
        self.swallowed = 0
        self.carried = {REQUESTS: 0, ANSWERS: 0}

    def open(self) -> None:
        """Listen, unless it does."""
        if self._listener is None:
            self._listener = socket.create_server(self._listen)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _shut(self) -> None:
        """Refuse new connections, and reset what no one has accepted yet."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def obey(self, order: dict[str, Any]) -> None:
        """Do from now on what the order says. Raises ``ValueError`` if it makes no sense."""
        if order["do"] == "delay":
            self.seconds = float(order["seconds"])
            return
        does = order["what"] if order["do"] == "swallow" else order["do"]
        if does not in SWALLOWED:
            raise ValueError(f"a link cannot {does!r}")
        self.does = does
        if does == "cut":
            self._shut()
            self._reset(self._open)
        else:
            self.open()
        if does == "pass":
            self._reset({connection for connection in self._open if connection.has_hole})

    def _reset(self, connections: set[Connection]) -> None:
        for connection in tuple(connections):
            connection.reset()

    def swallows(self, direction: str) -> bool:
        return direction in SWALLOWED[self.does]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if self._mark:
                sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self._mark)
            await asyncio.get_running_loop().sock_connect(sock, self._to)
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    def _accept(self, listener: socket.socket) -> None:
        """Take a connection over: whoever resets all that are open from now on resets it, too."""
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone again
            return
        client.setblocking(False)
        self.accepted += 1
        connection = Connection(self, client)
        self._open.add(connection)
        task = asyncio.get_running_loop().create_task(self._carry(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, connection: Connection) -> None:
        try:
            await connection.run()
        except* OSError:
            pass  # one side broke the connection, or the server cannot be reached: the other side hears it
        finally:
            self._open.discard(connection)
            connection.reset()

    def state(self) -> dict[str, Any]:
        """Return what it does, what went over it and what is open."""
        return {
            "does": self.does,
            "seconds": self.seconds,
            "accepted": self.accepted,
            "open": len(self._open),
            "swallowed": self.swallowed,
            **self.carried,
        }


class Proxy:
    """All links of a node, and the socket that takes orders."""

    def __init__(self, links: dict[str, Link]) -> None:
        self._links = links

    async def take_orders(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out one line of JSON after another."""
        while line := await reader.readline():
            try:
                answer = self._carry_out(json.loads(line))
            except Exception as e:  # noqa: BLE001 (the answer says what was wrong; the proxy goes on)
                answer = {"error": f"{type(e).__name__}: {e}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] != "state":
            self._links[order["link"]].obey(order)
        return {name: link.state() for name, link in self._links.items()}


async def serve(configuration: dict[str, Any]) -> None:
    """Listen everywhere, say so, and go on until standard input ends."""
    links = {
        name: Link(tuple(link["listen"]), tuple(link["to"]), int(configuration.get("mark", 0)))
        for name, link in configuration["links"].items()
    }
    for link in links.values():
        link.open()
    await asyncio.start_unix_server(Proxy(links).take_orders, configuration["control"])
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
