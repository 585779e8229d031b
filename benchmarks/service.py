"""The service under load: 32 programs at once, with clients beside them that send slowly or never read.

    python benchmarks/service.py OUT [--clients 32] [--requests 300] [--clips 40] [--beside 16] [--model FOLDER]

Clips of ASL Cafe's test split go to `lslm demo` on this machine: first one after the other, which gives the text of
each alone, and the pace of one client; then from all clients at once, each with its next request as soon as it has an
answer. Who is told "busy" waits as told, and asks again. Meanwhile as many clients as `--beside` says send a byte every
half a second, as many send a clip and never read the answer, and one asks for /health every second. Writes
OUT/results.json: seconds of the requests that were answered, how many were told "busy", other errors, answers that are
not those of the clip alone, and the server's memory on the way.
"""

import argparse
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
from sign_reading import CAFE

from lslm.hub_cards.space.service import TYPE
from lslm.training.dataset.motion_text import load_split
from lslm.training.provenance import record_of_script, save_results

START, PATIENCE = 300, 600  # seconds until the server is there, and for one answer
PARTS = (0.25, 0.5, 0.75, 1.0)  # of the requests, after which memory is measured
HEADERS = {"Content-Type": TYPE}


def clips_of(count: int, folder: Path) -> list[bytes]:
    """So many utterances of the test split, as files."""
    rows = load_split(str(CAFE), "test").with_format("numpy")
    for number, row in enumerate(rows.select(range(count))):
        np.savez_compressed(folder / f"{number}.npz", joints=np.asarray(row["joints_mm"]) / 1000, fps=20.0)
    return [(folder / f"{number}.npz").read_bytes() for number in range(count)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def head(port: int, length: int) -> bytes:
    lines = [
        "POST /translate HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: {TYPE}",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Load:
    """Clients of a server at `port`.

    Args:
        clips: the files that they send, in turn.
        texts: of each alone.
    """

    def __init__(self, port: int, process: psutil.Process, clips: list[bytes], texts: list[str]):
        self.port, self.process, self.clips, self.texts = port, process, clips, texts
        self.seconds: list[float] = []
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.health: list[float] = []
        self.over = threading.Event()

    def ask(self, number: int, client: httpx.Client) -> None:
        """One request, until it is answered with something else than "busy"."""
        clip = number % len(self.clips)
        while True:
            began = time.monotonic()
            try:
                answer = client.post("translate", content=self.clips[clip], headers=HEADERS)
            except httpx.HTTPError as error:
                self.errors.append(repr(error))
                return
            if answer.status_code not in (429, 503):
                break
            self.counts["busy"] += 1
            time.sleep(int(answer.headers["Retry-After"]))
        if answer.status_code != 200:
            self.errors.append(answer.text)
            return
        self.seconds.append(time.monotonic() - began)
        self.counts["other texts"] += answer.json()["text"] != self.texts[clip]

    def run(self, clients: int, requests: int) -> dict[str, int]:
        """All requests; bytes of memory after each of `PARTS` of them."""
        memory, numbers, lock = {}, itertools.count(), threading.Lock()

        def client():
            with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE) as session:
                while (number := next(numbers)) < requests:
                    self.ask(number, session)
                    with lock:
                        done = len(self.seconds) + len(self.errors)
                        for part in PARTS:
                            if done >= part * requests and str(part) not in memory:
                                memory[str(part)] = self.process.memory_info().rss
                                print(f"{done} of {requests}", flush=True)

        with ThreadPoolExecutor(clients) as pool:
            for finished in [pool.submit(client) for _ in range(clients)]:
                finished.result()
        return memory

    def send_slowly(self) -> None:
        """A byte every half a second; another request when the server has had enough."""
        while not self.over.is_set():
            with socket.create_connection(("127.0.0.1", self.port)) as slow:
                self.counts["slow"] += 1
                try:
                    slow.sendall(head(self.port, len(self.clips[0])))
                    for byte in self.clips[0]:
                        if self.over.wait(0.5):
                            return
                        slow.sendall(bytes([byte]))
                except OSError:  # it closed the connection
                    continue

    def never_read(self) -> None:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            deaf.connect(("127.0.0.1", self.port))
            deaf.sendall(head(self.port, len(self.clips[0])) + self.clips[0])
            self.over.wait()

    def watch(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE) as client:
            while not self.over.wait(1.0):
                began = time.monotonic()
                try:
                    client.get("health").raise_for_status()
                    self.health.append(time.monotonic() - began)
                except httpx.HTTPError as error:
                    self.errors.append(f"health: {error!r}")


def measured(port: int, process: psutil.Process, clips: list[bytes], args) -> dict:
    alone, texts = [], []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        client.post("translate", content=clips[0], headers=HEADERS).raise_for_status()  # what begins with the first one
        for clip in clips:
            began = time.monotonic()
            texts.append(client.post("translate", content=clip, headers=HEADERS).raise_for_status().json()["text"])
            alone.append(time.monotonic() - began)
    load, memory = Load(port, process, clips, texts), {"before": process.memory_info().rss}
    beside = [threading.Thread(target=load.watch)]
    for _ in range(args.beside):
        beside += [threading.Thread(target=load.send_slowly), threading.Thread(target=load.never_read)]
    for thread in beside:
        thread.start()
    began = time.monotonic()
    try:
        memory |= load.run(args.clients, args.requests)
    finally:
        took = time.monotonic() - began
        load.over.set()
        for thread in beside:
            thread.join()
    return {
        "metrics": {
            "answered": len(load.seconds),
            "told_busy": load.counts["busy"],
            "other_errors": len(load.errors),
            "texts_that_differ_from_the_clip_alone": load.counts["other texts"],
            "seconds": {str(q): round(float(np.quantile(load.seconds, q)), 2) for q in (0.5, 0.99, 1.0)},
            "requests_per_second": round(len(load.seconds) / took, 3),
            "requests_per_second_of_one_client": round(len(alone) / sum(alone), 3),
            "seconds_of_health": {str(q): round(float(np.quantile(load.health, q)), 3) for q in (0.5, 1.0)},
            "server_memory_mb": {name: value >> 20 for name, value in memory.items()},
            "slow_requests_that_began": load.counts["slow"],
            "clients_that_never_read": args.beside,
        },
        "errors": load.errors[:20],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clips", type=int, default=40, help="different ones (default 40)")
    parser.add_argument("--beside", type=int, default=16, help="slow senders, and as many who never read (default 16)")
    parser.add_argument("--model", default=str(CAFE / "checkpoint"), metavar="FOLDER")
    args = parser.parse_args()
    port = free_port()
    command = [Path(sys.executable).with_name("lslm"), "demo", "--model", args.model, "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(START):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    if server.poll() is not None:
                        raise SystemExit("the server ended; its message stands above") from None
                    time.sleep(1)
            clips = clips_of(args.clips, Path(folder))
            results = measured(port, psutil.Process(server.pid), clips, args)
        finally:
            began = time.monotonic()
            server.terminate()
            code = server.wait(60)
    results["metrics"] |= {"seconds_to_stop": round(time.monotonic() - began, 1), "exit_code": code}
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    details = f"{os.cpu_count()} cores, shared with other work", f"{threads} threads"
    save_results(args.out, results | record_of_script(*details, packages=("torch", "transformers", "gradio")))
    print(*(f"{name}: {value}" for name, value in results["metrics"].items()), sep="\n")


if __name__ == "__main__":
    main()
