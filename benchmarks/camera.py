"""The camera's way in real time: how soon after the hands rest is there text, and is it that of the file?

    python benchmarks/camera.py OUT [--minutes 10] [--model FOLDER]

Utterances of ASL Cafe's test split, as the landmarks that MediaPipe would find of them, with the arms hanging for a
while between, go frame after frame, each in its time, to the demo page on this machine, as camera.js sends them. When
a caption is final, its clip is saved and translated as a file. Writes OUT/results.json: the share of equal texts and
codes, seconds from the first frame at rest to the text, what a frame costs the server in the first and in the last
minute, and the memory of page and model together.
"""

import argparse
import base64
import io
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from sign_reading import CAFE

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from motion_corpus import Known, landmarks
from test_live import resting

from lslm.hub_cards.space import app, camera, service
from lslm.processing.motion import Given, motion_of
from lslm.training.dataset.motion_text import load_split
from lslm.training.dataset.takes import joined
from lslm.training.provenance import record_of_script, save_results

FPS, REST, SIZE = 20.0, 1.2, (1280, 720)
PACE = 0.1  # seconds from one request to the next, as in camera.js


def signing(minutes: float) -> np.ndarray:
    """Frames as camera.py unpacks them, (T, NUMBERS), of so many minutes."""
    pieces, frames = [], 0
    for row in load_split(str(CAFE), "test").with_format("numpy"):
        joints = np.asarray(row["joints_mm"], np.float64) / 1000
        pieces += [resting(joints[0], round(REST * FPS)), joints]
        frames += len(joints) + round(REST * FPS)
        if frames > minutes * 60 * FPS:
            break
    joints = joined([*pieces, resting(joints[-1], round(REST * FPS))], FPS)
    seen = np.ones(joints.shape[:2], bool)
    found = landmarks(Known(joints=joints, fps=FPS, seen=seen), SIZE)
    times = np.arange(len(joints))[:, None] / FPS
    return np.concatenate([times, *(found[name].reshape(len(joints), -1) for name in camera.PARTS)], axis=1)


def replayed(frames: np.ndarray, url: str) -> tuple[list[dict], list[tuple[float, float]], list[int]]:
    """Final captions with the seconds when they `came`, (time, seconds of work) of each request, bytes of memory."""
    captions, costs, memory, sent = [], [], [], 0
    process, began = psutil.Process(), time.monotonic()
    with httpx.Client(base_url=url, timeout=60, headers={"Content-Type": service.TYPE}) as client:
        while sent < len(frames):
            now = time.monotonic() - began
            ready = int(np.searchsorted(frames[:, 0], now))
            query = {"width": SIZE[0], "height": SIZE[1]} | ({"end": 1} if ready == len(frames) else {})
            answer = client.post("camera/replay", params=query, content=frames[sent:ready].tobytes()).raise_for_status()
            came = time.monotonic() - began
            costs.append((came, came - now))
            memory.append(process.memory_info().rss)
            captions += [caption | {"came": came} for caption in answer.json()["captions"] if caption["final"]]
            sent = ready
            time.sleep(max(0.0, now + PACE - (time.monotonic() - began)))
    return captions, costs, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--minutes", type=float, default=10.0, help="of signing (default 10)")
    parser.add_argument("--model", default=str(CAFE / "checkpoint"), metavar="FOLDER")
    args = parser.parse_args()
    pipes = app.load([args.model])
    _, url, _ = app.serve(pipes, {}, quiet=True)
    captions, costs, memory = replayed(signing(args.minutes), url)
    pipe, equal_texts, equal_codes = pipes[args.model], [], []
    for caption in captions:
        file = args.out / "clip.npz"
        args.out.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(caption["clip"]))
        told = dict(np.load(io.BytesIO(file.read_bytes())))
        whole = pipe(str(file), details=True, min_confidence=app.UNSURE)[0]
        again = pipe({"motion": motion_of(told, Given())}, details=True)[0]
        equal_texts.append(caption["text"] == whole["translation_text"])
        equal_codes.append(whole["motion_codes"] == again["motion_codes"])
    file.unlink()
    waited = np.array([caption["came"] - caption["end"] for caption in captions])
    work = np.array(costs)
    first, last = (work[(work[:, 0] >= start) & (work[:, 0] < start + 60), 1].sum() for start in (0, work[-1, 0] - 60))
    results = {
        "utterances": len(captions),
        "same_text_as_the_file": float(np.mean(equal_texts)),
        "same_codes_as_the_file": float(np.mean(equal_codes)),
        "seconds_from_rest_to_text": {str(q): float(np.quantile(waited, q)) for q in (0.5, 0.9, 1.0)},
        "within_1.5_seconds": float(np.mean(waited <= 1.5)),
        "busy_in_the_first_minute": float(first / 60),
        "busy_in_the_last_minute": float(last / 60),
        "memory_after_a_minute": memory[np.searchsorted(work[:, 0], 60.0) - 1],
        "memory_at_the_end": memory[-1],
    }
    save_results(args.out, results | record_of_script())
    print(*(f"{name}: {value}" for name, value in results.items()), sep="\n")


if __name__ == "__main__":
    main()
