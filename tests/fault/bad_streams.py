"""The same provider over HTTP/2: python3-h2 keeps the protocol, a behaviour
decides what becomes of each stream.

    with Streams(context, goaway=goes_away) as provider: ...

A behaviour is a function of a Stream, called when the request is complete; it
runs in the connection's only thread.
"""

import struct

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from bad_provider import *


class Stream:
    """One request whose body has been read."""

    def __init__(self, talk, number, model):
        self.talk = talk
        self.http = talk.http
        self.number = number
        self.model = model

    def head(self, status="200", length=None, more=()):
        lines = [(":status", status), ("content-type", "application/json")]
        if length is not None:
            lines.append(("content-length", str(length)))
        self.http.send_headers(self.number, [*lines, *more])

    def data(self, data, end=True):
        self.http.send_data(self.number, data, end_stream=end)

    def answer(self):
        body = answer_for(self.model)
        self.head(length=len(body))
        self.data(body)

    def reset(self, code):
        self.http.reset_stream(self.number, code)

    def go_away(self, last):
        """GOAWAY; h2 then refuses to say more, so later frames are raw."""
        self.talk.flush()
        self.talk.socket.sendall(frame(7, 0, 0, struct.pack(">II", last, 0)))

    def raw(self, data):
        self.talk.flush()
        self.talk.socket.sendall(data)


def frame(kind, flags, stream, data=b""):
    return (struct.pack(">I", len(data))[1:]
            + struct.pack(">BBI", kind, flags, stream) + data)


class Hangup(Exception):
    """Raised by a behaviour: the connection ends now."""


class Talk:
    """One connection."""

    def __init__(self, provider, connection):
        self.provider = provider
        self.socket = connection
        self.http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None))
        if provider.most_streams:
            self.http.local_settings[
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = \
                provider.most_streams
        self.models = {}

    def flush(self):
        self.socket.sendall(self.http.data_to_send())

    def run(self):
        self.http.initiate_connection()
        self.flush()
        while data := self.socket.recv(1 << 16):
            for event in self.http.receive_data(data):
                self.take(event)
            self.flush()

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            path = dict(event.headers)[b":path"].decode()
            model = re.match("/model/([^/]*)/", path)[1]
            self.models[event.stream_id] = model
            with self.provider.lock:
                self.provider.posts[model] += 1
        elif isinstance(event, h2.events.DataReceived):
            self.make_room(event)
        elif isinstance(event, h2.events.StreamEnded):
            model = self.models.pop(event.stream_id)
            behave = self.provider.behaviours.get(model, Stream.answer)
            behave(Stream(self, event.stream_id, model))

    def make_room(self, event):
        """The connection's window always, the stream's unless the model is
        named so."""
        size = event.flow_controlled_length
        if size and self.models[event.stream_id] == "never-reads":
            self.http.increment_flow_control_window(size)
        elif size:
            self.http.acknowledge_received_data(size, event.stream_id)


class Streams(Provider):
    """A Provider whose connections speak HTTP/2."""

    def __init__(self, tls, most_streams=None, **behaviours):
        super().__init__(tls, **behaviours)
        self.most_streams = most_streams

    def talk(self, connection):
        with contextlib.suppress(Hangup, h2.exceptions.ProtocolError):
            Talk(self, connection).run()
