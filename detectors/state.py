"""Snapshots: an envelope (kind, version, fingerprint, length, CRC) around named numbers and arrays. Never pickle.

Layout, little endian::

    magic 4s | envelope u8 | kind length u8 | version u16 | payload length u32 | fingerprint 16s
    kind | payload | crc32 u32

The CRC covers everything before it. The payload is a sequence of (name, tag, contents), in order of name, so that equal
states have equal bytes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.errors import BadParameter, CorruptState, ForeignState

Field = bool | int | float | str | bytes | npt.NDArray[Any]

_MAGIC: Final = b"LLst"
_ENVELOPE: Final = 1
_HEAD: Final = struct.Struct("<4sBBHI16s")
_CRC: Final = struct.Struct("<I")
_SIZE: Final = struct.Struct("<I")
MAX_BYTES: Final = 64 * 1024 * 1024
"""No snapshot of one detector is ever this large; a length beyond it is damage, not data."""

# Only plain numbers travel: an object dtype would need pickle.
_DTYPES: Final = frozenset({"<f8", "<f4", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "|b1"})


def fingerprint(kind: str, parameters: Mapping[str, Field]) -> bytes:
    """16 bytes that are equal exactly when kind and parameters are (floats and arrays compared bit by bit)."""
    digest = hashlib.blake2b(kind.encode(), digest_size=16)
    digest.update(b"\0" + _pack(parameters))
    return digest.digest()


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One detector's memory at one moment: a copy that later updates do not touch.

    ``fields`` hold bools, ints (64 bit), floats, strings, bytes and numeric arrays.
    """

    kind: str
    version: int
    fingerprint: bytes
    fields: Mapping[str, Field]

    def to_bytes(self) -> bytes:
        """The envelope. Equal states give equal bytes."""
        kind = self.kind.encode()
        payload = _pack(self.fields)
        head = _HEAD.pack(_MAGIC, _ENVELOPE, len(kind), self.version, len(payload), self.fingerprint)
        body = head + kind + payload
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, raw: bytes) -> State:
        """Read an envelope. Raises CorruptState; never anything else, whatever the bytes."""
        if not _HEAD.size + _CRC.size <= len(raw) <= MAX_BYTES:
            raise CorruptState(f"a snapshot of {len(raw)} bytes cannot be")
        magic, envelope, kind_length, version, length, mark = _HEAD.unpack_from(raw)
        if magic != _MAGIC or envelope != _ENVELOPE:
            raise CorruptState("not a detector snapshot of this envelope version")
        start = _HEAD.size + kind_length
        if start + length + _CRC.size != len(raw):
            raise CorruptState(f"length says {start + length + _CRC.size} bytes, there are {len(raw)}")
        if zlib.crc32(raw[: start + length]) != _CRC.unpack_from(raw, start + length)[0]:
            raise CorruptState("checksum does not agree")
        try:
            kind = raw[_HEAD.size : start].decode()
            fields = _unpack(raw[start : start + length])
        except (struct.error, UnicodeDecodeError, ValueError, IndexError, KeyError) as error:
            # Sound checksum, senseless contents: written by something that is not this code.
            raise CorruptState(f"contents cannot be read: {error}") from error
        return cls(kind, version, mark, fields)

    def require(self, kind: str, version: int, mark: bytes) -> None:
        """Raise ForeignState unless this snapshot belongs to that kind, version and parameter fingerprint."""
        if self.kind != kind or self.version != version:
            raise ForeignState(f"snapshot of {self.kind} v{self.version}, wanted {kind} v{version}")
        if self.fingerprint != mark:
            raise ForeignState(f"snapshot of a {kind} with other parameters")

    def integer(self, name: str) -> int:
        """Field ``name`` as an int; CorruptState where it is missing or something else."""
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise CorruptState(f"{self.kind}: no integer {name!r}")
        return value

    def number(self, name: str) -> float:
        """Field ``name`` as a finite float; CorruptState otherwise."""
        value = self.fields.get(name)
        if not isinstance(value, float) or not np.isfinite(value):
            raise CorruptState(f"{self.kind}: no finite number {name!r}")
        return value

    def flag(self, name: str) -> bool:
        """Field ``name`` as a bool; CorruptState otherwise."""
        value = self.fields.get(name)
        if not isinstance(value, bool):
            raise CorruptState(f"{self.kind}: no flag {name!r}")
        return value

    def raw(self, name: str) -> bytes:
        """Field ``name`` as bytes; CorruptState otherwise."""
        value = self.fields.get(name)
        if not isinstance(value, bytes):
            raise CorruptState(f"{self.kind}: no bytes {name!r}")
        return value

    def array(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Field ``name`` as a fresh array of exactly this dtype and shape; CorruptState otherwise."""
        value = self.fields.get(name)
        if not isinstance(value, np.ndarray) or value.dtype != np.dtype(dtype) or value.shape != shape:
            raise CorruptState(f"{self.kind}: no array {name!r} of {np.dtype(dtype)}{list(shape)}")
        return value.copy()


def _pack(fields: Mapping[str, Field]) -> bytes:
    parts: list[bytes] = []
    for name in sorted(fields):
        tag, content = _encode(name, fields[name])
        encoded = name.encode()
        parts += [bytes([len(encoded)]), encoded, tag, _SIZE.pack(len(content)), content]
    return b"".join(parts)


def _encode(name: str, value: Field) -> tuple[bytes, bytes]:
    if isinstance(value, bool):
        return b"?", bytes([value])
    if isinstance(value, int):
        return b"i", struct.pack("<q", value)
    if isinstance(value, float):
        return b"f", struct.pack("<d", value)
    if isinstance(value, str):
        return b"s", value.encode()
    if isinstance(value, bytes):
        return b"b", value
    array = np.ascontiguousarray(value)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if little.dtype.str not in _DTYPES or little.ndim > 8:
        raise BadParameter(f"{name}: arrays of {array.dtype} do not travel")
    shape = struct.pack(f"<B{little.ndim}q", little.ndim, *little.shape)
    return b"a", little.dtype.str.encode() + shape + little.tobytes()


def _unpack(payload: bytes) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    at = 0
    while at < len(payload):
        end = at + 1 + payload[at]
        name, tag = payload[at + 1 : end].decode(), payload[end : end + 1]
        (size,) = _SIZE.unpack_from(payload, end + 1)
        start = end + 1 + _SIZE.size
        content = payload[start : start + size]
        if len(content) != size or name in fields:
            raise ValueError(f"field {name!r} is cut off or doubled")
        fields[name] = _decode(tag, content)
        at = start + size
    return fields


def _decode(tag: bytes, content: bytes) -> Field:
    if tag == b"?":
        return {b"\0": False, b"\1": True}[content]
    if tag == b"i":
        return int(struct.unpack("<q", content)[0])
    if tag == b"f":
        return float(struct.unpack("<d", content)[0])
    if tag == b"s":
        return content.decode()
    if tag == b"b":
        return content
    if tag != b"a" or content[:3].decode() not in _DTYPES:
        raise ValueError(f"unknown tag or dtype {tag + content[:3]!r}")
    ndim = content[3]
    shape = struct.unpack_from(f"<{ndim}q", content, 4)
    if any(extent < 0 for extent in shape):
        raise ValueError("negative extent")
    return np.frombuffer(content, dtype=content[:3].decode(), offset=4 + 8 * ndim).reshape(shape).copy()
