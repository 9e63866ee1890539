"""The check of the name in the ClientHello of TLS. No I/O.

`HelloCheck` reads the bytes of a client from the beginning of its stream. They may be passed on
once the name is known to be the one that the client has asked the broker for. Two hosts behind one
front differ by this name alone.

    no TLS                      refused
    no name, or another one     refused; a client of an address must send none
    encrypted_client_hello      refused: the name that counts is encrypted (RFC 9849)

A server may ask for a second ClientHello (RFC 8446, HelloRetryRequest), and take the name of that
one. So the bytes behind the first one wait until the server has answered.
"""

from __future__ import annotations

import hashlib

from ..errors import Invalid
from ..network_hosts import address_of, parse_host

HELLO_MAX = 64 * 1024
"""Bytes of a ClientHello. Keys of post-quantum ciphers take 1 to 2 KiB each."""

DATA_MAX = 256 * 1024
"""Bytes of a client before its hello is complete, with early data that the server has not taken."""

_RECORD_MAX = 16 * 1024 + 256
_CHANGE_CIPHER, _HANDSHAKE, _EARLY_DATA = 20, 22, 23
_CLIENT_HELLO = 1
_SERVER_NAME, _ENCRYPTED_HELLO = 0, 0xFE0D
_ESNI = 0xFFCE
"""The extension before encrypted_client_hello."""
_HEADER = 5
_RETRY = hashlib.sha256(b"HelloRetryRequest").digest()
"""The random of a ServerHello that is a HelloRetryRequest."""


class HelloReader:
    """A reader of the fields of a message. Raises Invalid when the message is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise Invalid("the ClientHello is cut off")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        """The next `size` bytes as a number."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> HelloReader:
        """The field behind a length of `size` bytes."""
        return HelloReader(self.take(self.number(size)))

    def take_all(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)

    @property
    def is_empty(self) -> bool:
        """Nothing is left."""
        return self._at == len(self._data)

    def expect_end(self) -> None:
        """Raise Invalid when something is left."""
        if not self.is_empty:
            raise Invalid("the ClientHello has bytes behind its end")


def server_name(hello: bytes) -> str | None:
    """The name in the body of a ClientHello; None: it has none. Raises Invalid."""
    reader = HelloReader(hello)
    reader.take(2 + 32)  # version, random
    reader.vector(1)  # session id
    reader.vector(2)  # ciphers
    reader.vector(1)  # compression
    if reader.is_empty:
        return None
    extensions = reader.vector(2)
    reader.expect_end()
    name, kinds = None, set[int]()
    while not extensions.is_empty:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind in kinds:
            raise Invalid("the ClientHello has an extension twice")
        kinds.add(kind)
        if kind in (_ENCRYPTED_HELLO, _ESNI):
            raise Invalid("the name in the ClientHello is encrypted")
        if kind == _SERVER_NAME:
            name = _name(body)
    return name


def _name(body: HelloReader) -> str:
    names = body.vector(2)
    body.expect_end()
    if names.number(1) != 0:
        raise Invalid("the ClientHello has a name of an unknown type")
    name = names.vector(2).take_all()
    names.expect_end()
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        raise Invalid("the name in the ClientHello is not ASCII") from None


class HelloCheck:
    """The check of one ClientHello against the `host` that the client has asked for; with
    `is_second` of the one that answers a HelloRetryRequest.

    Once the hello is complete, the bytes up to its end may be passed on.
    """

    def __init__(self, host: str, is_second: bool = False) -> None:
        self._host = host
        self._skipped = (_CHANGE_CIPHER, _EARLY_DATA) if is_second else ()
        self._at = 0
        self._handshake = bytearray()
        self._data = bytearray()

    def feed(self, data: bytes) -> bool:
        """Take in the next bytes of the client; whether the hello is complete and has the right
        name. Raises Invalid."""
        self._data += data
        if len(self._data) > DATA_MAX:
            raise Invalid("the ClientHello is too large")
        while (record := self._next_record()) is not None:
            kind, content = record
            if kind in self._skipped and not self._handshake:
                continue
            if kind != _HANDSHAKE:
                raise Invalid("the client does not speak TLS")
            self._handshake += content
            if self._is_complete():
                return True
        return False

    @property
    def hello(self) -> bytes:
        """The bytes up to the end of the hello."""
        return bytes(self._data[: self._at])

    @property
    def rest(self) -> bytes:
        """The bytes behind the hello."""
        return bytes(self._data[self._at :])

    def _next_record(self) -> tuple[int, bytes] | None:
        """The type and the content of the next record; None: it is not there yet."""
        header = self._data[self._at : self._at + _HEADER]
        kinds = (_HANDSHAKE, *self._skipped)
        if (header and header[0] not in kinds) or (len(header) > 1 and header[1] != 3):
            raise Invalid("the client does not speak TLS")
        size = int.from_bytes(header[3:5], "big")
        begin = self._at + _HEADER
        if len(header) == _HEADER and not 0 < size <= _RECORD_MAX:
            raise Invalid("the client does not speak TLS")
        if len(header) < _HEADER or len(self._data) < begin + size:
            return None
        self._at = begin + size
        return header[0], bytes(self._data[begin : begin + size])

    def _is_complete(self) -> bool:
        message = self._handshake
        if message[0] != _CLIENT_HELLO:
            raise Invalid("the client does not begin with a ClientHello")
        size = 4 + int.from_bytes(message[1:4], "big")
        if len(message) >= 4 and size > HELLO_MAX:
            raise Invalid("the ClientHello is too large")
        if len(message) < 4 or len(message) < size:
            return False
        if len(message) > size:
            raise Invalid("the ClientHello has bytes behind its end")
        self._check(server_name(bytes(message[4:])))
        return True

    def _check(self, name: str | None) -> None:
        if address_of(self._host):
            if name is not None:
                raise Invalid(f"the name in the ClientHello is {name[:100]!a}, not an address")
        elif name is None:
            raise Invalid("the ClientHello has no name")
        elif parse_host(name) != self._host:
            raise Invalid(f"the name in the ClientHello is {name[:100]!a}")


def asks_again(data: bytes) -> bool | None:
    """The bytes of the server begin with a HelloRetryRequest; None: too few are there to say."""
    begin = _HEADER + 4 + 2
    if len(data) < begin + len(_RETRY) and data[:1] == bytes([_HANDSHAKE]):
        return None
    return data[begin : begin + len(_RETRY)] == _RETRY
