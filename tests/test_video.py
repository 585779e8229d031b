"""Videos: every frame at its own time, upright and in its proportions; what is no video of a person says so.

PyAV writes and decodes. MediaPipe, which the environment of the tests has not, is stood in for; the last test takes the
real one where it is installed, with the portrait of scikit-image.
"""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import types
from fractions import Fraction

import lslm_cli
import numpy as np
import pytest
from lslm_cli import motion_files
from motion_corpus import cafe, landmarks
from test_data_build import write_clip, write_texts

pytest.importorskip("av")
import av

from lslm import load_motion
from lslm.processing import MotionFileError
from lslm.processing.readers import video
from lslm.training.dataset.build import build as data_build

RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60000, 1001)]
RED, BLUE = (220, 20, 20), (20, 20, 220)
QUARTER = (0, 1, 0, -1, 0, 0, 0, 0, 0x4000)  # a phone held upright: turned clockwise; in parts of 2 ** 16
MIRROR = (-1, 0, 0, 0, 1, 0, 0, 0, 0x4000)


def times_of(rate, frames=24):
    return [index / Fraction(rate) for index in range(frames)]


def picture(size=(64, 48)):
    """Red in the corner above left, blue below it; of 64 x 48."""
    array = np.full((size[1], size[0], 3), 128, np.uint8)
    array[: size[1] // 2, : size[0] // 2], array[size[1] // 2 :, : size[0] // 2] = RED, BLUE
    return array


def write_video(path, times, pictures=None, *, matrix=None, pixels=None, sound=False, options=None):
    """A video whose frames are at `times`, in seconds; matrix: how the player turns it; pixels: width over height."""
    pictures = pictures or [picture()] * len(times)
    step = Fraction(1, 90000)
    with av.open(path, "w", options=options or {}) as file:
        if not sound:
            codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(path.suffix, "libx264")
            stream = file.add_stream(codec, rate=30)
            stream.height, stream.width = (pictures[0] if pictures else picture()).shape[:2]
            stream.pix_fmt = "yuv420p"
            if path.suffix == ".avi":  # has no times, but a rate
                step = Fraction(times[1])
            stream.codec_context.time_base = stream.time_base = step
            if pixels:
                stream.codec_context.sample_aspect_ratio = pixels
            file.start_encoding()
            for seconds, array in zip(times, pictures, strict=True):
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                frame.pts, frame.time_base = round(seconds / step), step
                file.mux(stream.encode(frame))
            file.mux(stream.encode() if times else [])
        else:
            stream = file.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            file.mux([*stream.encode(frame), *stream.encode()])
    if matrix:
        content = bytearray(path.read_bytes())
        start = content.index(b"tkhd") + 44
        content[start : start + 36] = np.array([number << 16 for number in matrix], ">i4").tobytes()
        path.write_bytes(content)
    return path


class Holistic:
    """In place of MediaPipe's: the landmarks of a recorded clip, frame by frame; nobody in a black picture."""

    known = None
    seen = []

    def __init__(self, model_complexity):
        Holistic.known = Holistic.known or landmarks(cafe(0))
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def process(self, picture):
        assert picture.dtype == np.uint8 and picture.flags.c_contiguous
        Holistic.seen.append(picture)
        frame = {name: array[self.count % len(array)] for name, array in self.known.items() if name in video.PARTS}
        self.count += 1
        found = {name: values if values.any() and picture.max() > 50 else None for name, values in frame.items()}
        return types.SimpleNamespace(**{f"{name}_landmarks": as_message(values) for name, values in found.items()})


def as_message(values):
    """(N, 3 or 4) as MediaPipe gives it; None as None."""
    if values is None:
        return None
    fields = ("x", "y", "z", "visibility")
    points = [types.SimpleNamespace(**dict(zip(fields, (*row, 1.0), strict=False))) for row in values]
    return types.SimpleNamespace(landmark=points)


@pytest.fixture
def mediapipe(monkeypatch):
    """The stand-in as the package mediapipe, for this process, which also does what others would."""
    names = ["mediapipe", "mediapipe.python", "mediapipe.python.solutions", "mediapipe.python.solutions.holistic"]
    for name in names:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.Holistic = Holistic
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Holistic, "seen", [])
    here = lambda *_: lambda function, *args, **kwargs: function(*args, **kwargs)  # noqa: E731
    monkeypatch.setattr(video, "Confined", here)
    monkeypatch.setattr(motion_files, "_reader", here)


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.3f}")
def test_every_frame_has_its_own_time(rate, suffix, tmp_path):
    times = times_of(rate)
    path = write_video(tmp_path / f"clip{suffix}", times)
    seconds = [second for second, _ in video.pictures(path)]
    assert (
        len(seconds) == len(times) and np.abs(np.array(seconds) - np.array(times, float)).max() < 0.00051
    )  # Matroska's are of whole ms


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.3f}")
def test_a_constant_rate_keeps_its_frames(rate, tmp_path, mediapipe):
    path = write_video(tmp_path / "clip.mp4", times_of(rate))
    clip = video.landmarks_of_video(path)
    assert len(clip["pose"]) == len(clip["seconds"]) == 24 and float(clip["fps"]) == pytest.approx(
        float(rate), rel=1e-4
    )
    np.testing.assert_allclose(clip["pose"][..., :3], Holistic.known["pose"][:24, :, :3], atol=2e-3)


def test_a_variable_rate_is_brought_on_even_steps_and_its_times_are_kept(tmp_path, mediapipe):
    rng = np.random.default_rng(0)
    times = [Fraction(round(1000 * second), 1000) for second in np.cumsum(rng.uniform(0.025, 0.045, 40))]
    del times[20:23]  # a phone that was busy
    path = write_video(tmp_path / "clip.mp4", times)
    clip = video.landmarks_of_video(path)
    np.testing.assert_allclose(clip["seconds"], np.array(times, float), atol=0.0005)
    even = np.linspace(clip["seconds"][0], clip["seconds"][-1], len(clip["pose"]))
    assert len(even) == pytest.approx(40, abs=2)
    assert float(clip["fps"]) == pytest.approx((len(even) - 1) / (even[-1] - even[0]))
    nose = np.interp(even, clip["seconds"], Holistic.known["pose"][: len(times), 0, 0])
    np.testing.assert_allclose(clip["pose"][:, 0, 0], nose, atol=1e-6)


def test_in_a_long_gap_nothing_was_seen(tmp_path, mediapipe):
    times = [*times_of(25, 20), *(3 + second for second in times_of(25, 20))]
    clip = video.landmarks_of_video(write_video(tmp_path / "clip.mp4", times))
    seen = clip["pose"].any((1, 2))
    assert len(seen) == 95 and seen[:20].all() and not seen[21:74].any() and seen[75:].all()


# --- the picture ------------------------------------------------------------------------------------------------------

# the corner that is red, and the one that is blue: rows and columns from above left
TURNS = {
    "as it is": (None, (0, 0), (-1, 0)),
    "a quarter": (QUARTER, (0, -1), (0, 0)),
    "mirrored": (MIRROR, (0, -1), (-1, -1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_pictures_are_upright(turn, tmp_path):
    matrix, red, blue = TURNS[turn]
    _, shown = next(video.pictures(write_video(tmp_path / "clip.mp4", times_of(25), matrix=matrix)))
    assert shown.shape == ((64, 48, 3) if turn == "a quarter" else (48, 64, 3))
    assert np.abs(shown[red].astype(int) - RED).max() < 40 and np.abs(shown[blue].astype(int) - BLUE).max() < 40


def test_the_size_is_that_of_the_picture_as_it_is_shown(tmp_path, mediapipe):
    path = write_video(tmp_path / "phone.mp4", times_of(30), matrix=QUARTER)
    assert tuple(video.landmarks_of_video(path)["image_size"]) == (48, 64)
    path = write_video(tmp_path / "wide.mp4", times_of(30), pixels=Fraction(2))
    assert tuple(video.landmarks_of_video(path)["image_size"]) == (128, 48)


# --- what cannot be used ----------------------------------------------------------------------------------------------


def broken_videos(folder):
    """name -> (file, what is said of it)"""
    noise = [np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8) for index in range(50)]
    cut, lost, matroska = folder / "cut.mp4", folder / "lost.mp4", folder / "cut.mkv"
    for path in (cut, lost, matroska):
        write_video(path, times_of(25, 50), noise, options={"movflags": "faststart"} if path == cut else None)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    empty, text = folder / "empty.mp4", folder / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("https://example.org/clip.m3u8")
    dark = [np.zeros((48, 64, 3), np.uint8)] * 24
    yield from {
        cut: r"cannot be decoded after \d\.\d s and \d+ frames .*copy or export it again",
        lost: "cannot be decoded at its beginning .*copy or export it again",
        matroska: r"end at \d\.\d s, expected 2\.0 s: truncated",
        empty: "empty|cannot be decoded",
        text: "cannot be decoded at its beginning",
        write_video(folder / "none.mp4", []): "has no frames|holds no pictures|cannot be decoded at its beginning",
        write_video(folder / "one.mp4", [0]): "has 1 frame, expected at least 2",
        write_video(folder / "sound.mp4", [], sound=True): "holds only sound; expected pictures",
        write_video(folder / "dark.mp4", times_of(25), dark): r"finds nobody in the 24 frames .*\(64x48\); record",
        write_video(folder / "long.mp4", [0, 600, 1300]): "has 22 minutes, the limit is 20 .*cut it",
    }.items()


def test_what_cannot_be_used_says_why(tmp_path, mediapipe):
    for path, reason in broken_videos(tmp_path):
        with pytest.raises(MotionFileError) as caught:
            load_motion(path)
        assert re.search(reason, str(caught.value)), path


def test_where_mediapipe_is_missing_it_is_said_what_to_install(tmp_path, monkeypatch):
    """Whatever a video is called: its first bytes tell."""
    mp4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(99)
    starts = {"a.mp4": mp4, "a.npz": mp4, "a.avi": b"RIFF\0\0\0\0AVI LIST", "a": b"\x1aE\xdf\xa3", "a.mpg": b"?"}
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None if name == "mediapipe" else True)
    for version, told in ((12, r"mediapipe.* not installed; run: pip install 'lslm\[video\]'"), (13, "python3.12")):
        monkeypatch.setattr(video.sys, "version_info", (3, version, 1))
        for name, content in starts.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(MotionFileError, match=f"this is a video.*{told}"):
                load_motion(tmp_path / name)


# --- the commands -----------------------------------------------------------------------------------------------------


def test_extract_makes_what_is_missing_and_names_what_failed(tmp_path, mediapipe, capsys):
    source, out = tmp_path / "videos", tmp_path / "out"
    (source / "more").mkdir(parents=True)
    for name in ("a.mp4", "b.mov", "more/a.mkv", "twice.mp4", "twice.mov"):
        write_video(source / name, times_of(25))
    (source / "bad.mp4").write_bytes(b"no video")
    (source / "texts.csv").write_text("id,text\n")
    assert lslm_cli.main(["extract", str(source), str(out)]) == 2
    made = {str(path.relative_to(out)) for path in out.rglob("*")}
    assert made == {"a.npz", "b.npz", "more", "more/a.npz"}
    told = capsys.readouterr()
    failed = [line for line in told.err.splitlines() if line.startswith("lslm: ")]
    assert len(failed) == 3 and "bad.mp4: the video cannot be decoded" in failed[-1]
    assert all("twice.mov and" in line and "rename one" in line for line in failed[:2])
    assert "3 videos; 3 could not be used" in told.out
    motion = load_motion(out / "a.npz")
    assert motion.format == "mediapipe" and motion.num_frames == 24 and motion.fps == pytest.approx(25)
    with np.load(out / "a.npz") as file:
        assert set(file) == {"pose", "left_hand", "right_hand", "fps", "image_size", "seconds", "video"}

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    (source / "b.mov").touch()
    future = (out / "b.npz").stat().st_mtime + 5
    os.utime(source / "b.mov", (future, future))
    assert lslm_cli.main(["extract", str(source), str(out)]) == 2
    changed = [path.name for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert changed == ["b.npz"]
    capsys.readouterr()
    (source / "a.mp4").rename(source / "a.webm")
    assert lslm_cli.main(["extract", str(source / "a.webm"), str(out)]) == 2
    assert "a.npz is there and comes from a.mp4; name another folder" in capsys.readouterr().err


def test_extract_refuses_a_last_argument_that_is_no_folder(tmp_path, mediapipe, capsys):
    paths = [str(write_video(tmp_path / name, times_of(25))) for name in ("a.mp4", "b.mp4")]
    assert lslm_cli.main(["extract", *paths]) == 2
    assert "b.mp4: the last argument is the folder" in capsys.readouterr().err


def test_a_kill_leaves_no_half_a_file(tmp_path, mediapipe, monkeypatch):
    path = write_video(tmp_path / "a.mp4", times_of(25))
    monkeypatch.setattr(video.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    failures = video.extract_all([(path, tmp_path / "out" / "a.npz")], progress=False)
    assert "No space" in str(failures[path]) and not list((tmp_path / "out").iterdir())


def test_several_at_a_time_are_each_done_once(tmp_path, mediapipe):
    videos = [(write_video(tmp_path / f"{n}.mp4", times_of(25)), tmp_path / "out" / f"{n}.npz") for n in range(6)]
    threads = threading.active_count()
    assert not video.extract_all(videos, workers=3, progress=False)
    assert len(Holistic.seen) == 6 * 24 and threading.active_count() <= threads + 3
    assert all(video.is_extracted(*pair) for pair in videos)


def test_inspect_reads_a_video(tmp_path, mediapipe, capsys):
    path = write_video(tmp_path / "clip.mp4", times_of(25))
    assert lslm_cli.main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == "mediapipe" and facts["frames"] == 24


def test_a_data_set_is_built_from_videos(tmp_path, mediapipe):
    """A motion file goes before the video of its name; what was found in a video is not looked for again."""
    source, out = tmp_path / "source", tmp_path / "set"
    source.mkdir()
    for name in ("a.mp4", "b.mov", "both.mp4", "dark.mp4", "lonely.mp4"):
        dark = [np.zeros((48, 64, 3), np.uint8)] * 24
        write_video(source / name, times_of(25), dark if name == "dark.mp4" else None)
    write_clip(source / "both.npz", 0, 24)
    rows = [{"id": "a", "text": "one", "split": "train"}, {"file": "b.mov", "text": "two", "split": "test"}]
    rows += [{"id": name, "text": name, "split": "train"} for name in ("both", "dark")]
    write_texts(source, rows)
    report = data_build.build(source, out, workers=0, progress=False, shared_videos=True)
    assert report["clips"] == 3 and len(Holistic.seen) == 3 * 24
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    reasons = {row["file"]: row["reason"] for row in dropped}
    assert "finds nobody" in reasons.pop("dark.mp4") and reasons == {"lonely.mp4": "no text"}
    write_texts(source, [row | {"text": "another"} for row in rows])
    data_build.build(source, out, workers=0, progress=False, shared_videos=True)
    assert len(Holistic.seen) == 3 * 24


def test_a_data_set_of_videos_alone_needs_mediapipe(tmp_path):
    if importlib.util.find_spec("mediapipe"):
        pytest.skip("mediapipe is installed")
    write_video(tmp_path / "a.mp4", times_of(25))
    write_texts(tmp_path, [{"id": "a", "text": "one", "split": "train"}])
    with pytest.raises(ValueError, match="not installed|is for Python"):
        data_build.build(tmp_path, tmp_path / "set", workers=0, progress=False)


# --- MediaPipe itself -------------------------------------------------------------------------------------------------

SHAPES = {"wide.mp4": (640, 360), "upright.webm": (360, 640), "phone.mov": (360, 640), "anamorphic.mkv": (640, 360)}


def moving_portrait(size, times):
    """Pictures of somebody who moves from left to right and back, and where the portrait's middle is in each."""
    width, height = size
    side = min(size) - 60
    from PIL import Image

    portrait = np.asarray(Image.fromarray(pytest.importorskip("skimage").data.astronaut()).resize((side, side)))
    middles = [width / 2 + 25 * np.sin(4 * float(second)) for second in times]
    for middle in middles:
        array = np.full((height, width, 3), 200, np.uint8)
        left = round(middle - side / 2)
        array[height - side :, left : left + side] = portrait
        yield array, left + side / 2


@pytest.mark.parametrize("name", SHAPES)
def test_mediapipe_finds_a_moving_portrait_at_its_times(name, tmp_path):
    """Twenty videos: four shapes at five rates, one of them variable."""
    pytest.importorskip("mediapipe")
    rng = np.random.default_rng(0)
    variable = [Fraction(round(1000 * second), 1000) for second in np.cumsum(rng.uniform(0.02, 0.05, 24))]
    paths, expected, size = [], {}, SHAPES[name]
    for number, times in enumerate([*map(times_of, RATES), variable]):
        arrays, middles = zip(*moving_portrait(size, times), strict=True)
        if name == "phone.mov":
            arrays = [np.rot90(array) for array in arrays]
        if name == "anamorphic.mkv":
            arrays = [np.ascontiguousarray(array[:, ::2]) for array in arrays]
        path = tmp_path / f"{number}{name}"
        options = {"matrix": QUARTER} if name == "phone.mov" else {"pixels": Fraction(2)} if "ana" in name else {}
        paths.append(write_video(path, times, list(arrays), **options))
        expected[path] = times, middles
    done = subprocess.run(
        [sys.executable, "-m", "lslm_cli", "extract", *map(str, paths), str(tmp_path / "out")], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    for path, (times, middles) in expected.items():
        with np.load(tmp_path / "out" / f"{path.stem}.npz") as file:
            clip = dict(file)
        seconds, pose = clip["seconds"], clip["pose"]
        assert np.abs(seconds - np.array(times, float)).max() < 0.00051 and tuple(clip["image_size"]) == size
        assert times == variable or len(pose) == len(times)
        assert pose.any((1, 2)).all()
        pixels = pose[..., :2] * clip["image_size"]
        even = np.linspace(seconds[0], seconds[-1], len(pose))
        moved = pixels[:, 0, 0] - np.interp(even, seconds, middles)
        assert np.ptp(moved) < 12, "the nose goes where the portrait goes"
        shoulders = pixels[:, [11, 12]]
        across = np.median(np.linalg.norm(shoulders[:, 0] - shoulders[:, 1], axis=-1))
        down = np.median(shoulders[..., 1].mean(1) - pixels[:, 0, 1])
        assert across / down == pytest.approx(1.65, rel=0.1), "upright, and neither wide nor narrow"
        load_motion(tmp_path / "out" / f"{path.stem}.npz")
