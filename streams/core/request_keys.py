"""The key under which a request's row is kept: fourteen bytes of a hash of its id, whatever the id's length.

XXH3 of 128 bits, cut to 112: among a hundred million requests two agree with a chance of one in 10^18. No id is read back from a key;
whoever asks for a request has its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_digest

KEY_BYTES = 14


def request_key(request_id: str) -> bytes:
    """The key of one request."""
    return xxh3_128_digest(request_id.encode())[:KEY_BYTES]


def request_keys(request_ids: Iterable[str]) -> list[bytes]:
    """The keys of many."""
    return [digest[:KEY_BYTES] for digest in map(xxh3_128_digest, map(str.encode, request_ids))]


def key_hashes(keys: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """The first 32 bits of each key: spread evenly, and the same everywhere."""
    table = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), KEY_BYTES)
    return np.ascontiguousarray(table[:, :4]).view("<u4")[:, 0].astype(np.int64)
