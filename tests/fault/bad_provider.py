"""A provider that misbehaves on purpose, in this process: the model id of a
request says how.  HTTP/1.1, bytes as the test wants them, with or without TLS.

    with Provider(cut=cut_in_the_answer) as provider:
        ...                          # a call of model "cut" meets it
        equal(provider.posts["cut"], 1, "POSTs")

A model without a behaviour of its own is answered well.  A behaviour is a
function of a Visit; the connection lives on when it returns KEEP.
"""

import collections
import contextlib
import itertools
import re
import socket
import ssl
import struct
import threading

KEEP = object()
_ANSWER = b'{"model":"%s","usage":{"input_tokens":1,"output_tokens":1}}'


def answer_for(model):
    """The body that a good answer to a call of the model has."""
    return _ANSWER % model.encode()


class Visit:
    """One request on its connection: its head is read, its body is not."""

    def __init__(self, provider, connection, stream, head, number):
        self.provider = provider
        self.socket = connection
        self.stream = stream
        self.number = number  # from 1: of this connection's requests
        found = re.match(rb"(\w+) /model/([^/ ]*)/", head)
        self.model = found[2].decode() if found else ""
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        self.unread = int(length[1]) if length else 0

    def read_body(self, most=None):
        """All of the request's body, or so many bytes of it."""
        left = self.unread if most is None else min(most, self.unread)
        while left > 0:
            got = self.stream.read1(min(left, 1 << 16))
            if not got:
                raise ConnectionError("the caller is gone")
            left -= len(got)
            self.unread -= len(got)

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def answer(self, body=None, status=b"200 OK", lines=b""):
        body = answer_for(self.model) if body is None else body
        self.send(b"HTTP/1.1 ", status, b"\r\n", lines,
                  b"Content-Length: %d\r\n\r\n" % len(body), body)
        return KEEP

    def reset(self):
        """The connection ends with RST when the behaviour returns."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))

    def wait_for_the_end(self):
        """Until the caller closes, or the provider."""
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 16):
                pass


def good(visit):
    visit.read_body()
    return visit.answer()


class Provider:
    def __init__(self, tls=None, family=socket.AF_INET, **behaviours):
        self.tls = tls
        self.behaviours = behaviours
        self.posts = collections.Counter()  # heads that arrived, by model
        self.opened = 0
        self.lock = threading.Lock()
        self.connections = set()
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.listener = socket.create_server((host, 0), family=family,
                                             backlog=256)
        name = f"[{host}]" if ":" in host else host
        self.url = (f"{'https' if tls else 'http'}://{name}:"
                    f"{self.listener.getsockname()[1]}")

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop_all()

    def drop_all(self):
        """Every connection ends now, whatever is on it."""
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def open(self):
        with self.lock:
            return len(self.connections)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.lock:
                    self.opened += 1
                    self.connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,),
                                 daemon=True).start()

    def _serve(self, connection):
        try:
            if self.tls:  # the plain socket object is empty from here on
                connection = self._swap(connection, self.tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False))
                connection.do_handshake()
            self.talk(connection)
        except (OSError, ValueError):
            pass  # the caller is gone, or we closed
        finally:
            self._swap(connection, None)
            connection.close()

    def _swap(self, old, new):
        with self.lock:
            self.connections.discard(old)
            if new:
                self.connections.add(new)
        return new

    def talk(self, connection):
        """All requests of one connection."""
        stream = connection.makefile("rb")
        for number in itertools.count(1):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline(1 << 16)
                if not line:
                    return
                head += line
            visit = Visit(self, connection, stream, head, number)
            with self.lock:
                self.posts[visit.model] += 1
            behave = self.behaviours.get(visit.model, good)
            if behave(visit) is not KEEP:
                return


def tls_context(certificate, key, protocols=("http/1.1",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(list(protocols))
    return context
