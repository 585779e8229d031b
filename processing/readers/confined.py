"""Foreign files are read in processes of their own, which no file can keep busy or make swell beyond the limits.

The standard library alone is imported: the demo page has this file, too.
"""

import multiprocessing
import multiprocessing.context
import os
import queue
import signal
import tempfile
from collections.abc import Callable, Iterable
from multiprocessing.pool import ExceptionWithTraceback
from typing import Any

try:
    import resource
except ImportError:  # Windows: time is limited, memory is not
    resource = None

SECONDS, MEMORY = 20.0, 7 * 2**28  # of one call; bytes of one process, with the libraries that it imports
START = 300.0  # seconds that a process may take to begin: it imports torch
LONGEST_TMPDIR = 70  # bytes: a Unix socket's path may have 107, and multiprocessing adds 32
PRELOADED = ("__main__", "lslm_cli.light")  # what is not there is passed over


def context_of(preloaded: Iterable[str]) -> multiprocessing.context.BaseContext:
    """Where processes come from: forked, if possible, from one that has imported everything and holds nothing else. A
    lost one then costs milliseconds, and memory is shared."""
    # the server's socket needs a name that is short enough
    short = len(os.fsencode(tempfile.gettempdir())) < LONGEST_TMPDIR
    forking = short and "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forking else "spawn")
    if forking:
        context.set_forkserver_preload([*preloaded])
    return context


class Confined:
    """Calls functions in other processes, which are started when they are needed and replaced when they are lost.

    Args:
        processes: calls at a time; further ones wait.
        seconds: of a call. memory: bytes that a process may take, where the system limits that (Linux).
        preloaded: modules that what is called needs.
    """

    def __init__(
        self,
        processes: int = 1,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        preloaded: Iterable[str] = PRELOADED,
    ):
        self.seconds, self.memory = seconds, memory
        self._idle: queue.LifoQueue = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)
        self._context = context_of(preloaded)

    def __call__(self, function: Callable, *args, **kwargs) -> Any:
        """`function(*args, **kwargs)`; all of them, and what is returned or raised, can be pickled.

        Raises:
            ValueError: it takes too much memory. TimeoutError: too much time. ChildProcessError: it ended the process.
                Also whatever the function raises.
        """
        worker = self._idle.get()
        try:
            if worker is None or not worker[0].is_alive():
                worker = self._start()
            process, connection = worker
            connection.send((os.getcwd(), function, args, kwargs))
            if not connection.poll(self.seconds):
                raise TimeoutError(f"reading takes more than {self.seconds:g} s, the limit; cut it into utterances")
            kind, answer = connection.recv()
            if kind == "memory":
                limit = f"{self.memory >> 20} MB of memory, the limit"
                raise ValueError(f"reading takes more than {limit}; cut it into utterances")
        except BaseException as error:
            if worker is not None:
                worker[0].kill()
                worker[1].close()
            worker = None
            if isinstance(error, (EOFError, ConnectionError)):
                raise ChildProcessError("reading ended the process that read; export the file again") from error
            raise
        finally:
            self._idle.put(worker)
        if kind == "error":
            raise answer
        return answer

    def _start(self):
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self.seconds, self.memory), daemon=True)
        before = os.environ.get("PYTHONSAFEPATH")  # from Python 3.11 on: no torch.py of the folder we happen to be in
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            process.start()
        finally:
            os.environ.pop("PYTHONSAFEPATH") if before is None else os.environ.update(PYTHONSAFEPATH=before)
        theirs.close()
        if not ours.poll(START):
            process.kill()
            raise TimeoutError(f"a process that reads files did not start within {START:g} s")
        ours.recv()
        return process, ours


def _serve(connection, seconds: float, memory: int) -> None:
    """Answer calls until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for whoever asks
    if resource:
        for limit, value in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    alarm = getattr(signal, "alarm", lambda seconds: None)
    try:
        connection.send("ready")
        while True:
            folder, function, args, kwargs = connection.recv()
            alarm(int(seconds) + 5)  # ends this process where whoever asked was killed and cannot
            try:
                os.chdir(folder)  # the server that forks this process may have begun elsewhere
                answer = "done", function(*args, **kwargs)
            except Exception as error:
                told = ExceptionWithTraceback(error, error.__traceback__)  # which it has as its cause, over there
                answer = ("memory", None) if lacks_memory(error) else ("error", told)
            alarm(0)
            connection.send(answer)
    except (EOFError, ConnectionError):
        pass


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error comes from a MemoryError, however it was worded."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None
