"""``floatip`` on a node: sends one CNI call to the node agent and prints the answer.

``floatipctl install-client`` writes this file into the runtime's plugin directory. It runs in somebody else's
cgroup, often with a tenth of a CPU, so it imports only what the interpreter has loaded anyway, ``_socket`` to
call the agent, and ``json`` and SHA-256 when there is no answer. ``protocol/wire.py`` describes the frames.
The agent may be away, hung, or die at any moment; every call ends in time all the same, and a DEL succeeds.
"""

import posix
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

# Written by the installer.
RELEASE = ""
SOCKET = "/run/floatip/agent.sock"
SPOOL = "/var/lib/cni/floatip/spool"
SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
# In seconds: how long to wait for an agent to take the call, and the most that a call may last.
CONNECT_SECONDS = {"ADD": 20, "CHECK": 20, "DEL": 2, "GC": 2, "STATUS": 1}
CALL_SECONDS = {"ADD": 200, "CHECK": 200, "DEL": 9, "GC": 200, "STATUS": 20}
STDIN = {"DEL": 3}
MARGIN = 2
# End of what the installer writes.

RETRIED = ("ADD", "CHECK")
MOST_DEATHS = 3  # of agents over one call: it may be what kills them
MOST_STDIN = 3 << 20
MOST_ANSWER = 16 << 20
MOST_SPOOLED = 4096
MOST_SPOOLED_BYTES = 1 << 20
VERSION = OLDEST = 1  # of the protocol
TRY_AGAIN, NOT_AVAILABLE = 11, 50
ABOUT = (
    "CNI plugin floatip: a floating IP for pods on Amazon EKS, chained after ipvlan or host-device\n"
    f"CNI protocol versions supported: {', '.join(SUPPORTED)}\n"
)


class Away(Exception):
    """There will be no answer; the text says why."""


class ConnectionLost(Away):
    """The agent is away; another may start soon. ``taken``: it had begun to work on the call."""

    def __init__(self, why: str, taken: bool) -> None:
        super().__init__(why)
        self.taken = taken


def main() -> int:
    """Make the call that the environment describes; return the exit status."""
    began = time.monotonic()
    heard = keep_standard_descriptors()
    verb = posix.environ.get(b"CNI_COMMAND", b"").decode(errors="replace")
    if not verb:
        write(2, ABOUT.encode())
        return 0
    if verb == "VERSION":
        versions = '", "'.join(SUPPORTED)
        text = f'{{"cniVersion": "{asked_version()}", "supportedVersions": ["{versions}"]}}\n'
        status, answer = 0, text.encode()
    else:
        status, answer = call(verb, began)
    if answer and not (heard and write(1, answer)):
        return 1
    return status


def keep_standard_descriptors() -> bool:
    """Return whether standard output is open. Fills closed descriptors, which files of ours would get."""
    try:
        posix.fstat(1)
        heard = True
    except OSError:
        heard = False
    try:
        while (spare := posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)) <= 2:
            pass
        posix.close(spare)
    except OSError:  # no /dev here
        pass
    return heard


def write(descriptor: int, text: bytes) -> bool:
    """Write all of ``text``; return whether that worked, because the reader may be gone."""
    try:
        while text:
            text = text[posix.write(descriptor, text) :]
    except OSError:
        return False
    return True


def tell(sentence: str) -> None:
    """Write for the operator."""
    write(2, f"floatip: {sentence}\n".encode(errors="replace"))


def asked_version() -> str:
    """Return the caller's version if it comes soon, because VERSION must not hang on an open input.

    The runtime may write its request only after we have started.
    """
    import select

    try:
        return version_in(posix.read(0, 65536) if select.select([0], [], [], 0.1)[0] else b"")
    except (OSError, ValueError):
        return SUPPORTED[-1]


def version_in(config: bytes) -> str:
    """Return the ``cniVersion`` of ``config`` if we support it, else the newest that we support."""
    bare = config.translate(None, b" \t\r\n")
    for version in SUPPORTED:
        if bare == b'{"cniVersion":"%s"}' % version.encode():  # what libcni sends, without the cost of json
            return version
    if bare:
        import json

        try:
            result = json.loads(config.decode("utf-8-sig"))["cniVersion"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return SUPPORTED[-1]
        if result in SUPPORTED:
            return str(result)
    return SUPPORTED[-1]


def call(verb: str, began: float) -> tuple[int, bytes]:
    """Return exit status and output of a call that the agent decides."""
    try:
        stdin = read_stdin(began + STDIN.get(verb, 20))
    except OSError as e:
        text = f"cannot read the network configuration from standard input: {e.strerror}"
        return 1, error(5, text, b"")
    if len(stdin) > MOST_STDIN:
        return 1, error(6, f"network configuration: more than {MOST_STDIN} bytes", b"")
    netns, failed = open_netns()
    body = request_body(stdin, failed)
    try:
        return ask(verb, body, netns, began)
    except Away as e:
        fault = f"no floatip agent answers on this node: {e}"
    if verb == "DEL":
        spool(body, stdin, fault)
        return 0, b""
    if verb not in CONNECT_SECONDS:
        return 1, error(
            4, f"unknown CNI_COMMAND: {verb[:40]!r}; known: {', '.join(CONNECT_SECONDS)}, VERSION", stdin
        )
    return 1, error(NOT_AVAILABLE if verb == "STATUS" else TRY_AGAIN, fault, stdin)


def error(code: int, message: str, config: bytes) -> bytes:
    """Return the error document of a failure."""
    import json

    document = {"cniVersion": version_in(config), "code": code, "msg": message}
    return json.dumps(document).encode() + b"\n"


def read_stdin(until: float) -> bytes:
    """Return standard input up to its end, or up to the deadline; the agent says what is missing."""
    import select

    held = bytearray()
    while len(held) <= MOST_STDIN and select.select([0], [], [], max(0, until - time.monotonic()))[0]:
        if not (some := posix.read(0, 65536)):
            break
        held += some
    return bytes(held)


def open_netns() -> tuple[int, int]:
    """Return a descriptor of CNI_NETNS and 0, or -1 and why it cannot be opened (0: there is none)."""
    path = posix.environ.get(b"CNI_NETNS")
    if not path:
        return -1, 0
    try:  # whatever the path leads to: not waiting, and without becoming its terminal
        return posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY), 0
    except OSError as e:
        return -1, e.errno or 0


def request_body(stdin: bytes, failed: int) -> bytes:
    """Return the body that is sent, and spooled: the CNI variables and standard input."""
    env = [b"%s=%s" % item for item in posix.environ.items() if item[0].startswith(b"CNI_")]
    env.append(f"FIP_CLIENT={RELEASE}".encode())
    if failed:
        env.append(f"FIP_ERRNO={failed}".encode())
    block = b"\0".join(env)
    return len(block).to_bytes(4, "big") + block + stdin


def ask(verb: str, body: bytes, netns: int, began: float) -> tuple[int, bytes]:
    """Return the agent's exit status and output. Raises Away when it does not answer in time."""
    last = began + CALL_SECONDS.get(verb, 20)
    until = min(time.monotonic() + CONNECT_SECONDS.get(verb, 2), last)
    pause, deaths = 0.05, 0
    while True:
        try:
            return exchange(body, netns, until, last)
        except ConnectionLost as e:
            if e.taken:
                until, deaths = min(time.monotonic() + CONNECT_SECONDS.get(verb, 2), last), deaths + 1
            if verb not in RETRIED or deaths >= MOST_DEATHS or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def exchange(body: bytes, netns: int, until: float, last: float) -> tuple[int, bytes]:
    """Make one connection and one request; return exit status and output. Raises Away, ConnectionLost."""
    import _socket

    taken, agent = False, None
    try:
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        connect(agent, until)
        send(
            agent,
            bytes((*b"FIP", VERSION, OLDEST, 0, 0, 0)) + len(body).to_bytes(4, "big") + body,
            netns,
            until,
        )
        check_greeting(receive(agent, 8, until))
        while True:
            kind, length = receive(agent, 1, until), int.from_bytes(receive(agent, 4, until), "big")
            if length > MOST_ANSWER:
                raise Away(f"{SOCKET}: it sends a frame of {length} bytes")
            payload = receive(agent, length, until)
            if kind == b"D":
                until, taken = min(time.monotonic() + seconds(payload) + MARGIN, last), True
            elif kind == b"R" and payload:
                return payload[0], payload[1:]
            elif kind == b"E":
                raise Away(payload.decode(errors="replace"))
    except TimeoutError as e:
        raise Away(f"{SOCKET}: no answer" + " by the deadline that it named" * taken) from e
    except OSError as e:
        raise ConnectionLost(f"{SOCKET}: {e.strerror or e}", taken) from e
    finally:
        if agent:
            agent.close()


def connect(agent: "_socket.socket", until: float) -> None:
    """Connect; waits for an agent whose queue is full. Raises OSError."""
    agent.settimeout(max(0.001, until - time.monotonic()))
    while True:
        try:
            agent.connect(SOCKET)
            return
        except BlockingIOError as e:  # its queue is full
            if time.monotonic() > until:
                raise TimeoutError from e
        time.sleep(0.05)


def send(agent: "_socket.socket", request: bytes, netns: int, until: float) -> None:
    """Send all, the descriptor with the first byte. A hang-up is no error: the agent may have said why."""
    import _socket

    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, netns.to_bytes(4, sys.byteorder, signed=True))
    agent.settimeout(max(0.001, until - time.monotonic()))
    try:
        sent = agent.sendmsg([request], [rights] if netns >= 0 else [])
        agent.sendall(request[sent:])
    except TimeoutError:
        raise
    except OSError:
        pass


def receive(agent: "_socket.socket", count: int, until: float) -> bytes:
    """Return the next ``count`` bytes. Raises OSError."""
    held = bytearray()
    while len(held) < count:
        agent.settimeout(max(0.001, until - time.monotonic()))
        if not (some := agent.recv(min(count - len(held), 65536))):
            raise ConnectionError("the agent went away")
        held += some
    return bytes(held)


def check_greeting(greeting: bytes) -> None:
    """Raise Away if the peer is no agent, or an agent of an incompatible version."""
    if greeting[:3] != b"FIP":
        raise Away(f"{SOCKET}: another program listens there")
    if greeting[3] < OLDEST or greeting[4] > VERSION:
        raise Away(
            f"it speaks protocol {greeting[3]} (understood from {greeting[4]} on), "
            f"this client protocol {VERSION}: install both of one release"
        )


def seconds(payload: bytes) -> float:
    """Return the seconds of a D frame. Raises Away if they are no length of time."""
    try:
        if 0 <= (result := float(payload)) < 1e6:
            return result
    except ValueError:
        pass
    raise Away(f"{SOCKET}: it names a deadline of {payload[:20]!r}")


def spool(body: bytes, stdin: bytes, fault: str) -> None:
    """Write a DEL to the spool. A failure is only reported, because a DEL always succeeds."""
    container, ifname = (posix.environ.get(name, b"") for name in (b"CNI_CONTAINERID", b"CNI_IFNAME"))
    name = sha256(b"\0".join((container, ifname, stdin)))[:40] + ".del"
    try:
        make_directories()
        results = posix.listdir(SPOOL)
        if len(body) > MOST_SPOOLED_BYTES:
            raise OSError(0, f"it has more than {MOST_SPOOLED_BYTES} bytes")
        if len(results) >= MOST_SPOOLED and name not in results:
            raise OSError(0, f"the spool already holds {len(results)}")
        write_whole(f"{SPOOL}/{name}", body)
    except OSError as e:
        tell(f"{fault}; and the client cannot leave this DEL in {SPOOL}: {e.strerror}")
    else:
        tell(f"{fault}; the next agent performs this DEL: {SPOOL}/{name}")


def sha256(content: bytes) -> str:
    """Return the digest in hexadecimal, by Python's built-in module, because hashlib loads OpenSSL."""
    for module in ("_sha2", "_sha256", "hashlib"):
        try:
            return str(__import__(module).sha256(content).hexdigest())
        except ImportError:  # Python 3.12 gave the first one the second's work
            pass
    raise OSError(0, "this interpreter has no SHA-256")


def make_directories() -> None:
    """Make the spool directory, for root alone, and its parent if needed."""
    for directory in (SPOOL.rpartition("/")[0], SPOOL):
        try:
            posix.mkdir(directory, 0o700)
            posix.chmod(directory, 0o700)  # whatever the umask took away
        except FileExistsError:
            pass


def write_whole(path: str, content: bytes) -> None:
    """Write a file atomically, also with regard to a power cut. Raises OSError."""
    new = f"{path}.{posix.getpid()}.new"
    file = posix.open(new, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    try:
        posix.fchmod(file, 0o600)
        while content:
            content = content[posix.write(file, content) :]
        posix.fsync(file)
        posix.rename(new, path)
    except OSError:
        posix.unlink(new)
        raise
    finally:
        posix.close(file)
    directory = posix.open(path.rpartition("/")[0], posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        posix.fsync(directory)
    finally:
        posix.close(directory)


def answer_whatever_happens() -> int:
    """Return the exit status. A bug of ours gives an error document, and for DEL a line for the operator."""
    try:
        return main()
    except BaseException as e:  # noqa: BLE001 (the one place where every failure becomes an answer)
        sys.excepthook(type(e), e, e.__traceback__)
        if posix.environ.get(b"CNI_COMMAND") == b"DEL":
            return 0
        text = f"unexpected {type(e).__name__}: this is a bug in floatip"
        write(1, f'{{"cniVersion": "{SUPPORTED[-1]}", "code": 999, "msg": "{text}"}}\n'.encode())
        return 1


if __name__ == "__main__":
    posix._exit(answer_whatever_happens())  # nothing is left to tidy up, which saves a sixth of the time
