"""The demo page: what the player is given, limits, messages, hostile input, the endpoint; the page in a browser."""

import ast
import base64
import gzip
import json
import logging
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import lslm_cli
import numpy as np
import pytest
from conftest import make_clip
from test_motion_formats import signer
from training_fixtures import free_port

from lslm import load_motion
from lslm.processing.motion_features import NUM_JOINTS, PARENTS

pytest.importorskip("gradio", reason="the demo page needs gradio: pip install 'lslm[space]'")
import gradio as gr
import httpx
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from lslm.hub_cards.space import app, confined, display, service
from lslm.modeling_lslm.confidence_lslm import words_of

SPACE = Path(app.__file__).resolve().parent
HOSTILE = '<img src=x onerror="alert(1)"></p><script>alert(2)</script> & ${1} {{2}} tea'


class Toy:
    """A pipeline that says what it is told to, of whatever clip."""

    confidence = None

    def __init__(self, tokens=("Some", " tea", ".", ""), probabilities=(0.9, 0.25, 0.98, 1.0), parts=3):
        self.tokens, self.probabilities, self.parts = list(tokens), list(probabilities), parts
        extractor = types.SimpleNamespace(fps=20.0, downsample_factor=4, to_motion=load_motion)
        self.processor = types.SimpleNamespace(prompt="Translate <motion>.", feature_extractor=extractor)
        self.model = types.SimpleNamespace(config=types.SimpleNamespace())
        self.asked = []

    def __call__(self, motion, details, prompt, batch_size=None):
        if batch_size is not None:
            return [self(one, details, prompt) for one in motion]
        self.asked.append(prompt)
        steps = -(-int(motion.duration * 20 - 1) // 4)
        codes = [[7 * step + part for part in range(self.parts)] for step in range(steps)]
        text = "".join(self.tokens).strip()
        chances = {"tokens": self.tokens, "probabilities": self.probabilities}
        words = words_said(self.tokens, self.probabilities, self.confidence)
        return [
            {"translation_text": text, "motion_codes": codes, "words": words, "confidence": self.confidence} | chances
        ]


def words_said(tokens, chances, confidence=None) -> list[dict]:
    return [
        {"word": word, "probability": chance, "confidence": confidence}
        for word, chance in words_of(list(tokens), list(chances))
    ]


@pytest.fixture
def clip(tmp_path):
    """Writes a clip file of that many frames."""

    def write(name="clip.npz", frames=40, fps=20.0, **arrays):
        np.savez_compressed(tmp_path / name, joints=np.resize(make_clip(40, 1), (frames, 52, 3)), fps=fps, **arrays)
        return str(tmp_path / name)

    return write


def refusal(path, **pipes) -> str:
    """What the page says of a file that it does not take."""
    with pytest.raises((ValueError, OSError)) as error:
        app.Translator(pipes or {"toy": Toy()}).read(path)
    return service.explain(error.value, path)


# --- what the player is given -----------------------------------------------------------------------------------------


def unpacked(payload) -> tuple[np.ndarray, np.ndarray]:
    """(T, 52, 3) int16 and (T, 52) bool of a motion payload, as skeleton.js reads them."""
    shape = payload["frames"], NUM_JOINTS
    bits = np.unpackbits(np.frombuffer(base64.b64decode(payload["seen"]), np.uint8), count=np.prod(shape))
    return np.frombuffer(base64.b64decode(payload["motion"]), "<i2").reshape(*shape, 3), bits.reshape(shape) == 1


def test_motion_is_packed_to_a_millimetre_wherever_it_happens():
    for away in (0.0, 90.0):
        joints = (make_clip(23, 2) + (away, 0, -away)).astype(np.float32)
        valid = np.random.default_rng(0).random(joints.shape[:2]) < 0.5
        payload = json.loads(json.dumps(display.motion_payload(joints, 25.0, valid)))
        millimetres, seen = unpacked(payload)
        moved = millimetres / 1000 - joints
        assert np.abs(moved - moved[0, 0]).max() < 0.002 and (seen == valid).all()
        assert payload["fps"] == 25.0 and np.abs(np.array(payload["half"]) - 0.6).max() < 0.5


def test_joints_without_a_number_are_marked_and_do_not_spoil_the_rest():
    joints = make_clip(9)
    joints[2:4, 30], joints[5] = np.nan, np.nan
    payload = display.motion_payload(joints, 20.0, None)
    millimetres, seen = unpacked(json.loads(json.dumps(payload, allow_nan=False)))
    missing = np.isnan(joints).any(-1)
    assert ((millimetres[..., 0] == display.MISSING) == missing).all() and (seen == ~missing).all()
    only_feet = np.full((4, 52, 3), np.nan)
    only_feet[:, display.LEGS] = make_clip(4)[:, display.LEGS]
    json.dumps(display.motion_payload(only_feet, 20.0, None), allow_nan=False)


@pytest.mark.parametrize("angle", [-2.5, -1.0, 0.0, 0.7, 3.0])
def test_the_camera_knows_where_the_signer_faces(angle):
    across = np.zeros((3, 52, 3))
    across[:, display.LEFT_SHOULDER, 0] = 0.2
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    assert display.facing(across @ turn.T) == pytest.approx(angle)
    assert display.facing(np.zeros((3, 52, 3))) == display.facing(np.full((3, 52, 3), np.nan)) == 0.0


def test_the_player_knows_the_skeleton():
    body = re.search(r"const BODY = \[([-\d, ]+)\]", (SPACE / "skeleton.js").read_text())[1]
    assert [int(joint) for joint in body.split(",")] == PARENTS[:22]
    fingers = [j - 1 if (j - 22) % 3 else 20 + (j >= 37) for j in range(22, 52)]  # as skeleton.js makes them
    assert fingers == PARENTS[22:]


def test_each_codebook_is_a_row():
    translator = app.Translator({"three": Toy(), "one": Toy(parts=1), "six": Toy(parts=6), "two": Toy(parts=2)})
    path = str(SPACE.parent.parent / "examples" / "asl_cafe" / "clips" / "test-0004.npz")
    results = [translator.translate(name, path, "Say <motion>.") for name in ("three", "one", "six", "two")]
    three, one, six, two = app.tokens_payload("5", results)["tracks"]
    assert three["rows"] == ["body", "left hand", "right hand"] and one["rows"] == ["token"]
    assert six["rows"][2:4] == ["left hand", "+"] and two["rows"] == ["codebook 1", "codebook 2"]
    assert three["codes"][2] == [14, 15, 16] and one["codes"][2] == [14] and one["seconds"] == 0.2
    assert app.tokens_payload("5", [results[0] | {"motion_codes": []}])["tracks"][0]["codes"] == []


# --- words ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self.attributes = [], "", []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def translated(name="m", tokens=("Some", " tea", ".", ""), chances=(0.9, 0.25, 0.98, 1.0), confidence=None) -> dict:
    result = {"model": name, "words": words_said(tokens, chances, confidence), "confidence": confidence}
    return result | {"probability": float(np.prod(chances)), "complete": tokens[-1:] == ("",)}


def test_hostile_text_stays_text():
    results = [translated(HOSTILE, (HOSTILE, ""), (0.9, 1.0)), translated()]
    page = Page(app.translations_html(HOSTILE, results, HOSTILE, [HOSTILE]) + app.error_html(HOSTILE))
    assert page.text.count(HOSTILE) >= 5  # title, model, reference, remark, error
    assert "script" not in page.tags and "img" not in page.tags and "onerror" not in page.attributes
    words = HOSTILE.split()
    assert all(page.text.count(word) >= 6 for word in words)  # and twice among the words


def test_confidence_is_told_by_more_than_colour():
    card = app.translations_html("x", [translated()], None, [])
    assert '<span class="word" style="--p:0.900" title="90\u00a0%">Some</span> ' in card
    assert '<span class="word unsure" style="--p:0.245" title="24\u00a0%">tea.</span>' in card
    assert "Sure of the whole sentence: 22\u00a0%. Least sure of “tea.”: 24\u00a0%." in card
    assert "Least" not in app.translations_html("x", [translated(chances=(1.0, 0.995, 1.0, 1.0))], None, [])
    assert '<th scope="row">tea.</th><td>24\u00a0%</td>' in card and "Signed was" not in card
    assert "cut off" in app.translations_html("x", [translated(tokens=("Some",), chances=(0.9,))], None, [])
    assert "(nothing)" in app.translations_html("x", [translated(tokens=("",), chances=(0.9,))], None, [])
    assert [display.percent(p) for p in (0, 0.004, 0.5)] == ["0\u00a0%", "below 1\u00a0%", "50\u00a0%"]
    assert [display.percent(p) for p in (0.9999, 1.0)] == ["above 99\u00a0%", "100\u00a0%"]


def test_a_calibrated_model_says_how_sure_one_may_be_and_that_it_is_not_sure():
    card = app.translations_html("x", [translated(confidence=0.75)], None, [])
    assert "Confidence: 75\u00a0% of the words are likely to be right." in card and "whole sentence" not in card
    assert '<th scope="row">tea.</th><td>75\u00a0%</td>' in card and "Not sure" not in card
    card = app.translations_html("x", [translated(confidence=0.31)], None, [])
    assert card.index("Not sure that this is signing") < card.index('class="sentence"') and "tea." in card
    assert "Not sure" not in app.translations_html("x", [translated()], None, [])


def test_two_translations_show_where_they_differ():
    other = translated("b", ("Some", " hot", " tea", ".", ""), (1.0,) * 5)
    both = app.translations_html("x", [translated("a"), other], "Some tea.", [])
    assert re.findall(r'class="word[a-z ]*differs"[^>]*>([^<]+)<', both) == ["hot"]
    assert "<h3>a</h3>" in both and "<h3>b</h3>" in both and both.count("Signed was: <b>Some tea.</b>") == 2


# --- limits and messages ----------------------------------------------------------------------------------------------


def test_size_is_looked_at_before_anything_else(tmp_path, monkeypatch):
    path = tmp_path / "clip.npz"
    path.touch()
    os.truncate(path, 2**30)
    monkeypatch.setattr(app.zipfile, "ZipFile", lambda *_: pytest.fail("opened"))
    assert refusal(str(path)) == "The file has 1024 MB, the limit is 10 MB. Cut it to a sentence."


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path):
    toy = Toy()
    toy.processor.feature_extractor.to_motion = lambda path: pytest.fail("read")
    with zipfile.ZipFile(tmp_path / "clip.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("joints.npy", "valid.npy"):
            with archive.open(name, "w") as file:
                for _ in range(60):
                    file.write(bytes(2**20))
    assert os.path.getsize(tmp_path / "clip.npz") < 2**18
    assert refusal(str(tmp_path / "clip.npz"), toy=toy).startswith("The file unpacks to 120 MB, the limit is 100 MB.")


def test_only_a_minute(clip):
    assert refusal(clip(frames=61 * 20)) == "The clip lasts 61 s, the limit is 60 s. Cut it to a sentence."
    motion, remarks = app.Translator({"toy": Toy()}).read(clip(frames=60 * 20))
    assert motion.num_frames == 1200 and remarks == []


def test_messages_speak_of_the_file_and_of_no_folder(tmp_path, clip):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "no-fps.npz", joints=make_clip(5))
    messages = [refusal(str(tmp_path / name)) for name in ("text.npz", "no-fps.npz", "gone.npz")]
    assert messages[0].startswith("text.npz: not a motion file") and messages[0].endswith("joints=joints, fps=fps)")
    assert messages[1] == "no-fps.npz: no frame rate: add `fps` to the file"
    assert messages[2] == "The file is no longer on the server. Upload it again."
    assert not any(str(tmp_path) in message for message in messages)


def test_no_pickles(tmp_path):
    """By content and by name: the page must not even begin to read one."""
    toy = Toy()
    toy.processor.feature_extractor.to_motion = lambda path: pytest.fail("read")
    (tmp_path / "clip.npz").write_bytes(pickle.dumps({"joints": 1}))
    (tmp_path / "clip.PKL").write_bytes(pickle.dumps({"joints": 1}, protocol=0))
    with zipfile.ZipFile(tmp_path / "clip.npy", "w") as archive:
        archive.writestr("clip/data.pkl", b"")
    np.save(tmp_path / "dict.npy", {"joints": 1})
    for name in ("clip.npz", "clip.PKL", "clip.npy", "dict.npy"):
        assert refusal(str(tmp_path / name), toy=toy).startswith("This page takes no pickles")
    (tmp_path / "clip.gz").write_bytes(gzip.compress(pickle.dumps({"joints": 1})))
    assert refusal(str(tmp_path / "clip.gz"), toy=toy).startswith("This page takes no compressed files")


def test_a_file_is_a_file(tmp_path, clip):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "link.npz").symlink_to(clip())
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("folder.npz", "link.npz", "pipe.npz"):
        assert refusal(str(tmp_path / name)) == "This is not a file. Upload one motion file."


def test_a_file_that_is_read_too_long_keeps_nobody_waiting(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(app, "READERS", confined.Confined(2, seconds=0.5))
    app.READERS(len, ())
    slow = tmp_path / "slow.npz"
    slow.write_text("#!/bin/sh\nexec sleep 60")
    slow.chmod(0o700)
    toy = Toy()
    toy.processor.feature_extractor.to_motion = os.system
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(refusal, str(slow), toy=toy)
        for _ in range(5):
            assert app.Translator({"toy": Toy()}).read(clip())[0].num_frames == 40
        assert busy.result() == "reading takes more than 0.5 s, the limit; cut it into utterances"


def test_a_guessed_frame_rate_is_said(tmp_path):
    arrays = signer(640, 480)
    np.save(tmp_path / "landmarks.npy", np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1))
    _, remarks = app.Translator({"toy": Toy()}).read(str(tmp_path / "landmarks.npy"))
    assert "no frame rate in the file: taken as 15 fps, as usual for webcam landmarks" in remarks


def test_instructions():
    assert app.check_prompt("  What is\nsigned in <motion>? ") == "What is signed in <motion>?"
    assert app.check_prompt("\ud800<motion>") == "?<motion>"  # half a character, which no tokenizer takes
    for prompt, said in (("", "must contain <motion>"), ("<motion> <motion>", "once"), ("a" * 301, "limit is 300")):
        with pytest.raises(ValueError, match=said):
            app.check_prompt(prompt)


# --- the files of the Space -------------------------------------------------------------------------------------------


def test_a_space_needs_no_package_of_ours(tmp_path):
    imported = set()
    for name in ("app.py", "camera.py", "confined.py", "display.py", "service.py"):
        for node in ast.walk(ast.parse((SPACE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "camera").partition(".")[0])  # from . import camera
    assert imported - sys.stdlib_module_names == {
        *("camera", "confined", "display", "gradio", "numpy", "service", "starlette", "transformers"),
        "lslm",  # where it is: the camera needs it
    }
    # what is uploaded: the files alone, links followed
    shutil.copytree(SPACE, tmp_path / "space")
    program = "import app, sys; app.part('skeleton.js'); assert 'lslm' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "space", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_files_ask_the_network_for_nothing():
    for path in SPACE.iterdir():
        if path.suffix in (".py", ".css", ".html", ".js"):
            source = path.read_text(encoding="utf-8").replace("https://cdn.jsdelivr.net", "")  # where npm is missing
            asks = ("://", "@import", "url(", "XMLHttp") + ("fetch(",) * (path.name != "camera.js")
            assert not any(word in source for word in asks), path
    assert not app.theme()._stylesheets and not app.theme()._font_css


def test_css_and_html_survive_gradios_template_engine():
    # both are evaluated as a Handlebars template inside a JavaScript template string
    for name in ("page.css", "display.css", "introduction.html", "player.html", "camera.html"):
        assert not any(mark in (SPACE / name).read_text(encoding="utf-8") for mark in ("`", "${", "{{", "\\")), name


def test_what_the_space_declares():
    text = (SPACE / "README.md").read_text(encoding="utf-8")
    front = dict(line.split(": ", 1) for line in text.split("---")[1].strip().splitlines() if ": " in line)
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py" and len(front["short_description"]) <= 60
    assert {front["colorFrom"], front["colorTo"]} <= set("red yellow green blue indigo purple pink gray".split())
    assert front["sdk_version"].split(".")[0] == gr.__version__.split(".")[0]


def test_without_a_model_the_space_says_what_to_set(monkeypatch):
    monkeypatch.delenv("LSLM_MODEL", raising=False)
    with pytest.raises(SystemExit, match="LSLM_MODEL is not set"):
        app.main()


def test_examples_come_with_their_english():
    examples = app.find_examples(SPACE.parent.parent / "examples" / "asl_cafe")
    assert len(examples) == 6 and all(path.suffix == ".npz" and text for path, text in examples.items())
    assert app.find_examples(SPACE) == {}


# --- the endpoint -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of the page with two toy checkpoints and two examples."""
    folder = tmp_path_factory.mktemp("examples")
    examples = {}
    for number, english in enumerate(("Some tea, please.", None)):
        examples[folder / f"{number}.npz"] = english
        np.savez(folder / f"{number}.npz", joints=make_clip(40 + 20 * number, number), fps=20.0)
    other = Toy(("No", " tea", ".", ""), (0.99, 0.9, 1.0, 1.0), parts=6)
    _, url, _ = app.serve({"first": Toy(), "second <b>": other}, examples, quiet=True)
    yield url
    gr.close_all()


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def test_the_endpoint_answers_in_json(client, clip):
    answer = client.predict(handle_file(clip()), api_name="/translate")
    assert json.loads(json.dumps(answer)) == answer
    assert answer["text"] == "Some tea." and answer["file"] == "clip.npz" and answer["remarks"] == []
    first, second = answer["translations"]
    assert first["words"][0] == {"word": "Some", "probability": 0.9, "confidence": None} and second["text"] == "No tea."
    assert first["motion_codes"][1] == [7, 8, 9] and first["seconds_per_code"] == 0.2
    more = client.predict(handle_file(clip()), "Sign <motion>!", ["second <b>"], api_name="/translate")
    assert more["text"] == "No tea." and len(more["translations"]) == 1


def test_the_endpoint_says_what_is_wrong(client, clip, tmp_path):
    (tmp_path / "bad.npz").write_text("hello")
    with pytest.raises(AppError, match=r"bad\.npz: not a motion file"):
        client.predict(handle_file(tmp_path / "bad.npz"), api_name="/translate")
    with pytest.raises(AppError, match="must contain &lt;motion&gt; once"):
        client.predict(handle_file(clip()), "Hello", api_name="/translate")
    with pytest.raises(AppError, match="Choose one checkpoint"):
        client.predict(handle_file(clip()), "Sign <motion>!", [], api_name="/translate")
    with pytest.raises(AppError, match="Send a file"):
        client.predict(None, api_name="/translate")


def test_a_page_of_somebody_else_gets_nothing(server):
    assert httpx.get(server, headers={"host": "rebound.example:7860"}).status_code == 400
    for host in ("localhost:7860", "127.0.0.1"):
        answer = httpx.get(server, headers={"host": host})
        assert answer.status_code == 200 and answer.headers["content-security-policy"] == "frame-ancestors 'none'"


def test_an_upload_that_stalls_ends(server, monkeypatch):
    monkeypatch.setattr(app, "UPLOADING", 0.5)
    host, port = server.split("/")[2].split(":")
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    body = '--b\r\nContent-Disposition: form-data; name="files"; filename="half.npz"\r\n\r\nhalf'
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    before = {path for path in folder.rglob("*") if path.is_file()}
    reported: list[logging.LogRecord] = []
    handler, answer = logging.Handler(logging.ERROR), b""
    handler.emit = reported.append
    logging.getLogger("uvicorn.error").addHandler(handler)
    for stalls in (False, True):
        with socket.create_connection((host, int(port)), timeout=10) as stalled:
            stalled.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n{body}".encode())
            while stalls and (part := stalled.recv(1000)):
                answer += part
    logging.getLogger("uvicorn.error").removeHandler(handler)
    assert answer.startswith(b"HTTP/1.1 408") and not reported  # no tracebacks for what visitors do
    left = {path for path in folder.rglob("*") if path.is_file()} - before
    app.sweep(str(folder), 3600)
    assert left and all(path.exists() for path in left | before)
    app.sweep(str(folder), 0)
    assert not any(path.exists() for path in left)


def test_one_visitor_does_not_fill_the_queue(server, clip, monkeypatch):
    uploaded = {"path": send(server, "own.npz", Path(clip()).read_bytes()).json()[0]}
    uploaded["meta"] = {"_type": "gradio.FileData"}
    hold = threading.Event()
    monkeypatch.setattr(app, "check_prompt", lambda prompt: hold.wait(20) and prompt)

    def ask(session: str) -> int:
        number = next(
            n
            for n, fn in enumerate(httpx.get(f"{server}config").json()["dependencies"])
            if fn["api_name"] == "translate"
        )
        body = {"data": [uploaded, "Sign <motion>!", ["first"]], "fn_index": number, "session_hash": session}
        return httpx.post(f"{server}gradio_api/queue/join", json=body).status_code

    try:
        assert [ask("greedy") for _ in range(5)] == [200] * 3 + [503] * 2
        assert [ask(f"{n}") for n in range(5)] == [200] * 3 + [503] * 2
    finally:
        hold.set()
    for _ in range(100):  # until theirs are done
        if ask("patient") == 200:
            return
        time.sleep(0.05)
    pytest.fail("still refused")


def send(server: str, name: str, content: bytes) -> httpx.Response:
    """Upload as a browser does; the answer holds the paths on the server."""
    return httpx.post(f"{server}gradio_api/upload", files={"files": (name, content)}, timeout=20)


def call(server: str, *arguments) -> str:
    """The endpoint's last event, without the client library, which would upload what it is to refuse."""
    url = f"{server}gradio_api/call/translate"
    event = httpx.post(url, json={"data": arguments}, timeout=20).json()["event_id"]
    return httpx.get(f"{url}/{event}", timeout=20).text


def test_no_other_file_and_no_address_is_read(server, clip):
    own = Path(clip("own.npz"))  # on this machine, but not uploaded

    def file(path):
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}}

    uploaded = send(server, "own.npz", own.read_bytes()).json()[0]
    assert "event: complete" in call(server, file(uploaded), "Sign <motion>!", ["first"])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/clip.npz"
        for path in (own, f"{uploaded}/../../../{own}", "/etc/passwd", address):
            assert "event: error" in call(server, file(path), "Sign <motion>!", ["first"]), path
            assert "event: error" in call(server, file(uploaded), file(path), ["first"]), path  # where no file belongs
            assert "event: error" in call(server, str(path), "Sign <motion>!", ["first"]), path
        assert "addresses are not fetched" in call(server, file(address), "Sign <motion>!", ["first"])
        with pytest.raises(TimeoutError):
            listener.accept()


def test_names_of_files_are_only_names(client, clip, tmp_path):
    name = "..<img src=x onerror=alert(1)>;$(id).npz"
    shutil.copy(clip(), tmp_path / name)
    answer = client.predict(handle_file(tmp_path / name), api_name="/translate")
    assert answer["text"] == "Some tea." and not set("<>/$") & set(answer["file"])


def test_a_file_that_is_too_large_is_not_taken(server):
    assert len(send(server, "small.npz", bytes(2**20)).json()) == 1
    assert send(server, "large.npz", bytes(app.MAX_BYTES + 1)).status_code == 413


def test_a_real_checkpoint_answers(checkpoint, clip):
    pipes = app.load([checkpoint], max_new_tokens=8)
    result = app.Translator(pipes).translate(checkpoint, clip(), "What is signed in <motion>?")
    json.dumps(result)
    assert result["text"] and " ".join(word["word"] for word in result["words"]).split() == result["text"].split()
    assert 0 < result["probability"] <= min(word["probability"] for word in result["words"]) <= 1
    assert len(result["motion_codes"]) == -(-39 // 4) and all(len(codes) == 1 for codes in result["motion_codes"])
    assert result["seconds_per_code"] == 0.2


# --- lslm demo --------------------------------------------------------------------------------------------------------


def test_what_visitors_sent_goes_with_the_page(checkpoint, tmp_path):
    port = free_port()
    command = [Path(sys.executable).with_name("lslm"), "demo", "--model", checkpoint, "--port", str(port)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout.readline() == f"Loading {checkpoint} ...\n"
        said = process.stdout.readline()
        assert said == f"The demo is at http://127.0.0.1:{port}/  (Ctrl+C stops it)\n", process.stderr.read()
        page = httpx.get(f"http://127.0.0.1:{port}/").text
        assert "LSLM: sign language motion to text" in page
        sent = Path(send(f"http://127.0.0.1:{port}/", "clip.npz", b"half").json()[0])
        assert sent.is_file() and sent.is_relative_to(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0 and not list(tmp_path.glob("lslm-demo-*"))
    finally:
        process.kill()


def test_what_a_killed_page_left_goes_when_the_next_one_opens(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    open_page = Path(app.folder_for_uploads.__wrapped__(), "clip.npz")
    for path in (open_page, tmp_path / "lslm-demo-killed" / "clip.npz", tmp_path / "another" / "clip.npz"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "lslm-demo-link").symlink_to(tmp_path / "another")
    app.folder_for_uploads.__wrapped__()
    assert {path.parent for path in tmp_path.rglob("clip.npz")} == {open_page.parent, tmp_path / "another"}


def test_the_command_says_what_is_wrong(capsys, checkpoint, tmp_path, monkeypatch):
    assert lslm_cli.main(["demo", "--model", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("lslm: ")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert lslm_cli.main(["demo", "--model", checkpoint, "--port", str(port)]) == 2
    assert f"lslm: port {port} is taken; name another with --port\n" == capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "lslm.hub_cards.space.app")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert lslm_cli.main(["demo", "--model", checkpoint]) == 2
    assert "gradio is not installed; run: pip install 'lslm[space]'" in capsys.readouterr().err


# --- in a browser -----------------------------------------------------------------------------------------------------


def test_the_page_in_a_browser(server, browser, clip, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(15000)
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))

    def frame() -> int:
        return int(page.get_by_role("slider", name="Time").input_value())

    def accessible():
        violations = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        bad = [violation for violation in violations if violation["impact"] in ("serious", "critical")]
        return [(violation["id"], [node["html"][:120] for node in violation["nodes"]]) for violation in bad]

    page.goto(server)
    page.get_by_text("Signed was: Some tea, please.").first.wait_for()  # the first example, on its own

    name = "<b>my clip<b>.npz"
    shutil.copy(clip(frames=50), tmp_path / name)
    page.get_by_test_id("file-upload").set_input_files(tmp_path / name)
    page.locator("figcaption.name", has_text="my clip").wait_for()
    page.locator(".sentence", has_text="Some tea.").wait_for()
    page.locator(".sentence", has_text="No tea.").wait_for()
    assert page.get_by_text("Signed was").count() == 0 and page.get_by_role("radio", checked=True).count() == 0
    assert page.locator("canvas.strip").count() == 2
    assert page.locator(".labels").first.inner_text().split("\n") == ["body", "left hand", "right hand"]

    before = frame()
    page.wait_for_timeout(400)
    assert frame() != before  # it plays
    page.get_by_role("button", name="Pause").click()
    before = frame()
    page.wait_for_timeout(200)
    assert frame() == before  # and stops
    page.get_by_role("slider", name="Time").focus()
    page.keyboard.press("Home")
    picture = page.locator("canvas.body").evaluate("canvas => canvas.toDataURL()")
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('.time').textContent.startsWith('2.5 of 2.5 s')")
    assert frame() == 49
    drawn = [picture, page.locator("canvas.body").evaluate("canvas => canvas.toDataURL()")]
    for key in ("ArrowRight", "+"):
        page.locator("canvas.body").press(key)
        page.wait_for_timeout(100)
        drawn.append(page.locator("canvas.body").evaluate("canvas => canvas.toDataURL()"))
    assert len(set(drawn)) == 4  # another frame, turned, zoomed
    assert accessible() == []

    # one checkpoint, another instruction
    page.get_by_role("checkbox", name="second <b>").uncheck()
    page.locator(".sentence", has_text="No tea.").wait_for(state="detached")
    page.get_by_label("Instruction").fill("Nothing to stand for the clip")
    page.get_by_role("button", name="Translate", exact=True).click()
    page.locator(".error", has_text="must contain <motion> once").wait_for()
    page.get_by_label("Instruction").fill("What is signed in <motion>?")
    page.get_by_role("button", name="Translate", exact=True).click()
    page.locator(".sentence", has_text="Some tea.").wait_for()

    # a bad file, then an example again
    (tmp_path / "bad.npz").write_text("hello")
    page.get_by_label("Remove").or_(page.get_by_label("Clear")).first.click()
    page.get_by_test_id("file-upload").set_input_files(tmp_path / "bad.npz")
    page.locator(".error", has_text="bad.npz: not a motion file").wait_for()
    assert page.get_by_role("slider", name="Time").is_disabled()
    page.get_by_role("radio", name="Example 2").check()
    page.locator(".sentence", has_text="Some tea.").wait_for()
    page.locator("figcaption.name", has_text="Example 2").wait_for()

    # a phone, in the dark
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.locator(".sentence", has_text="Some tea.").wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 391)"
    assert page.evaluate(f"{wide}.map(element => element.outerHTML.slice(0, 99))") == []  # nor is anything cut off
    labels = "[...document.querySelectorAll('.labels')].map(labels => labels.scrollWidth - labels.clientWidth)"
    assert page.evaluate(labels) == [0, 0]  # beside the strips, not over them
    assert accessible() == []
    assert complaints == []
    assert {re.match(r"\w+:(//[^/]*)?", url)[0] for url in asked} <= {server.rstrip("/"), "data:", "blob:"}
    context.close()
