"""How fast is `lslm data build`, and what memory does it take? On clips made up here.

    python benchmarks/data_build.py OUT [--clips 10000] [--frames 200] [--workers 2] [--small 1000] [--plan 200000]

Builds a data set of --small clips and one of --clips, in OUT, and plans one of --plan clips (empty files: the plan does
not open them); writes OUT/results.json. One file in a thousand is damaged: it has to be reported and the others must
not suffer. A further build is killed (SIGKILL) when half of its shards are done, and given again: same bytes?

Memory is sampled: of all processes what they take together (pages that they share count once, on Linux), of one its
resident size. CPU seconds are those of all processes; on a machine that has other work they say more than the clock.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from lslm.processing.motion_features import HUMANML3D_BONE_LENGTHS, NUM_JOINTS, PARENTS, RAW_DIRECTIONS
from lslm.training.dataset.motion_text import load_split, read_joints
from lslm.training.provenance import record_of_script

FPS, TARGET_FPS = 24.0, 20.0
DAMAGED_EVERY = 1000
WORDS = "the a this that please coffee water name is what where we you sign today tomorrow see go come back".split()
BATCH = 50  # clips that are made together
SAMPLE = 0.1  # seconds between two looks at the memory


def make_clips(count: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    """(count, frames, 52, 3) float32 metres: standing people whose limbs swing, with a millimetre of noise."""
    times = np.arange(frames)[None, :, None, None] / FPS
    pace, phase = rng.uniform(0.2, 1.5, (2, count, 1, NUM_JOINTS, 3))
    directions = RAW_DIRECTIONS + 0.5 * np.sin(2 * np.pi * (pace * times + phase))
    directions[:, :, 0] = 1.0  # the pelvis has no bone
    bones = directions / np.linalg.norm(directions, axis=-1, keepdims=True) * HUMANML3D_BONE_LENGTHS[:, None]
    joints = np.zeros((count, frames, NUM_JOINTS, 3), np.float32)
    joints[:, :, 0, 1] = 0.95
    for joint in range(1, NUM_JOINTS):
        joints[:, :, joint] = joints[:, :, PARENTS[joint]] + bones[:, :, joint]
    return joints + rng.normal(0, 0.001, joints.shape).astype(np.float32)


def make_source(folder: Path, clips: int, frames: int) -> list[str]:
    """Motion files (empty ones for 0 frames) in folders of a thousand, and texts.jsonl; -> ids of the damaged ones."""
    rng, damaged, batch = np.random.default_rng(0), [], []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with open(folder / "texts.jsonl", "w", encoding="utf-8") as texts:
        for number in range(clips):
            path = folder / f"{number // 1000:04d}" / f"clip-{number:07d}.npz"
            path.parent.mkdir(exist_ok=True)
            path.touch()
            if frames:
                batch = batch or list(make_clips(min(BATCH, clips - number), frames, rng))
                np.savez(path, joints=batch.pop(0), fps=np.float32(FPS))
            if frames and number % DAMAGED_EVERY == DAMAGED_EVERY // 2:
                path.write_bytes(path.read_bytes()[:5000])
                damaged.append(path.stem)
            text = " ".join(rng.choice(WORDS, rng.integers(3, 15)))
            row = {"id": path.stem, "text": text, "video": f"video-{number // 20}", "signer": f"s{number % 17}"}
            texts.write(json.dumps(row) + "\n")
    return damaged


class Usage(threading.Thread):
    """What a process and its children take: megabytes, the most of all together and of one; CPU seconds."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.process, self.total, self.single = psutil.Process(pid), 0.0, 0.0
        self.cpu_seconds: dict[int, float] = {}  # of each; nobody waits for those that a server forks

    def run(self):
        while True:
            try:
                processes = [self.process, *self.process.children(recursive=True)]
                infos = [process.memory_full_info() for process in processes]
                self.cpu_seconds |= {process.pid: sum(process.cpu_times()[:2]) for process in processes}
            except psutil.NoSuchProcess:
                if not self.process.is_running():
                    return
                continue
            together = sum(getattr(info, "pss", info.rss) for info in infos) / 2**20
            self.total, self.single = max(self.total, together), max(self.single, *(info.rss / 2**20 for info in infos))
            time.sleep(SAMPLE)


def start_build(source: Path, out: Path, workers: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "lslm_cli", "data", "build", source, out]
    command += ["--fps", TARGET_FPS, "--workers", workers]
    return subprocess.Popen([str(part) for part in command], start_new_session=True)


def build(source: Path, out: Path, workers: int) -> dict:
    """Run the command; -> seconds and memory."""
    started = time.perf_counter()
    process = start_build(source, out, workers)
    usage = Usage(process.pid)
    usage.start()
    if process.wait():
        raise RuntimeError(f"the build failed with exit code {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(sum(usage.cpu_seconds.values()), 1),
        "peak_mb": round(usage.total),
        "peak_mb_of_one": round(usage.single),
    }


def measure_killed(source: Path, whole: Path, workers: int) -> dict:
    """Kill a build half way, give it again, and compare its bytes with those of `whole`."""
    shards = len(list((whole / "data").glob("*.parquet")))
    out = whole.parent / "killed" / whole.name  # the card has the name of the folder
    shutil.rmtree(out, ignore_errors=True)
    process = start_build(source, out, workers)
    staged = out / ".build" / "staged"
    while (done := len(list(staged.glob("*.json")))) < shards / 2:
        if process.poll() is not None:
            raise RuntimeError("the build ended before it could be killed")
        time.sleep(SAMPLE)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seconds = build(source, out, workers)["seconds"]
    same = subprocess.run(["diff", "-rq", "-x", ".build", out, whole]).returncode == 0
    return {"shards_done_when_killed": done, "seconds_after": seconds, "same_bytes": same}


def measure(out: Path, clips: int, frames: int, workers: int) -> dict:
    """Build one data set, twice; -> its figures."""
    source, target = out / f"source-{clips}", out / f"set-{clips}"
    shutil.rmtree(target, ignore_errors=True)
    damaged = make_source(source, clips, frames)
    result = build(source, target, workers)
    result["clips_per_second"] = round(clips / result["seconds"], 1)
    again = build(source, target, workers)
    killed = measure_killed(source, target, workers)
    report = json.loads((target / "report.json").read_text())
    dropped = [json.loads(line)["id"] for line in (target / "dropped.jsonl").read_text().splitlines()]
    files = sorted((target / "data").glob("*.parquet"))
    rows = load_split(str(target), "train").with_format("numpy")
    whole = [np.isfinite(read_joints(rows[int(index)])).all() for index in np.linspace(0, len(rows) - 1, 20)]
    return result | {
        "clips": clips,
        "seconds_when_nothing_changed": again["seconds"],
        "cpu_seconds_when_nothing_changed": again["cpu_seconds"],
        "killed": killed,
        "damaged": len(damaged),
        "damaged_and_reported": len(set(damaged) & set(dropped)),
        "dropped": len(dropped),
        "rows": report["clips"],
        "rows_in_files": sum(pq.ParquetFile(file).metadata.num_rows for file in files),
        "sampled_rows_intact": all(whole),
        "shards": len(files),
        "source_mb": round(sum(file.stat().st_size for file in source.rglob("*.npz")) / 2**20),
        "parquet_mb": round(sum(file.stat().st_size for file in files) / 2**20, 1),
        "records_mb": round(sum(f.stat().st_size for f in (target / ".build").rglob("*") if f.is_file()) / 2**20, 2),
    }


PLAN = """
import json, resource, sys, time
from lslm.training.dataset.build.build import plan
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
plan(sys.argv[1], sys.argv[2])
seconds, after = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"cpu_seconds": round(seconds, 1), "more_peak_mb": round((after - before) / 1024, 1)}))
"""


def measure_plan(out: Path, clips: int) -> dict:
    """The plan alone, of files that are empty."""
    source, target = out / f"plan-source-{clips}", out / f"plan-{clips}"
    shutil.rmtree(target, ignore_errors=True)
    make_source(source, clips, 0)
    done = subprocess.run([sys.executable, "-c", PLAN, source, target], capture_output=True, text=True, check=True)
    size = sum(file.stat().st_size for file in (target / ".build" / "plan").iterdir()) / 2**20
    shutil.rmtree(source)
    return {"clips": clips, **json.loads(done.stdout), "plan_mb": round(size, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    for name, default in {"clips": 10_000, "small": 1000, "frames": 200, "workers": 2, "plan": 200_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    machine = f"{os.cpu_count()} cores, load before the start {os.getloadavg()[0]:.1f}"
    small, large = (measure(args.out, clips, args.frames, args.workers) for clips in (args.small, args.clips))
    results = {
        "metrics": {
            "plan_small": measure_plan(args.out, args.plan // 10),
            "plan_large": measure_plan(args.out, args.plan),
            "small": small,
            "large": large,
            "memory_large_over_small": round(large["peak_mb"] / small["peak_mb"], 3),
        },
        **record_of_script(machine, packages=("pyarrow", "datasets", "numpy")),
    }
    (args.out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results["metrics"], indent=2))


if __name__ == "__main__":
    main()
