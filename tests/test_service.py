"""The demo page for programs: answers, limits, clips that are translated together, and an end that loses nothing."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import make_clip
from test_space import Toy

pytest.importorskip("gradio", reason="the demo page needs gradio: pip install 'lslm[space]'")
import gradio as gr
import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from training_fixtures import free_port

from lslm.hub_cards.space import app, service

ROOT = Path(__file__).resolve().parents[1]
HEADERS = {"Content-Type": service.TYPE}


class Held(Toy):
    """A pipeline that answers when it may, names the clip by its frames, and keeps how many it had at a time."""

    def __init__(self):
        super().__init__()
        self.free, self.begun = threading.Event(), threading.Semaphore(0)
        self.free.set()
        self.calls: list[int] = []

    def __call__(self, motion, details, prompt, batch_size=None):
        clips = [motion] if batch_size is None else motion
        self.calls.append(len(clips))
        self.begun.release()
        assert self.free.wait(20)
        answers = [super(Held, self).__call__(clip, details, prompt) for clip in clips]
        for clip, answer in zip(clips, answers, strict=True):
            if len(clip.joints) == 13:
                raise ValueError("the clip is unlucky")
            if len(clip.joints) == 17:
                raise RuntimeError("the model has a fault")
            answer[0]["translation_text"] = f"{len(clip.joints)} frames"
        return answers[0] if batch_size is None else answers


def motion_file(frames=40) -> bytes:
    return Path(written(frames)).read_bytes()


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory):
    """Files are read here: the processes that read them are tested with the page, and take seconds to start."""
    global written
    folder = tmp_path_factory.mktemp("files")

    def written(frames):
        path = folder / f"{frames}.npz"
        if not path.exists():
            np.savez_compressed(path, joints=np.resize(make_clip(40, 1), (frames, 52, 3)), fps=20.0)
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "READERS", lambda function, *args: function(*args))
        yield


@pytest.fixture(scope="module")
def page():
    """(address, application, pipeline) of a page with a checkpoint that can be held back, and another one."""
    toy = Held()
    application, url, _ = app.serve({"toy": toy, "other": Toy()}, {}, quiet=True)
    yield url, application, toy
    gr.close_all()


@pytest.fixture
def held(page):
    """The pipeline of the page, held back until the test ends or sets `free`."""
    toy = page[2]
    toy.free.clear()
    toy.calls.clear()
    while toy.begun.acquire(blocking=False):
        pass
    yield toy
    toy.free.set()
    until(lambda: not page[1].state.service.waiting)


def until(condition, seconds=20):
    """Wait for what other threads do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def ask(url, frames=40, address=None, **query) -> httpx.Response:
    headers = HEADERS | ({"X-Forwarded-For": address} if address else {})  # as a server before this one says it
    return httpx.post(f"{url}translate", params=query, content=motion_file(frames), headers=headers, timeout=30)


def waiting(url) -> int:
    return httpx.get(f"{url}health").json()["waiting"]


def connected(url, body=b"", length=None) -> socket.socket:
    host, port = url.split("/")[2].split(":")
    stream = socket.create_connection((host, int(port)), timeout=20)
    head = [f"POST /translate HTTP/1.1\r\nHost: {host}\r\nContent-Type: {service.TYPE}\r\n"]
    stream.sendall((head[0] + f"Content-Length: {length or len(body)}\r\n\r\n").encode() + body)
    return stream


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_program_gets_what_the_page_knows(page):
    answer = ask(page[0], 40, name="folder/my clip.npz").json()
    assert answer["text"] == "40 frames" and answer["file"] == "my clip.npz" and answer["remarks"] == []
    (translation,) = answer["translations"]
    assert translation == app.Translator({"toy": page[2]}).translate("toy", str(written(40)), "Translate <motion>.")
    both = ask(page[0], 40, checkpoint=["other", "toy"], prompt="Say <motion>!").json()
    assert [one["text"] for one in both["translations"]] == ["Some tea.", "40 frames"]
    assert page[2].asked[-1] == "Say <motion>!" and both["text"] == "Some tea."


def test_what_is_wrong_is_said_in_one_line(page, caplog):
    url = f"{page[0]}translate"

    def refused(status, content=b"", headers=HEADERS, **query) -> str:
        answer = httpx.post(url, params=query, content=content, headers=headers, timeout=20)
        assert answer.status_code == status and "\n" not in answer.json()["error"], answer.text
        return answer.json()["error"]

    assert refused(400, b"hello", name="a.npz").startswith("a.npz: not a motion file")
    assert refused(400).startswith("clip.npz: ")
    assert "no pickles" in refused(400, b"\x80\x04N.")
    assert "the limit is 60 s" in refused(400, motion_file(61 * 20))
    assert "must contain <motion> once" in refused(400, motion_file(), prompt="Hello")
    assert refused(400, checkpoint="none") == "No checkpoint is called 'none'. There are: toy, other."
    assert "one checkpoint, or two" in refused(400, checkpoint=["toy"] * 3)
    assert refused(400, motion_file(13)) == "the clip is unlucky"
    # what a form of another page can send without asking
    assert refused(400, headers={"Content-Type": "text/plain"}) == "expected Content-Type: application/octet-stream"
    large = bytes(app.MAX_BYTES + 1)
    assert refused(413, large) == refused(413, iter([large])) == f"more than {app.MAX_BYTES} bytes in one request"
    assert refused(500, motion_file(17)) == service.FAULT
    assert "translating" in caplog.text
    assert httpx.get(url).status_code == 405


def test_names_of_files_are_only_names():
    for name in ("../../etc/passwd", "..\\..\\passwd", "/etc/passwd", "passwd"):
        assert service.file_name(name) == "passwd"
    assert service.file_name("a<b>$(id).pose") == "a_b__(id).pose" and service.file_name("你好.npz") == "你好.npz"
    assert [service.file_name(name) for name in ("", "..", "a/", "\0")] == ["clip", "clip", "clip", "_"]
    assert len(service.file_name("你" * 300 + ".npz").encode()) < 200


def test_no_file_stays(page):
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    before = {*folder.rglob("*")}
    assert ask(page[0]).status_code == 200 and ask(page[0], 13).status_code == 400
    assert {*folder.rglob("*")} == before


def test_the_description_is_true(page):
    described = httpx.get(f"{page[0]}openapi.json").json()
    assert described["openapi"].startswith("3.1") and {*described["paths"]} == {"/translate", "/health"}
    post = described["paths"]["/translate"]["post"]
    names = {parameter["name"]: parameter["schema"] for parameter in post["parameters"]}
    assert names["checkpoint"]["items"]["enum"] == ["toy", "other"] and {*names} == {"name", "prompt", "checkpoint"}
    health = described["paths"]["/health"]["get"]["responses"]["200"]
    for answer, told in ((ask(page[0]), post["responses"]["200"]), (httpx.get(f"{page[0]}health"), health)):
        fits(answer.json(), told["content"]["application/json"]["schema"])
    assert {*post["responses"]} == {"200", "400", "408", "413", "429", "500", "503"}
    assert "Retry-After" in post["responses"]["503"]["headers"]
    # Gradio's own description of the page's endpoint is where it was
    assert "/gradio_api/call/translate" in json.dumps(httpx.get(f"{page[0]}gradio_api/openapi.json").json())


def fits(value, schema):
    """That a value is what a schema says, with nothing more."""
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
    kinds["null"] = type(None)
    if "enum" in schema:
        assert value in schema["enum"]
        return
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(value, kinds[kind]) for kind in types), (value, schema)
    if isinstance(value, dict):
        assert {*value} == {*schema["properties"]} == {*schema["required"]}
        for name, part in value.items():
            fits(part, schema["properties"][name])
    for part in value if isinstance(value, list) else ():
        fits(part, schema["items"])


def test_what_the_page_of_the_documentation_says_of_limits():
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d{3}) \| (.*?) \|", text, re.MULTILINE))
    responses = service.description(["m"], "<motion>", 1)["paths"]["/translate"]["post"]["responses"]
    assert {*rows} == {*responses}
    for number, status in ((service.MOST, "503"), (service.RATE, "429"), (service.SHARE, "429")):
        assert str(number) in rows[status]
    assert f"{app.MAX_BYTES >> 20} MB" in rows["413"] and f"{service.STOPPING:.0f} seconds" in text
    assert f"up to {service.BATCH} " in text


def test_the_commands_of_the_documentation_work(page, tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    section = text[text.index("## For programs") : text.index("## On an engine that exists")]
    address = page[0].rstrip("/")
    shells, programs = (re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("bash", "python"))
    (tmp_path / "clip.npz").write_bytes(motion_file())
    monkeypatch.chdir(tmp_path)
    (asks,) = (block for block in shells if "curl" in block)
    asks = asks.replace("http://127.0.0.1:7860", address)
    done = subprocess.run(["sh", "-ec", asks], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0 and "40 frames" in done.stdout and '"status":"ok"' in done.stdout, done.stderr
    for program in programs:
        exec(compile(program.replace("http://127.0.0.1:7860", address), "serving.md", "exec"), {})
    assert capsys.readouterr().out.count("40 frames") == len(programs) >= 1


# --- together ---------------------------------------------------------------------------------------------------------


def test_clips_that_wait_are_translated_together(page, held):
    lengths = [40 + index for index in range(30)]
    with ThreadPoolExecutor(32) as pool:
        first = pool.submit(ask, page[0], 39)
        assert held.begun.acquire(timeout=20)
        asked = [pool.submit(ask, page[0], length) for length in lengths]
        other = pool.submit(ask, page[0], 70, prompt="Say <motion>!")
        batches = page[1].state.service.translator.batches
        until(lambda: len(batches.waiting) == 31)
        held.free.set()
        texts = [answer.result().json()["text"] for answer in asked]
        assert texts == [f"{length} frames" for length in lengths]
        assert first.result().json()["text"] == "39 frames" and other.result().json()["text"] == "70 frames"
    assert held.calls[:2] == [1, 1] and sorted(held.calls[2:]) == [14, 16]  # another instruction is not kept waiting


def test_one_bad_clip_does_not_spoil_the_others(page, held):
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, page[0], 39)
        assert held.begun.acquire(timeout=20)
        asked = [pool.submit(ask, page[0], length) for length in (12, 13, 14)]
        until(lambda: len(page[1].state.service.translator.batches.waiting) == 3)
        held.free.set()
        answers = [answer.result() for answer in asked]
        assert [answer.status_code for answer in answers] == [200, 400, 200]
        assert [answer.json().get("text") for answer in answers] == ["12 frames", None, "14 frames"]
        assert answers[1].json()["error"] == "the clip is unlucky" and first.result().status_code == 200


def test_a_batch_with_too_few_answers_is_asked_one_by_one():
    class Mean:
        def __call__(self, motion, batch_size=None):
            return [[f"of {motion[0]}"]] if batch_size else [f"of {motion}"]

    batch = [service.Asked(mean, name, {}) for mean in (Mean(),) for name in "ab"]
    for asked in batch:
        asked.answer.set_running_or_notify_cancel()
    service.translate_together(batch)
    assert [asked.answer.result() for asked in batch] == [["of a"], ["of b"]]


def test_a_clip_in_a_batch_is_read_as_it_is_alone(checkpoint):
    (pipe,) = app.load([checkpoint], max_new_tokens=8).values()
    motions = [make_clip(frames, seed) for seed, frames in enumerate((41, 12, 53, 30))]
    alone = [pipe(motion, details=True)[0] for motion in motions]
    for one, (other,) in zip(alone, pipe(motions, batch_size=4, details=True), strict=True):
        assert other["translation_text"] == one["translation_text"] and other["motion_codes"] == one["motion_codes"]
        np.testing.assert_allclose(other["probabilities"], one["probabilities"], atol=1e-4)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_sixty_fifth_is_told_busy_and_all_others_are_answered(page, held):
    with ThreadPoolExecutor(service.MOST) as pool:
        asked = [pool.submit(ask, page[0], 40) for _ in range(service.MOST)]
        until(lambda: waiting(page[0]) == service.MOST)
        answer = ask(page[0])
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "5"
        assert answer.json()["error"].startswith("Busy: 64 requests are waiting.")
        # nor does a visitor of the page get in
        with pytest.raises(service.Busy):
            page[1].state.service.check_places()
        held.free.set()
        assert [answer.result().status_code for answer in asked] == [200] * service.MOST
    assert ask(page[0]).status_code == 200


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.1"])  # a proxy's word is not enough to be this machine
def test_one_address_does_not_take_all_places(page, held, address):
    with ThreadPoolExecutor(service.SHARE) as pool:
        asked = [pool.submit(ask, page[0], 40, address) for _ in range(service.SHARE)]
        until(lambda: waiting(page[0]) == service.SHARE)
        answer = ask(page[0], address=address)
        assert answer.status_code == 429 and "from your address" in answer.json()["error"]
        assert answer.headers["Retry-After"] == "5"
        another = ThreadPoolExecutor(1).submit(ask, page[0], 40, "192.0.2.2")
        until(lambda: waiting(page[0]) == service.SHARE + 1)
        held.free.set()
        assert {answer.result().status_code for answer in [*asked, another]} == {200}
    assert not page[1].state.service.of_address


def test_requests_that_come_too_fast_are_told_when_to_come_again(monkeypatch):
    limited, now = service.Service(app.Translator({"toy": Toy()}), "", 1), [1000.0]
    monkeypatch.setattr(service.time, "monotonic", lambda: now[0])
    for _ in range(service.RATE):
        limited.check_rate("a")
    with pytest.raises(service.Refused, match="More than 600 requests a minute. Try again in 1 s.") as error:
        limited.check_rate("a")
    assert error.value.status == 429 and error.value.retry_after == 1
    limited.check_rate("b")
    now[0] += 1.05
    for _ in range(10):
        limited.check_rate("a")
    with pytest.raises(service.Refused):
        limited.check_rate("a")
    for number in range(10_001):
        limited.check_rate(f"{number}")
    now[0] += 61
    limited.check_rate("c")
    assert {*limited.allowances} == {"c"}


def test_the_rate_is_that_of_the_page(page, monkeypatch):
    monkeypatch.setattr(service, "RATE", 2)
    answers = [ask(page[0], address="192.0.2.3") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30


def test_who_sends_slowly_or_never_reads_holds_up_nobody(page, monkeypatch):
    monkeypatch.setattr(service, "RECEIVING", 40)
    content = motion_file()
    slow = [connected(page[0], content[:100], len(content)) for _ in range(40)]
    until(lambda: page[1].state.service.receiving == 40)
    assert waiting(page[0]) == 0  # they take no places
    answer = ask(page[0])
    assert answer.status_code == 503 and "40 files are being received" in answer.json()["error"]
    monkeypatch.setattr(service, "RECEIVING", 41)
    assert ask(page[0]).status_code == 200
    deaf = [connected(page[0], content) for _ in range(20)]
    until(lambda: not waiting(page[0]))
    assert ask(page[0]).status_code == 200
    for stream in slow:
        stream.sendall(content[100:])  # they were only slow
        assert stream.recv(12) == b"HTTP/1.1 200"
    for stream in (*slow, *deaf):
        stream.close()
    assert not page[1].state.service.of_address


def test_a_large_answer_that_is_not_read_takes_no_place(page, monkeypatch):
    monkeypatch.setattr(Toy, "__call__", lambda *_, **__: [answer_of(2**24)])
    with connected(page[0], motion_file()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        assert deaf.recv(12) == b"HTTP/1.1 200"  # the rest of 16 MB waits
        monkeypatch.undo()
        assert waiting(page[0]) == 0 and ask(page[0]).status_code == 200


def answer_of(length: int) -> dict:
    chances = {"probabilities": [1.0], "confidence": None}
    return {"translation_text": "a" * length, "words": [], "tokens": [""], "motion_codes": []} | chances


def test_an_upload_that_stalls_is_told_so(page, monkeypatch):
    monkeypatch.setattr(app, "UPLOADING", 0.3)
    with connected(page[0], b"half", 1000) as stalled:
        answer = b""
        while part := stalled.recv(1000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive in time" in answer
    assert not page[1].state.service.receiving


def test_a_clip_that_nobody_waits_for_any_more_is_not_translated(page, held):
    batches = page[1].state.service.translator.batches
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, page[0], 39)
        assert held.begun.acquire(timeout=20)
        with connected(page[0], motion_file()):
            until(lambda: len(batches.waiting) == 1)
        until(lambda: waiting(page[0]) == 1)
        held.free.set()
        assert first.result().status_code == 200
    until(lambda: not batches.waiting)
    assert held.calls == [1]


# --- the end ----------------------------------------------------------------------------------------------------------


class Running:
    """A service of its own on a port, without the page."""

    def __init__(self, toy, folder):
        import uvicorn

        self.service = service.Service(app.Translator({"toy": toy}), str(folder), app.MAX_BYTES)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        application = Starlette(routes=self.service.routes(), middleware=[Middleware(app.Door)])
        self.server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="error"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()))

    def __enter__(self):
        self.thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(20)


@contextmanager
def two_waiting(folder):
    """A service with two requests that wait for the model, their answers to come, and its pipeline, held back."""
    toy = Held()
    toy.free.clear()
    with ThreadPoolExecutor(4) as pool, Running(toy, folder) as running:
        asked = [pool.submit(ask, running.url) for _ in range(2)]
        until(lambda: waiting(running.url) == 2)
        yield running, asked, toy
        toy.free.set()
    assert not [*folder.iterdir()]


def test_what_was_begun_is_finished_and_nothing_new_is_taken(tmp_path):
    with two_waiting(tmp_path) as (running, asked, toy), ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(running.service.stop, 20)
        until(lambda: httpx.get(f"{running.url}health").status_code == 503)
        answer = ask(running.url)
        assert answer.status_code == 503 and answer.json()["error"].startswith("The server is stopping.")
        assert answer.headers["Retry-After"] == "5" and not stopped.done()
        toy.free.set()
        stopped.result(20)
        assert [answer.result().status_code for answer in asked] == [200, 200]


def test_what_takes_too_long_is_told_so_at_the_end(tmp_path):
    with two_waiting(tmp_path) as (running, asked, _):
        running.service.stop(0.1)
        answers = [answer.result() for answer in asked]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert answers[0].json()["error"] == "The server stopped before the clip was translated. Send it again."


SERVING = """
import sys
from types import SimpleNamespace
from lslm import load_motion
from lslm.hub_cards.space import app

class Toy:
    model = SimpleNamespace(config=SimpleNamespace())
    extractor = SimpleNamespace(fps=20.0, downsample_factor=4, to_motion=load_motion)
    processor = SimpleNamespace(prompt="Translate <motion>.", feature_extractor=extractor)

    def __call__(self, motion, **options):
        print("translating", flush=True)
        text = sys.stdin.readline().strip()
        chances = {"probabilities": [1.0], "confidence": None}
        return [{"translation_text": text, "words": [], "tokens": [""], "motion_codes": []} | chances]

app.READERS = lambda function, *args: function(*args)
application, url, _ = app.serve({"toy": Toy()}, {}, quiet=True, server_port=int(sys.argv[1]))
print(url, flush=True)
app.wait_for_the_end(application)
print("the end", flush=True)
"""


def test_a_server_that_is_to_end_answers_first(tmp_path):
    program = tmp_path / "serving.py"
    program.write_text(SERVING)
    env = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    with (
        subprocess.Popen([sys.executable, program, str(free_port())], **pipes) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        try:
            url = process.stdout.readline().strip()
            content = motion_file()
            asked = pool.submit(httpx.post, f"{url}translate", content=content, headers=HEADERS, timeout=100)
            assert process.stdout.readline() == "translating\n"
            process.terminate()
            assert process.stdout.readline() == "\n"
            assert process.stdout.readline() == "Finishing 1 requests (Ctrl+C again ends at once)\n"
            process.stdin.write("Some tea.\n")
            process.stdin.flush()
            assert asked.result().json()["text"] == "Some tea."
            assert process.stdout.readline() == "the end\n" and process.wait(30) == 0
        finally:
            process.kill()
    assert not [*tmp_path.glob("lslm-demo-*")]
