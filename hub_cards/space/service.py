"""The demo page for programs, over plain HTTP; and the way of all clips to the model, several at a time.

    POST /translate?name=clip.npz&prompt=...&checkpoint=...     body: a motion file
    -> {"text", "file", "remarks", "translations": [{"model", "text", "words", ...}]}, or {"error"} and a status
    GET /health
    GET /openapi.json: both of them, with every limit and status

Whatever waits here waits in the server's event loop, not in a thread: who sends slowly, or never reads the answer,
costs a connection and holds up nobody.
"""

import asyncio
import ipaddress
import logging
import math
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

BATCH = 16  # clips that the model translates together
MOST = 64  # requests that wait or are worked on, of all visitors together
SHARE = 32  # of those one address may have, and of uploads; this machine's own may have all
RECEIVING = 256  # uploads at a time: each has a file on disk
RATE = 600  # requests a minute of one address; so many may come at once
READING = 8  # files at a time
RETRY = 5  # seconds after which a busy server may be asked again
STOPPING = 20.0  # seconds in which requests are finished before the server ends
TYPE = "application/octet-stream"  # a page of somebody else cannot send it without asking first
FAULT = "The fault is on our side; the server's log says more."


class Refused(ValueError):
    """A request that is not served: why, in one line; the HTTP status; seconds after which to ask again, or None."""

    def __init__(self, message: str, status: int = 400, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Busy(Refused):
    """There are more visitors than this server serves."""

    def __init__(self, message: str):
        super().__init__(message, 503, RETRY)


# --- clips, several at a time -----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Asked:
    """A clip that waits for the model."""

    pipe: Callable
    motion: Any
    options: dict
    answer: Future = field(default_factory=Future)

    def goes_with(self, other: "Asked") -> bool:
        return self.pipe is other.pipe and self.options == other.options


class Batches:
    """Clips of several callers go to the model together: while it translates some, the next ones gather.

    A batch is of one checkpoint and the same options. Two batches after each other are of different ones, if such wait:
    a camera's captions do not wait for all files.
    """

    def __init__(self):
        self.waiting: list[Asked] = []
        self.came = threading.Condition()
        self.thread: threading.Thread | None = None

    def ask(self, pipe: Callable, motion, **options) -> Future:
        """What `pipe(motion, **options)` will return or raise. One that is cancelled before its turn costs nothing."""
        asked = Asked(pipe, motion, options)
        with self.came:
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name="model", daemon=True)
                self.thread.start()
            self.waiting.append(asked)
            self.came.notify()
        return asked.answer

    def _work(self) -> None:
        before = None
        while True:
            batch = self._next(before)
            if batch:
                translate_together(batch)
                before = Asked(batch[0].pipe, None, batch[0].options)  # without its motion, which need not stay
            del batch

    def _next(self, before: Asked | None) -> list[Asked]:
        with self.came:
            while not self.waiting:
                self.came.wait()
            others = (asked for asked in self.waiting if before is None or not asked.goes_with(before))
            first = next(others, self.waiting[0])
            batch = [asked for asked in self.waiting if asked.goes_with(first)][:BATCH]
            self.waiting = [asked for asked in self.waiting if asked not in batch]
        return [asked for asked in batch if asked.answer.set_running_or_notify_cancel()]


def translate_together(batch: list[Asked]) -> None:
    """One call of the model for all of them. What fails is asked again alone, so that the error is of one clip."""
    pipe, options = batch[0].pipe, batch[0].options
    try:
        if len(batch) == 1:
            answers = [pipe(batch[0].motion, **options)]
        else:
            answers = pipe([asked.motion for asked in batch], batch_size=len(batch), **options)
        told = list(zip(batch, answers, strict=True))
    except Exception as error:
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        for asked in batch:
            translate_together([asked])
        return
    for asked, answer in told:
        asked.answer.set_result(answer)


# --- requests ---------------------------------------------------------------------------------------------------------


def explain(error: Exception, path: str) -> str:
    """An error in the words of somebody who sees a page, not Python; without the server's folders."""
    if isinstance(error, FileNotFoundError):
        return "The file is no longer on the server. Upload it again."
    if problem := getattr(error, "problem", None):  # of the file; what Python could do about it is left out
        return f"{Path(path).name}: {problem}"
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(message.replace(str(path), Path(path).name).split())


@contextmanager
def in_plain_words(path: str) -> Iterator[None]:
    """What goes wrong with the file `path` becomes `Refused`; a fault of ours goes to the log, and is not told."""
    try:
        yield
    except Refused:
        raise
    except (ValueError, OSError) as error:
        raise Refused(explain(error, path)) from error
    except Exception as error:
        logging.exception("translating %r", path)
        raise Refused(FAULT, 500) from error


async def chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body of a request.

    Raises:
        Refused: it is of another type (400), has more than `most` bytes (413), or does not arrive in time (408).
    """
    if request.headers.get("content-type") != TYPE:
        raise Refused(f"expected Content-Type: {TYPE}")
    told, came = request.headers.get("content-length", ""), 0
    too_large = Refused(f"more than {most} bytes in one request", 413)
    if told.isdecimal() and int(told) > most:
        raise too_large
    try:
        async for chunk in request.stream():
            came += len(chunk)
            if came > most:
                raise too_large
            yield chunk
    except ClientDisconnect as error:  # as the page's Door says it of who is too slow; who is gone does not hear it
        raise Refused("the body did not arrive in time: send it faster", 408) from error


async def body(request: Request, most: int) -> bytes:
    """What a request brings. Raises Refused, see [`chunks`]."""
    return b"".join([chunk async for chunk in chunks(request, most)])


def answering(work: Callable):
    """An endpoint that says what was wrong: {"error": ...}."""

    async def answer(request: Request) -> JSONResponse:
        try:
            return await work(request)
        except Refused as error:
            headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            if error.status in (408, 413):  # the rest of the body is not waited for
                headers["Connection"] = "close"
            return JSONResponse({"error": str(error)}, error.status, headers)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        except OSError as error:
            return JSONResponse({"error": error.strerror or "it could not be written"}, 507)

    return answer


def is_of_this_machine(request: Request) -> bool:
    """Whether a request comes from here, and from no proxy: what a proxy passes on, anybody may have written."""
    try:
        return "x-forwarded-for" not in request.headers and ipaddress.ip_address(request.client.host).is_loopback
    except (ValueError, AttributeError):
        return False


def file_name(name: str) -> str:
    """What a program calls its file, as a name that any system takes; its ending stays."""
    return re.sub(r"[^\w .,()-]", "_", name.replace("\\", "/").rpartition("/")[2])[-60:].lstrip(". ") or "clip"


class Service:
    """Motion files of programs. All methods but `stop` run in the server's event loop.

    Args:
        translator: reads and translates them: a `Translator` of app.py.
        folder: for files while they are worked on.
        most_bytes: of a file.
        others: counts the requests of the page's visitors, which take places as well.
    """

    def __init__(self, translator, folder: str, most_bytes: int, others: Callable[[], int] = lambda: 0):
        self.translator, self.folder, self.most_bytes, self.others = translator, folder, most_bytes, others
        self.names = list(translator.pipes)
        self.readers = ThreadPoolExecutor(READING, thread_name_prefix="reading")
        self.working: set[asyncio.Task] = set()
        self.receiving = 0
        self.of_address: Counter[str] = Counter()  # requests that are received or worked on
        self.allowances: dict[str, tuple[float, float]] = {}  # address -> requests that it may send, and when that was
        self.stopping = False

    @property
    def waiting(self) -> int:
        """Requests that wait or are worked on."""
        return len(self.working) + self.others()

    def check_places(self) -> None:
        """Raises Busy if no request can be taken."""
        if self.stopping:
            raise Busy("The server is stopping. Ask another one, or this one when it is back.")
        if self.waiting >= MOST:
            raise Busy(f"Busy: {MOST} requests are waiting. Try again in {RETRY} seconds.")

    def check_rate(self, address: str) -> None:
        """Count a request. Raises Refused (429) if they come too fast."""
        now = time.monotonic()
        left, before = self.allowances.get(address, (RATE, now))
        left = min(RATE, left + (now - before) * RATE / 60)
        if left < 1:
            wait = math.ceil((1 - left) * 60 / RATE)
            raise Refused(f"More than {RATE} requests a minute. Try again in {wait} s.", 429, wait)
        self.allowances[address] = left - 1, now
        if len(self.allowances) > 10_000:  # after a minute an address is as good as new
            self.allowances = {name: kept for name, kept in self.allowances.items() if now - kept[1] < 60}

    async def translate(self, request: Request) -> JSONResponse:
        address = request.client.host if request.client else ""
        self.check_places()
        self.check_rate(address)
        if self.of_address[address] >= SHARE and not is_of_this_machine(request):
            raise Refused(f"{SHARE} requests from your address are waiting. Try again in {RETRY} seconds.", 429, RETRY)
        if self.receiving >= RECEIVING:
            raise Busy(f"Busy: {RECEIVING} files are being received. Try again in {RETRY} seconds.")
        query = request.query_params
        names = query.getlist("checkpoint") or self.names[:1]
        prompt = self.translator.check(query.get("prompt", self.translator.prompt), names)
        self.of_address[address] += 1
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as folder:
                path = Path(folder, file_name(query.get("name", "clip.npz")))
                await self.receive(request, path)
                self.check_places()
                return JSONResponse(await self.until_gone(request, self.answer(str(path), prompt, names)))
        finally:
            self.of_address[address] -= 1
            self.of_address += Counter()  # keeps those above zero

    async def receive(self, request: Request, path: Path) -> None:
        self.receiving += 1
        try:
            with open(path, "wb") as file:
                async for chunk in chunks(request, self.most_bytes):
                    file.write(chunk)
        finally:
            self.receiving -= 1

    async def answer(self, path: str, prompt: str, names: list[str]) -> dict:
        """What the page's own endpoint says of a file, see `Translator`. Raises Refused."""
        loop = asyncio.get_running_loop()
        with in_plain_words(path):
            read = [await loop.run_in_executor(self.readers, self.translator.read, path, name) for name in names]
            asked = [self.translator.ask(name, motion, prompt) for name, (motion, _) in zip(names, read, strict=True)]
            answers = await asyncio.gather(*map(asyncio.wrap_future, asked))
        results = [self.translator.result(name, answer) for name, answer in zip(names, answers, strict=True)]
        return {"text": results[0]["text"], "file": Path(path).name, "remarks": read[0][1], "translations": results}

    async def until_gone(self, request: Request, work) -> dict:
        """The work on a request, which has a place while it lasts; it ends if whoever asked goes, or the server stops.

        Raises:
            ClientDisconnect: nobody waits for the answer. Busy: the server stops.
        """
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
        self.working.add(task)
        task.add_done_callback(self.working.discard)
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.cancelled():
                raise Busy("The server stopped before the clip was translated. Send it again.")
            if not task.done():
                raise ClientDisconnect
            return task.result()
        finally:
            task.cancel()
            gone.cancel()

    async def health(self, request: Request) -> JSONResponse:
        told = {"status": "stopping" if self.stopping else "ok", "checkpoints": self.names}
        return JSONResponse(told | {"waiting": self.waiting, "most": MOST}, 503 if self.stopping else 200)

    async def openapi(self, request: Request) -> JSONResponse:
        return JSONResponse(description(self.names, self.translator.prompt, self.most_bytes))

    def routes(self) -> list[Route]:
        return [
            Route("/translate", answering(self.translate), methods=["POST"]),
            Route("/health", self.health),
            Route("/openapi.json", self.openapi),
        ]

    def stop(self, seconds: float | None = None) -> None:
        """Take no more requests, and return when all are finished; after so many seconds (`STOPPING`) those that still
        wait are told. From another thread than the server's."""
        self.stopping = True
        end = time.monotonic() + (STOPPING if seconds is None else seconds)
        while self.waiting and time.monotonic() < end:
            time.sleep(0.05)
        for task in list(self.working):
            task.get_loop().call_soon_threadsafe(task.cancel)


def description(names: list[str], prompt: str, most_bytes: int) -> dict:
    """Of the endpoints, as OpenAPI 3.1 has it."""

    def parameter(name: str, text: str, schema: dict) -> dict:
        return {"name": name, "in": "query", "description": text, "schema": schema}

    def answer(text: str, schema: dict, again: bool = False) -> dict:
        told = {"description": text, "content": {"application/json": {"schema": schema}}}
        retry = {"Retry-After": {"description": "seconds until to ask again", "schema": {"type": "integer"}}}
        return told | ({"headers": retry} if again else {})

    def of(**properties: dict) -> dict:
        return {"type": "object", "required": [*properties], "properties": properties}

    def several(items: dict) -> dict:
        return {"type": "array", "items": items}

    text, number = {"type": "string"}, {"type": "number"}
    sure = {"type": ["number", "null"], "description": "expected share of right words; null: not calibrated"}
    word = of(word=text, probability=number, confidence=sure)
    codes = several(several({"type": "integer"}))
    translation = of(
        model=text,
        text=text,
        words=several(word),
        confidence=sure,
        probability=number,
        complete={"type": "boolean", "description": "false: cut off at the length limit"},
        motion_codes=codes,
        seconds_per_code=number,
    )
    error = of(error=text)
    health = of(
        status={"enum": ["ok", "stopping"]},
        checkpoints=several(text),
        waiting={"type": "integer"},
        most={"type": "integer"},
    )
    translate = {
        "summary": "Translate one clip of signing",
        "operationId": "translate",
        "parameters": [
            parameter("name", "of the file; its ending may say what it is", text | {"default": "clip.npz"}),
            parameter("prompt", "the instruction; holds <motion> once", text | {"default": prompt}),
            parameter(
                "checkpoint",
                "the one to ask; given twice, two of them",
                {"type": "array", "items": {"enum": names}, "default": names[:1], "maxItems": 2},
            ),
        ],
        "requestBody": {
            "required": True,
            "description": f"a motion file of at most {most_bytes} bytes",
            "content": {TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        "responses": {
            "200": answer(
                "the translation",
                of(text=text, file=text, remarks=several(text), translations=several(translation)),
            ),
            "400": answer("not a clip that can be translated, or another parameter is wrong", error),
            "408": answer("the file did not arrive in time", error),
            "413": answer("the file is too large", error),
            "429": answer(
                f"more than {RATE} requests a minute, or {SHARE} at a time, of one address", error, again=True
            ),
            "500": answer("a fault of the server", error),
            "503": answer(f"busy: {MOST} requests are waiting; or stopping", error, again=True),
        },
    }
    check = {
        "summary": "Whether it translates, and how many requests wait",
        "operationId": "health",
        "responses": {"200": answer("it does", health), "503": answer("it is stopping", health)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "LSLM: sign language motion to text", "version": "1"},
        "paths": {"/translate": {"post": translate}, "/health": {"get": check}},
    }
