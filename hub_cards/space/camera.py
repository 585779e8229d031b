"""The camera of the demo page. The browser finds the points of body and hands in each picture and sends them here, with
the time; captions go back, and the clip of every utterance. No picture leaves the browser; nothing stays here unasked.

    POST /camera/SESSION?checkpoint=NAME&width=1280&height=720      body: float64, frame after frame, `NUMBERS` each
    -> {"signing": true, "captions": [{"text", "settled", "final", "start", "end", "reason", "clip"}, ...]}

    POST /camera?text=WHAT+WAS+SIGNED                               body: a clip as it came, to be kept
    -> {"kept": FILE}; only of a page that was told where (`lslm demo --keep DIR`)

A frame is its seconds, then x, y, z, visibility of MediaPipe Holistic's 33 body points, x, y, z of 21 points of the
left and of the right hand; zeros where it found none. `&end=1` with the last frames ends the session.
"""

import base64
import io
import json
import logging
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

try:
    from .service import Busy, answering, body
except ImportError:  # in a Space, see app.py
    from service import Busy, answering, body

PACKAGE, VERSION = "@mediapipe/holistic", "0.5.1675471629"
CDN = f"https://cdn.jsdelivr.net/npm/{PACKAGE}@{VERSION}/"  # camera.js takes the very bytes that it knows, or none
PARTS = {"pose": (33, 4), "left_hand": (21, 3), "right_hand": (21, 3)}
NUMBERS = 1 + sum(points * numbers for points, numbers in PARTS.values())
MOST_FRAMES = 1200  # in one request: 20 s at 60 a second
AT_ONCE = 8  # cameras
MOST_CLIP, MOST_TEXT = 4 * 2**20, 300  # bytes of a clip to keep; characters of what was signed
SILENT = 30.0  # seconds after which a camera is gone


@dataclass
class Camera:
    live: Any
    heard: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Cameras:
    """A `LiveTranslator` for each camera that is on.

    Args:
        pipes: name -> a function like pipeline("sign-translation"), which several threads may call.
    """

    def __init__(self, pipes: dict):
        self.pipes = pipes
        self.cameras: dict[str, Camera] = {}
        self.lock = threading.Lock()

    def hear(self, session: str, checkpoint: str, image_size: tuple[float, float], content: bytes, end: bool) -> dict:
        """The captions that new frames of a camera bring, JSON-able.

        Raises:
            ValueError: the frames cannot be used. Busy: too many cameras.
        """
        frames = frames_of(content)
        camera = self._camera(session, checkpoint, image_size)
        if not camera.lock.acquire(blocking=False):
            raise ValueError("the frames before these are still being read: send one request at a time")
        try:
            captions = [camera.live.push(seconds, frame) for seconds, frame in frames]
            if end:
                captions.append(camera.live.finish())
            signing = bool(camera.live.frames)
        except ValueError:
            end = True
            raise
        finally:
            camera.heard = time.monotonic()
            camera.lock.release()
            if end:
                self.cameras.pop(session, None)
        return {"signing": signing, "captions": [caption_json(caption) for caption in captions if caption]}

    def _camera(self, session: str, checkpoint: str, image_size: tuple[float, float]) -> Camera:
        from lslm.processing.live import LiveTranslator

        with self.lock:
            now = time.monotonic()
            for name, camera in list(self.cameras.items()):
                if now - camera.heard > SILENT and not camera.lock.locked():
                    del self.cameras[name]
            if session not in self.cameras:
                if len(self.cameras) >= AT_ONCE:
                    raise Busy(f"{AT_ONCE} cameras are on already. Try again in a minute.")
                if checkpoint not in self.pipes:
                    raise ValueError(f"no checkpoint is called {checkpoint!r}")
                self.cameras[session] = Camera(LiveTranslator(self.pipes[checkpoint], image_size=image_size), now)
            return self.cameras[session]


def frames_of(content: bytes) -> list[tuple[float, dict | None]]:
    """(seconds, landmarks or None) of each frame in the body of a request.

    Raises:
        ValueError: it is no whole number of frames, or they are too many.
    """
    if len(content) % (8 * NUMBERS) or len(content) > 8 * NUMBERS * MOST_FRAMES:
        raise ValueError(
            f"got {len(content)} bytes, expected at most {MOST_FRAMES} frames of {NUMBERS} float64 numbers each"
        )
    numbers = np.frombuffer(content, "<f8").reshape(-1, NUMBERS)
    if not np.isfinite(numbers).all():
        raise ValueError("a frame has numbers that are none; where nothing is found it has zeros")
    return [(float(row[0]), _landmarks(row[1:])) for row in numbers]


def _landmarks(numbers: np.ndarray) -> dict | None:
    frame, first = {}, 0
    for name, (points, width) in PARTS.items():
        part = numbers[first : first + points * width].reshape(points, width)
        frame[name] = part if part.any() else None
        first += part.size
    return frame if frame["pose"] is not None else None


def caption_json(caption) -> dict:
    told = {name: getattr(caption, name) for name in ("text", "settled", "final", "start", "end", "reason")}
    if caption.clip is None:
        return told | {"clip": None}
    file = io.BytesIO()
    np.savez_compressed(file, **caption.clip)
    return told | {"clip": base64.b64encode(file.getvalue()).decode()}


KEEPING, FETCHING = threading.Lock(), threading.Lock()


def keep(folder: Path, text: str, content: bytes) -> Path:
    """Keep a clip under what was signed in it: one sign in takes/SIGN/, for `lslm adapt --takes`, and what has several
    words in sentences/, whose texts.jsonl `lslm data build` reads.

    Returns:
        The file.

    Raises:
        ValueError: no text, or no clip of ours. OSError: it cannot be written.
    """
    text = " ".join(text.split())
    if not 0 < len(text) <= MOST_TEXT or not text.isprintable():
        raise ValueError(f"expected what was signed, 1 to {MOST_TEXT} characters, got {len(text)}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            clip = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError("what was sent is no .npz file") from error
    shapes = {name: array.shape for name, array in clip.items()}
    frames = len(clip["pose"]) if clip.get("pose") is not None and clip["pose"].ndim else 0
    if shapes != {name: (frames, *shape) for name, shape in PARTS.items()} | {"fps": (), "image_size": (2,)}:
        raise ValueError("what was sent is no clip of this camera")
    one_sign = re.fullmatch(r"[\w'-]+", text)
    place = folder / "takes" / text.lower() if one_sign else folder / "sentences"
    path = place / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}.npz"
    with KEEPING:
        place.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **clip)
        if not one_sign:
            with open(place / "texts.jsonl", "a", encoding="utf-8") as texts:
                texts.write(json.dumps({"id": path.stem, "text": text}, ensure_ascii=False) + "\n")
    return path


def holistic_folder() -> Path | None:
    """Where the files of MediaPipe Holistic lie, which npm brings once; None: it cannot."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lslm" / f"holistic-{VERSION}"
    with FETCHING:
        if folder.is_dir():
            return folder
        if not (npm := shutil.which("npm")):
            return None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
                fetch = [npm, "pack", f"{PACKAGE}@{VERSION}", "--fetch-retries=1", "--silent"]
                subprocess.run(fetch, cwd=aside, check=True, capture_output=True, text=True, timeout=300)
                with tarfile.open(next(Path(aside).glob("*.tgz"))) as archive:
                    archive.extractall(aside, filter="data")
                os.replace(Path(aside) / "package", folder)  # a kill leaves no half a folder
        except (OSError, subprocess.SubprocessError, tarfile.TarError, StopIteration) as error:
            logging.warning("npm did not bring %s: %s", PACKAGE, getattr(error, "stderr", None) or error)
            return None
    return folder


def routes(pipes: dict, kept: Path | None = None) -> list[Route]:
    """What the page's camera asks the server for.

    Args:
        pipes: see [`Cameras`].
        kept: where clips go that somebody keeps; None: nowhere.
    """
    cameras = Cameras(pipes)

    async def hear(request: Request) -> JSONResponse:
        content = await body(request, 8 * NUMBERS * MOST_FRAMES)
        query = request.query_params
        size = float(query.get("width", "nan")), float(query.get("height", "nan"))
        if not all(1 <= side <= 1e5 for side in size):
            raise ValueError("width and height of the picture are missing, or no sizes in pixels")
        name, session = query.get("checkpoint", next(iter(pipes))), request.path_params["session"]
        end = query.get("end") == "1"
        return JSONResponse(await run_in_threadpool(cameras.hear, session, name, size, content, end))

    async def take(request: Request) -> JSONResponse:
        content = await body(request, MOST_CLIP)
        path = await run_in_threadpool(keep, kept, request.query_params.get("text", ""), content)
        return JSONResponse({"kept": str(path.relative_to(kept))})

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        folder = await run_in_threadpool(holistic_folder)
        if folder is None:
            return RedirectResponse(CDN + quote(name))
        return FileResponse(folder / name) if (folder / name).is_file() else Response(status_code=404)

    served = [Route("/camera/{session}", answering(hear), methods=["POST"]), Route("/holistic/{name}", file)]
    return served + ([Route("/camera", answering(take), methods=["POST"])] if kept else [])
