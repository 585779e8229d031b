"""A lock on a folder that one process at a time writes to. The system lets go of it however the process ends."""

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held: set = set()


def _let_go() -> None:
    for lock in _held:
        lock.close()


# A forked child, such as a worker of a data loader, would keep the lock for as long as it outlives its killed parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def locked(file: Path, folder: str | os.PathLike, what: str) -> Iterator[None]:
    """Keep others out of `folder`, until the end of the block or of this process.

    Args:
        file: what is locked; made where there is none, its folder too. Who holds it stands in it.
        what: is at work there, for messages: "build".

    Raises:
        OSError: another process holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a+", encoding="utf-8") as lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):  # a file system without locks
                print(f"{folder} cannot be locked ({error.strerror}): start no second {what} in it", file=sys.stderr)
            else:
                lock.seek(0)
                who = lock.read(200).strip() or "a process"
                raise OSError(
                    f"another {what} writes to {folder} ({who}); wait for its end, or name another folder"
                ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        lock.flush()
        _held.add(lock)
        try:
            yield
        finally:
            _held.discard(lock)
            if not lock.closed:
                lock.truncate(0)


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock at the moment."""
    if not (fcntl and file.is_file()):
        return False
    with open(file, encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    return False
