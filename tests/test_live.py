"""Signing as it comes: where utterances begin and end, that they are read as their files, what a stream may cost."""

import datetime
import logging

import numpy as np
import pytest
import torch
from motion_corpus import cafe, landmarks
from test_shipped import CHECKPOINT
from transformers import pipeline

import lslm
from lslm.processing import live
from lslm.processing.motion_features import LEFT_HAND, RIGHT_HAND
from lslm.training.dataset.takes import joined

SIZE = (1280, 720)


@pytest.fixture(scope="module")
def pipe():
    return pipeline("sign-translation", model=str(CHECKPOINT))


class Saying:
    """In place of a pipeline where it is counted, not read: says what it is told to, in turn."""

    def __init__(self, *texts):
        self.texts, self.seconds = list(texts), []

    def __call__(self, clip, **_):
        self.seconds.append(clip["motion"].duration)
        return [{"translation_text": self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]}]


def resting(frame: np.ndarray, frames: int) -> np.ndarray:
    """(T, 52, 3): the person of a frame with hanging arms."""
    still = frame.copy()
    for shoulder, elbow, wrist, hand in ((16, 18, 20, LEFT_HAND), (17, 19, 21, RIGHT_HAND)):
        place = still[shoulder] - (0, 0.52, 0)
        still[hand] += place - still[wrist]
        still[elbow], still[wrist] = still[shoulder] - (0, 0.27, 0), place
    return np.repeat(still[None], frames, axis=0)


def session(*numbers: int) -> tuple[np.ndarray, float]:
    """Joints (T, 52, 3) of somebody who signs these clips of ASL Cafe, and rests before, between and after."""
    clips = [cafe(number) for number in numbers]
    pieces = [resting(clips[0].joints[0], 15)]
    for clip in clips:
        pieces += [clip.joints, resting(clip.joints[-1], 15)]
    return joined(pieces, clips[0].fps), clips[0].fps


def stream(values, fps: float):
    return [(10 + index / fps, value) for index, value in enumerate(values)]


def parts(found: dict, index: int) -> dict:
    return {name: found[name][index] for name in ("pose", "left_hand", "right_hand")}


# --- a whole utterance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["joints", "landmarks"])
def test_an_utterance_is_read_as_its_file(pipe, tmp_path, kind):
    numbers = (0, 1) if kind == "joints" else (0,)
    joints, fps = session(*numbers)
    if kind == "joints":
        frames, size = stream(joints, fps), None
    else:
        found = landmarks(cafe(0)._replace(joints=joints))
        frames, size = stream([parts(found, index) for index in range(len(joints))], fps), SIZE
    every = 60.0 if kind == "joints" else 3.0
    captions = list(lslm.translate_stream(frames, pipe, image_size=size, every=every))
    whole = [caption for caption in captions if caption.final]
    assert len(whole) == len(numbers) and (len(captions) > len(whole)) == (kind == "landmarks")
    for caption, number in zip(whole, numbers, strict=True):
        np.savez(tmp_path / f"{number}.npz", **caption.clip)
        expected = pipe(str(tmp_path / f"{number}.npz"))[0]
        assert caption.text == caption.settled == expected["translation_text"] and caption.reason is None
        told, read = live.motion_of(caption.clip, live.Given()), lslm.load_motion(tmp_path / f"{number}.npz")
        features = [pipe.processor.feature_extractor.to_features(motion) for motion in (told, read)]
        np.testing.assert_array_equal(*features)  # and so the codes are the same
        # what rises, signs and sinks, and no rest
        assert 0 <= caption.end - caption.start - len(cafe(number).joints) / fps < 3.0
    assert whole[0].end <= whole[-1].start or len(whole) == 1
    for caption in captions:
        assert caption.final or caption.text.startswith(caption.settled)
        assert caption.final == (caption.clip is not None)


def test_what_stays_the_same_is_settled():
    joints, fps = session(0)
    saying = Saying("Hello", "Hello can I", "Hello, can I get tea", "Hello, can I get a tea", "Hello, can I.")
    captions = list(lslm.translate_stream(stream(joints, fps), saying))
    assert [caption.settled for caption in captions[:4]] == ["", "Hello", "", "Hello, can I get"]
    assert captions[-1].final and captions[-1].settled == captions[-1].text == "Hello, can I."


# --- where it begins and ends -----------------------------------------------------------------------------------------


def test_rest_nobody_and_a_passing_hand_say_nothing():
    joints, fps = session(0)
    still, raised = joints[:1].repeat(300, 0), joints[len(joints) // 2]
    passing = still.copy()
    passing[100:103] = raised
    saying = Saying("Tea.")
    for values in (still, passing, [None] * 300):
        assert not list(lslm.translate_stream(stream(values, fps), saying))
    assert not saying.seconds


def test_a_wrist_that_is_only_guessed_is_not_raised():
    """A portrait: MediaPipe says where wrists would be that no picture shows."""
    found = landmarks(cafe(0))
    for visibility, hands, signs in ((0.2, False, False), (0.2, True, True), (0.9, False, True)):
        frames = [parts(found, index) for index in range(len(found["pose"]))]
        for frame in frames:
            frame["pose"] = frame["pose"].copy()
            frame["pose"][[15, 16], 3] = visibility
            if not hands:
                frame |= dict.fromkeys(("left_hand", "right_hand"))
        assert bool(list(lslm.translate_stream(stream(frames, 20.0), Saying("hello"), image_size=SIZE))) == signs


def test_who_leaves_the_picture_or_the_stream_ends_it():
    joints, fps = session(0)
    middle = len(joints) // 2
    left = [*joints[:middle], *[None] * 30]
    for values in (left, joints[:middle]):
        (caption,) = (
            caption for caption in lslm.translate_stream(stream(values, fps), Saying("Tea.")) if caption.final
        )
        assert caption.text == "Tea." and caption.end == pytest.approx(10 + middle / fps, abs=1.5 / fps)


def test_ten_minutes_that_never_rest_cost_the_same_each_minute():
    joints, fps = cafe(0).joints, cafe(0).fps
    saying = Saying("Tea.")
    translator = lslm.LiveTranslator(saying, every=2.5)
    held, done, captions = 0, [], []
    for second, frame in stream(np.resize(joints, (round(600 * fps), 52, 3)), fps):
        captions += [translator.push(second, frame) or ()]
        held = max(held, len(translator.frames) + len(translator.waiting))
        done.append(len(saying.seconds))
    assert held <= (live.LONGEST + live.BEFORE) * fps + 2 and max(saying.seconds) <= live.LONGEST + 1
    minutes = np.diff(done[:: round(60 * fps)])
    assert minutes.max() <= 1.1 * minutes.min()
    assert sum(caption.final for caption in captions if caption) >= 600 // (live.LONGEST + 1)


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [23.976, 25.0, 29.97, 59.94])
def test_frames_that_come_late_or_never_are_put_where_they_belong(fps):
    rng = np.random.default_rng(0)
    way = rng.normal(0, 0.1, (52, 3))
    exact = np.arange(60) / fps
    late = np.delete(exact + rng.uniform(0, 0.2 / fps, 60), [20, 21, 40])
    clip = live.as_clip([(second, 1 + second * way) for second in late], None)
    assert float(clip["fps"]) == pytest.approx(fps, rel=0.01)
    times = np.linspace(late[0], late[-1], len(clip["joints"]))
    assert len(times) == 60
    np.testing.assert_allclose(clip["joints"], 1 + times[:, None, None] * way, atol=1e-5)
    even = live.as_clip([(second, 1 + second * way) for second in exact], None)
    np.testing.assert_allclose(even["joints"], np.float32(1 + exact[:, None, None] * way), atol=1e-6)


def test_a_hand_that_is_lost_is_on_no_way_to_zero():
    found = landmarks(cafe(0))
    frames = [(index / 15 + (0.01 if index % 2 else 0), parts(found, index)) for index in range(20)]
    for _, frame in frames[8:12]:
        frame["right_hand"] = None
    clip = live.as_clip(frames, SIZE)
    there = clip["right_hand"].any((1, 2))
    assert 3 <= (~there).sum() <= 5 and np.abs(clip["right_hand"][there] - found["right_hand"].mean(0)).max() < 0.5
    assert clip["pose"].shape == (20, 33, 4) and tuple(clip["image_size"]) == SIZE


def test_a_lull_without_frames_ends_an_utterance_and_costs_nothing():
    """A source that sleeps, or gives frames only while it finds somebody."""
    joints, fps = session(0)
    middle = len(joints) // 2
    frames = stream(joints, fps)
    for lull in (3.0, 6 * 3600.0):
        late = frames[:middle] + [(second + lull, frame) for second, frame in frames[middle:]]
        first, last = (caption for caption in lslm.translate_stream(late, Saying("Tea.")) if caption.final)
        assert first.end == frames[middle - 1][0] and last.start == frames[middle][0] + lull
        assert len(first.clip["joints"]) + len(last.clip["joints"]) <= len(joints)


def test_frames_that_come_in_bursts_are_no_more_than_came():
    way = np.ones((52, 3))
    clip = live.as_clip([(0.5 * (index // 10) + 1e-4 * (index % 10), index * way) for index in range(200)], None)
    assert len(clip["joints"]) <= 5 * 200 and float(clip["fps"]) < 200


def test_a_buffer_that_is_used_again_is_copied():
    joints, fps = session(0)

    def camera(values, buffer):
        for (second, _), value in zip(stream(joints, fps), values, strict=True):
            for name in buffer:
                buffer[name][:] = value[name]
            yield second, buffer if "pose" in buffer else buffer["joints"]

    found = landmarks(cafe(0)._replace(joints=joints))
    poses = [parts(found, index) for index in range(len(joints))]
    for values in ([{"joints": frame} for frame in joints], poses):
        buffer = {name: np.empty(np.shape(value)) for name, value in values[0].items()}
        size, (name, *_) = SIZE if "pose" in buffer else None, buffer
        (clip,) = (
            caption.clip
            for caption in lslm.translate_stream(camera(values, buffer), Saying("Tea."), image_size=size)
            if caption.final
        )
        assert np.ptp(clip[name], axis=0).max() > 0.1


@pytest.mark.parametrize("joint", [20, 21])
def test_a_wrist_without_a_number_is_as_if_it_rested(joint):
    joints, fps = session(0)
    hanging = joints.copy()
    hanging[:, joint] = resting(joints[0], 1)[0, joint]
    spans = []
    for value in (hanging[:, joint], np.nan):
        joints[:, joint] = value
        captions = lslm.translate_stream(stream(joints, fps), Saying("Tea."))
        spans.append([(caption.start, caption.end) for caption in captions if caption.final])
    assert spans[0] == spans[1] and spans[0]


def test_the_text_is_there_when_the_rest_has_lasted():
    """It is translated when the rest begins, once; hands that rise again before it has lasted go on."""
    joints, fps = session(0, 1)
    frames = stream(joints, fps)
    told = Saying("Tea.")
    captions, counts = [], []
    live_translator = lslm.LiveTranslator(told, every=60.0)
    for second, frame in frames:
        if caption := live_translator.push(second, frame):
            captions.append((second, caption))
        counts.append(len(told.seconds))
    assert [round(caption.end, 2) for _, caption in captions] == [
        round(caption.end, 2) for caption in lslm.translate_stream(frames, Saying("Tea."), every=60.0)
    ]
    for second, caption in captions:
        came = frames.index(next(frame for frame in frames if frame[0] == second))
        assert counts[came] == counts[came - 1]  # nothing is translated at that moment
        assert second - caption.end < live.REST + 2 / fps
    short = [frame for frame in frames if not captions[0][1].end + 0.14 < frame[0] < captions[1][1].start]
    again = Saying("Tea.")
    whole, *_ = lslm.translate_stream(renumbered(short, fps), again, every=60.0)  # 20 s, and what is left
    assert whole.end - whole.start > captions[0][1].end - captions[0][1].start
    assert len(again.seconds) >= 2  # as if it were over, and again when it was


def renumbered(frames, fps):
    return [(10 + index / fps, frame) for index, (_, frame) in enumerate(frames)]


# --- what is no stream ------------------------------------------------------------------------------------------------


def test_what_is_no_frame_is_refused():
    frame = cafe(0).joints[0]
    translator = lslm.LiveTranslator(Saying("Tea."))
    translator.push(1.0, frame)
    with pytest.raises(ValueError, match="0.5 s after one at 1 s: frames come in their order"):
        translator.push(0.5, frame)
    with pytest.raises(ValueError, match=r"shape \(33, 3\), expected joints \(52, 3\), or a dict of landmarks"):
        translator.push(2.0, frame[:33])
    with pytest.raises(ValueError, match="give its image_size"):
        translator.push(3.0, {"pose": np.zeros((33, 4))})
    with pytest.raises(ValueError, match=r"`left_hand` of a frame has shape \(20, 3\), expected \(21, 3\)"):
        translator.push(4.0, {"pose": np.zeros((33, 4)), "left_hand": np.zeros((20, 3))})


def test_an_utterance_that_cannot_be_read_says_why():
    joints, fps = session(0)
    found = landmarks(cafe(0)._replace(joints=joints))
    found["pose"][..., 2] = 0  # no depth
    frames = stream([parts(found, index) for index in range(len(joints))], fps)
    (caption,) = lslm.translate_stream(frames, Saying("Tea."), image_size=SIZE)
    assert caption.final and caption.text == "" and "the nose is not in front of the ears" in caption.reason


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), "1.5", None, True, datetime.datetime(2026, 1, 1)])
def test_what_is_no_time_is_refused_and_forgotten(seconds):
    frame = cafe(0).joints[0]
    translator = lslm.LiveTranslator(Saying("Tea."))
    with pytest.raises(ValueError, match="a frame at .*, expected seconds, as a finite number"):
        translator.push(seconds, frame)
    translator.push(1767225600.25, frame)
    with pytest.raises(ValueError, match=r"a frame at 1767225600\.125 s after one at 1767225600\.25 s"):
        translator.push(1767225600.125, frame)


def test_frames_of_another_kind_are_refused():
    joints, found = cafe(0).joints, landmarks(cafe(0))
    for first, then in ((joints[0], parts(found, 1)), (parts(found, 0), joints[1])):
        translator = lslm.LiveTranslator(Saying("Tea."), image_size=SIZE)
        translator.push(0.0, first)
        translator.push(0.1, None)
        with pytest.raises(ValueError, match="a frame of (joints|landmarks) after (joints|landmarks); a stream is of"):
            translator.push(0.2, then)
        translator.push(0.3, first)
    with pytest.raises(ValueError, match="a frame holds joints, expected pose, left_hand and right_hand"):
        translator.push(0.4, {"joints": joints[0]})
    with pytest.raises(ValueError, match="dtype bool, expected real numbers"):
        lslm.LiveTranslator(Saying("Tea.")).push(0.0, joints[0] > 0)
    lslm.LiveTranslator(Saying("Tea.")).push(0.0, torch.tensor(joints[0]))


@pytest.mark.parametrize("size", [1280, (1280,), (1280, 720, 3), (0, 0), ("a", "b"), "1280x720", (np.nan, 720)])
def test_what_is_no_size_of_a_picture_is_refused(size):
    with pytest.raises(ValueError, match="`image_size` is .*, expected width and height in pixels"):
        lslm.LiveTranslator(Saying("Tea."), image_size=size)


@pytest.mark.parametrize("every", [0, -1.0, np.nan, "0.5", None])
def test_what_is_no_interval_is_refused(every):
    with pytest.raises(ValueError, match="`every` is .*, expected seconds, more than 0"):
        lslm.LiveTranslator(Saying("Tea."), every=every)


def test_what_looks_wrong_is_logged_once(caplog, monkeypatch):
    """Nobody sees the notes of a clip that is no file."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    found = landmarks(cafe(0))
    frames = stream([parts(found, index) for index in range(len(found["pose"]))], 15.0)
    list(lslm.translate_stream(frames, Saying("Tea."), image_size=SIZE[::-1]))
    said = [record.message for record in caplog.records if "makes no human face" in record.message]
    assert len(said) == 1 and "image_size=(1280, 720)" in said[0]


def test_of_several_answers_the_first_is_shown():
    class Twice(Saying):
        def __call__(self, clip, **told):
            return super().__call__(clip) * told["num_return_sequences"]

    joints, fps = session(0)
    captions = lslm.translate_stream(stream(joints, fps), Twice("Tea."), num_return_sequences=2)
    assert {caption.text for caption in captions} == {"Tea."}
