"""How a connection is closed while its client may still be sending: not at once, so that the answer arrives.

A socket that is closed with bytes in it that nobody has read is reset by the system. A client that is sending then sees
a broken connection, and often nothing of the refusal that was written before. uvicorn closes so after what is no HTTP,
and after an answer before the end of a body that came with ``Connection: close`` or HTTP/1.0, as from a proxy. Here the
server says that it has written all (half-close), reads on for a while and throws away what comes, and closes then: what
nginx and Apache call a lingering close (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_BYTES = 2**26  # read and thrown away
MOST_SECONDS = 5.0


class LingeringProtocol(H11Protocol):
    """uvicorn's HTTP, with connections that are closed patiently; ``uvicorn.run(app, http=LingeringProtocol)``."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has come."""
        super().connection_made(_PatientTransport(transport, self))

    def data_received(self, data: bytes) -> None:
        """Bytes of the client; those that nobody waits for any more are thrown away."""
        if not self.transport.threw_away(data):
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; a route that was to answer what came before it is told that its client has left."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # an answer has begun already
            self.transport.close()

    def shutdown(self) -> None:
        """The server ends."""
        if self.transport.is_closing():
            self.transport.abort()
        else:
            super().shutdown()

    @property
    def is_being_sent_to(self) -> bool:
        """Whether the client may be in the middle of a request."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)


class _PatientTransport:
    """A connection whose ``close`` waits for its client, for ``MOST_SECONDS`` and ``MOST_BYTES``."""

    def __init__(self, transport: asyncio.Transport, protocol: LingeringProtocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._left: int | None = None  # bytes that are still thrown away; None before the end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing is answered any more."""
        return self._left is not None or self._transport.is_closing()

    def close(self) -> None:
        """Say that all is written; close at once only where the client waits for its answer."""
        if self._left is not None or self._transport.is_closing() or not self._protocol.is_being_sent_to:
            self._transport.close()
            return
        self._left = MOST_BYTES
        self._protocol.flow.resume_reading()
        if self._transport.can_write_eof():  # TLS cannot; the answer itself says there that the connection ends
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(MOST_SECONDS, self._transport.close)

    def threw_away(self, data: bytes) -> bool:
        """Whether bytes that came are for nobody."""
        if self._left is None:
            return False
        self._left -= len(data)
        if self._left < 0:
            self._transport.close()
        return True
