"""The camera of the demo page: what comes of its frames, what may be kept, and the page in a browser whose MediaPipe
says what a recorded signer did. The real one is tried by benchmarks/camera.py."""

import base64
import io
import json
import re
import sys
import threading

import numpy as np
import pytest
from motion_corpus import cafe, landmarks
from test_live import SIZE, parts, session, stream

pytest.importorskip("gradio", reason="the demo page needs gradio: pip install 'lslm[space]'")
import gradio as gr
import httpx
from test_space import Toy

import lslm
from lslm.hub_cards.space import app, camera, service
from lslm.training.dataset.takes import take_files

HEADERS = {"Content-Type": service.TYPE}
QUERY = {"width": SIZE[0], "height": SIZE[1]}


class Reader(Toy):
    """Says something of what comes from a camera, too."""

    def __call__(self, motion, details=False, prompt=None, batch_size=None):
        motion = motion["motion"] if isinstance(motion, dict) else motion
        return super().__call__(motion, details, prompt, batch_size)


@pytest.fixture(scope="module")
def frames():
    """[(seconds, landmarks)] of somebody who signs an utterance and rests."""
    joints, fps = session(0)
    found = landmarks(cafe(0)._replace(joints=joints))
    return stream([parts(found, index) for index in range(len(joints))], fps)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def server(kept):
    _, url, _ = app.serve({"toy": Reader()}, {}, kept, quiet=True)
    yield url.rstrip("/")
    gr.close_all()


def packed(frames) -> bytes:
    rows = []
    for seconds, frame in frames:
        values = [np.zeros(shape) if frame is None else frame[name] for name, shape in camera.PARTS.items()]
        rows.append(np.concatenate([[seconds], *map(np.ravel, values)]))
    return np.array(rows).tobytes()


def send(server, name, content, **query) -> httpx.Response:
    return httpx.post(f"{server}/camera/{name}", params=QUERY | query, content=content, headers=HEADERS)


def sent(server, name, frames, at_once=20) -> list[dict]:
    """The captions of frames that are sent so many at a time."""
    captions = []
    for first in range(0, len(frames), at_once):
        end = {"end": 1} if first + at_once >= len(frames) else {}
        answer = send(server, name, packed(frames[first : first + at_once]), **end)
        assert answer.status_code == 200, answer.text
        captions += answer.json()["captions"]
    return captions


def test_the_captions_are_those_of_the_stream(server, frames):
    expected = [caption for caption in lslm.translate_stream(frames, Reader(), image_size=SIZE) if caption.final]
    found = [caption for caption in sent(server, "one", frames) if caption["final"]]
    assert len(found) == len(expected) == 1
    for name in ("text", "settled", "start", "end", "reason"):
        assert found[0][name] == getattr(expected[0], name)
    clip = np.load(io.BytesIO(base64.b64decode(found[0]["clip"])))
    assert set(clip.files) == set(expected[0].clip)
    for name, values in expected[0].clip.items():
        np.testing.assert_array_equal(clip[name], values)


def test_where_nobody_is_there_is_nothing(server):
    assert sent(server, "nobody", [(index / 20, None) for index in range(60)]) == []


def test_what_is_wrong_is_said_and_ends_the_session(server, frames, monkeypatch):
    one = packed(frames[:1])
    nothing = np.frombuffer(one) * np.nan
    for content, query, said in (
        (one[:-8], {}, "frames of 259 float64 numbers each"),
        (nothing.tobytes(), {}, "numbers that are none"),
        (one, {"width": "wide"}, "could not convert"),
        (one, {"width": "nan"}, "width and height"),
        (one, {"checkpoint": "other"}, "no checkpoint is called 'other'"),
    ):
        answer = send(server, "wrong", content, **query)
        assert answer.status_code == 400 and said in answer.json()["error"]
    answer = send(server, "wrong", one * (camera.MOST_FRAMES + 1))
    assert answer.status_code == 413 and "bytes in one request" in answer.json()["error"]
    assert send(server, "back", packed(frames[5:6])).status_code == 200
    answer = send(server, "back", one)
    assert answer.status_code == 400 and "frames come in their order" in answer.json()["error"]
    assert send(server, "back", one, end=1).status_code == 200  # begun anew
    # another page's form cannot send this type unasked
    answer = httpx.post(f"{server}/camera/x", params=QUERY, content=one, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400 and "expected Content-Type" in answer.json()["error"]
    assert httpx.get(f"{server}/camera/x", headers={"Host": "evil.example"}).status_code == 400


def test_cameras_are_counted_and_those_that_went_are_forgotten(frames, monkeypatch):
    cameras = camera.Cameras({"toy": Reader()})
    for number in range(camera.AT_ONCE):
        cameras.hear(str(number), "toy", SIZE, b"", end=False)
    with pytest.raises(camera.Busy, match="8 cameras are on already"):
        cameras.hear("more", "toy", SIZE, b"", end=False)
    cameras.hear("0", "toy", SIZE, b"", end=True)
    cameras.hear("more", "toy", SIZE, b"", end=False)
    monkeypatch.setattr(camera, "SILENT", -1.0)
    cameras.hear("last", "toy", SIZE, b"", end=False)
    assert set(cameras.cameras) == {"last"}


def test_a_camera_sends_one_request_at_a_time(frames):
    began, ends = threading.Event(), threading.Event()

    class Slow(Reader):
        def __call__(self, motion):
            began.set()
            ends.wait(10)
            return super().__call__(motion)

    cameras = camera.Cameras({"toy": Slow()})
    first = threading.Thread(target=cameras.hear, args=("s", "toy", SIZE, packed(frames), True))
    first.start()
    assert began.wait(10)
    with pytest.raises(ValueError, match="one request at a time"):
        cameras.hear("s", "toy", SIZE, b"", end=False)
    cameras.hear("other", "toy", SIZE, b"", end=True)  # waits for nobody
    ends.set()
    first.join()


def test_what_is_kept_is_an_example_to_train_on(server, frames, kept):
    (caption,) = (caption for caption in sent(server, "keep", frames) if caption["final"])
    clip = base64.b64decode(caption["clip"])

    def keep(text, content=clip):
        return httpx.post(f"{server}/camera", params={"text": text}, content=content, headers=HEADERS)

    paths = [keep(text).json()["kept"] for text in ("Thank-you", "No,  a tea é", "No,  a tea é", "B")]
    assert take_files(str(kept / "takes")).keys() == {"thank-you", "b"}
    texts = [json.loads(line) for line in (kept / "sentences" / "texts.jsonl").read_text().splitlines()]
    assert [text["text"] for text in texts] == ["No, a tea é"] * 2
    assert {text["id"] for text in texts} == {path.stem for path in (kept / "sentences").glob("*.npz")}
    assert lslm.load_motion(kept / paths[0]).duration > 2
    for text, content, said in (
        (" ", clip, "1 to 300 characters"),
        ("a\x1b[2J", clip, "1 to 300 characters"),
        ("../../up", b"PK", "no .npz file"),
        ("a", clip[:-200], "no .npz file"),
        ("a", npz(joints=np.zeros((3, 52, 3)), fps=20.0), "no clip of this camera"),
        ("a", npz(pose=np.array({}, object)), "no .npz file"),
    ):
        answer = keep(text, content)
        assert answer.status_code == 400 and said in answer.json()["error"], answer.text
    assert "sentences" in keep("../../up").json()["kept"] and not list(kept.parent.glob("up*"))
    assert sum(1 for path in kept.rglob("*.npz")) == 5


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_mediapipe_comes_from_a_folder_or_else_from_where_it_is_published(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(camera.shutil, "which", lambda name: None)
    answer = httpx.get(f"{server}/holistic/holistic.js")
    assert answer.is_redirect and answer.headers["location"] == f"{camera.CDN}holistic.js"
    folder = tmp_path / "lslm" / f"holistic-{camera.VERSION}"
    folder.mkdir(parents=True)
    (folder / "holistic.js").write_text("1")
    assert httpx.get(f"{server}/holistic/holistic.js").text == "1"
    assert httpx.get(f"{server}/holistic/%2e%2e").status_code == 404


def test_npm_that_fails_leaves_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(camera.shutil, "which", lambda name: sys.executable)  # "python pack ..." fails
    assert camera.holistic_folder() is None and "npm did not bring" in caplog.text
    assert list((tmp_path / "lslm").iterdir()) == []


# In place of the files of MediaPipe, and of what it finds in a picture: the frames of somebody who signs.
STAND_IN = """
const answer = window.fetch;
const empty = async () => new Response("");
window.fetch = (address, options) => (String(address).startsWith("holistic/") ? empty : answer)(address, options);
const frames = FRAMES;
const named = points => points.map(([x, y, z, visibility]) => ({ x, y, z, visibility }));
let at = 0;
window.Holistic = class {
  setOptions() {} onResults(told) { this.told = told; } async initialize() {} reset() {}
  async send() {
    const [pose, left, right] = frames[Math.min(at++, frames.length - 1)];
    this.told({ poseLandmarks: named(pose), leftHandLandmarks: named(left), rightHandLandmarks: named(right) });
  }
};
"""
FAKE = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def test_the_camera_in_a_browser(server, browser, frames, kept, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    with_camera = browser.browser_type.launch(executable_path=browser.program, args=FAKE)
    context = with_camera.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(30000)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request))
    found = [[frame[name].tolist() for name in camera.PARTS] for _, frame in frames]
    page.add_init_script(STAND_IN.replace("FRAMES", json.dumps(found)))

    def accessible():
        violations = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        return [violation["id"] for violation in violations if violation["impact"] in ("serious", "critical")]

    page.goto(server)
    page.get_by_role("button", name="Start the camera").click()
    page.locator(".camera .state", has_text="Signing").wait_for()
    assert accessible() == []
    page.locator(".captions .sentence", has_text="Some tea.").wait_for()
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.locator("canvas.points").evaluate(drawn)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save the clip").click()
    download.value.save_as(tmp_path / "clip.npz")
    assert len(lslm.load_motion(tmp_path / "clip.npz").joints) > 20
    page.get_by_label("Signed was").fill("A tea, please.")
    page.get_by_role("button", name="Keep it for training").click()
    page.get_by_text("Kept: sentences/").wait_for()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and accessible() == []
    page.get_by_role("button", name="Forget it").click()
    assert page.locator(".captions li").count() == 0
    page.keyboard.press("Escape")  # the focus is on the button again
    page.get_by_role("button", name="Start the camera").wait_for()
    assert not page.evaluate("document.querySelector('.camera video').srcObject")  # its light goes out

    # what went over the line: points of whole frames, or the clip that was to be kept
    bodies = [(request.url, request.post_data_buffer) for request in requests if "/camera" in request.url]
    assert len(bodies) > 5
    for url, content in bodies:
        assert "text=" in url or len(content or b"") % (8 * camera.NUMBERS) == 0
    assert {re.match(r"\w+:(//[^/]*)?", request.url)[0] for request in requests} <= {server, "data:", "blob:"}
    assert complaints == []

    # at night, in a browser that may not
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.get_by_role("button", name="Start the camera").click()
    page.locator(".camera .state", has_text="Ready: raise").wait_for()
    assert accessible() == []
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Start the camera").wait_for()
    refuse = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }"
    page.evaluate(f"() => {{ {refuse}; }}")
    page.get_by_role("button", name="Start the camera").click()
    page.locator(".state.error", has_text="not allowed to use the camera").wait_for()
    with_camera.close()
