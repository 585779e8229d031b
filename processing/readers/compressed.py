"""gzip and zlib: joblib writes both, and anything is sent that way."""

import zlib

from ..array_files import MAX_BYTES
from ..motion import COMPRESSED


def unpacked(data: bytes) -> bytes:
    """What is in a gzip or zlib file; other data as they are.

    Raises:
        ValueError: damaged, cut off, more than `MAX_BYTES`, packed twice, or several files in one.
    """
    if not data.startswith(COMPRESSED):
        return data
    unpacker = zlib.decompressobj(47)  # either kind of header
    try:
        content = unpacker.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"damaged compressed file ({error}); copy it again") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file unpacks to more than {MAX_BYTES >> 20} MB; cut it into utterances")
    if not unpacker.eof:
        raise ValueError("the compressed file breaks off; copy it again")
    if content.startswith(COMPRESSED) or unpacker.unused_data.startswith(COMPRESSED):
        raise ValueError("the file is compressed twice or in several parts; unpack it")
    return content
