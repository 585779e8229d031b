"""`lslm data build`: what is in the data set, what is reported, and the same bytes whatever happened on the way."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lslm_cli
import numpy as np
import pytest

pytest.importorskip("datasets")
import datasets
import motion_writers
import psutil
import pyarrow.parquet as pq
import test_mocap_formats as mocap
from card_lint import lint_card
from conftest import make_clip
from datasets import Array3D, Features, Value

from lslm.hub_cards.publish import publish_data
from lslm.processing import Remark, SignMotionFeatureExtractor, load_motion
from lslm.processing.feature_extraction_lslm import resample
from lslm.processing.readers.confined import Confined
from lslm.training.dataset.build import build as data_build
from lslm.training.dataset.build import report as data_report
from lslm.training.dataset.build import shards as data_shards
from lslm.training.dataset.build.build import build
from lslm.training.dataset.build.duplicates import shared_motion, sketch
from lslm.training.dataset.motion_text import MotionText, feature_statistics, load_split, read_joints
from lslm.training.dataset.streaming import StreamedMotionText, streamed_statistics

TAKES = 26
ALL_VALID = 2**52 - 1


def write_clip(path, seed, frames=12, fps=24.0, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    joints = arrays.pop("joints", None)
    np.savez(path, joints=make_clip(frames, seed).astype(np.float32) if joints is None else joints, fps=fps, **arrays)


def write_texts(folder, rows):
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def row_of(number, **more):
    split = ["train", "train", "validation", "test"][number % 4]
    return {"id": f"clip-{number:03d}", "text": f"sentence {number}", "split": split, "take": number} | more


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """26 good clips in two folders, and their texts."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(TAKES):
        write_clip(folder / f"p{number % 2}" / f"clip-{number:03d}.npz", number, 8 + number % 5)
    write_texts(folder, [row_of(number, signer=f"s{number % 3}") for number in range(TAKES)])
    return folder


@pytest.fixture
def copy(source, tmp_path):
    """A source that a test may change; modification times are those of the original."""
    shutil.copytree(source, tmp_path / "source")
    return tmp_path / "source"


def digest(out):
    """The bytes of the data set: everything but the notes for the next build."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and ".build" not in path.parts)
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make(source, out, **options):
    return build(source, out, **{"workers": 0, "shard_size": 5, "fps": 20.0} | options)


def rows_of(out, split):
    return load_split(str(out), split).with_format("numpy")


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "set"
    return out, make(source, out)


@pytest.fixture
def make_again(monkeypatch):
    """`make`, and the ids of the clips that were read from their files."""
    ids, read = [], data_shards.read_clip

    def listed(clip, recipe):
        ids.append(clip["id"])
        return read(clip, recipe)

    def again(source, out, **options):
        ids.clear()
        return make(source, out, **options), sorted(ids)

    monkeypatch.setattr(data_shards, "read_clip", listed)
    return again


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_rows(built, source):
    out, report = built
    rows = rows_of(out, "train")
    assert rows["id"] == [f"clip-{n:03d}" for n in range(TAKES) if n % 4 < 2]
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        *("test-00000.parquet", "test-00001.parquet", "train-00000.parquet", "train-00001.parquet"),
        *("train-00002.parquet", "validation-00000.parquet", "validation-00001.parquet"),
    ]
    for row in rows:
        number = int(row["take"])
        motion = load_motion(source / row["source"])
        expected = resample(motion.joints.astype(np.float64), 24.0, 20.0)
        assert row["joints_mm"].shape == expected.shape
        assert np.abs(read_joints(row) - expected).max() <= 0.0005 + 1e-9
        assert (row["text"], row["signer"]) == (f"sentence {number}", f"s{number % 3}")
        assert (row["fps"], row["num_frames"], row["source_frames"]) == (20.0, len(expected), 8 + number % 5)
        assert row["source"] == f"p{number % 2}/clip-{number:03d}.npz"
        assert row["valid"].tolist() == [ALL_VALID] * len(expected)
    assert (report["found"], report["clips"], report["dropped"]) == (TAKES, TAKES, 0)


def test_datasets_reads_it_with_types(built, tmp_path):
    rows = datasets.load_dataset(str(built[0]), split="test", cache_dir=str(tmp_path))
    assert {name: rows.features[name] for name in ("id", "fps", "num_frames", "take", "valid")} == {
        "id": Value("string"),
        "fps": Value("float32"),
        "num_frames": Value("int32"),
        "take": Value("int64"),
        "valid": datasets.List(Value("int64")),
    }
    assert rows.features["joints_mm"] == Array3D((None, 52, 3), "int16")


def test_statistics_are_those_of_training(built):
    extractor = SignMotionFeatureExtractor(fps=20.0)
    mean, std = feature_statistics(MotionText(str(built[0]), "train", 20.0).joints, extractor)
    found = json.loads((built[0] / "statistics.json").read_text())
    np.testing.assert_allclose(found["mean"], mean, atol=1e-5)
    np.testing.assert_array_less(np.array(found["std"]), std + 1e-5)  # training gives the deviation a floor
    moving = np.array(found["std"]) > 0.2
    np.testing.assert_allclose(np.array(found["std"])[moving], std[moving], rtol=1e-3)
    streamed = streamed_statistics(StreamedMotionText(str(built[0]), "train", 20.0), str(built[0]), extractor)
    np.testing.assert_allclose(streamed[1], std, rtol=0.02, atol=1e-5)
    assert (found["split"], found["fps"], found["convention"], len(found["mean"])) == ("train", 20.0, "humanml3d", 623)


def test_joints_that_were_not_observed(tmp_path):
    joints = make_clip(9, 0).astype(np.float32)
    joints[3, 40] = np.nan
    valid = np.ones((9, 52), bool)
    valid[5:, 22:37] = False
    write_clip(tmp_path / "s" / "a.npz", 0, joints=joints, valid=valid, fps=20.0)
    write_texts(tmp_path / "s", [{"id": "a", "text": "x", "split": "train"}])
    make(tmp_path / "s", tmp_path / "same")
    report = make(tmp_path / "s", tmp_path / "half", fps=40.0)
    bits = 1 << np.arange(52)
    (row,) = rows_of(tmp_path / "same", "train")
    known = valid & ~np.isnan(joints).any(-1)
    np.testing.assert_array_equal((row["valid"][:, None] & bits) != 0, known)
    np.testing.assert_array_equal(row["joints_mm"][known], np.round(joints[known] * 1000))
    hand = row["joints_mm"][3, 37:52] / 1000  # what was missing lies where a hand can be
    assert np.linalg.norm(hand[3] - hand, axis=-1).max() < 0.2
    (row,) = rows_of(tmp_path / "half", "train")
    seen = (row["valid"][:, None] & bits) != 0
    np.testing.assert_array_equal(seen[::2], known)
    np.testing.assert_array_equal(seen[1::2], known[:-1] & known[1:])
    assert report["splits"]["train"]["observed"] == {
        part: int(seen[:, joints].sum()) for part, joints in data_report.PARTS.items()
    }


def test_each_clip_keeps_its_rate_without_fps(copy, tmp_path):
    write_clip(copy / "p0" / "clip-000.npz", 0, frames=9, fps=12.5)
    write_texts(copy, [row_of(0), row_of(1, fps=30), row_of(4)])
    report = make(copy, tmp_path / "out", fps=None)
    rows = rows_of(tmp_path / "out", "train")
    assert [(row["fps"], row["num_frames"]) for row in rows] == [(12.5, 9), (30.0, 9), (24.0, 12)]
    assert report["splits"]["train"]["source_fps"] == {"12.5": 1, "24": 1, "30": 1}
    assert json.loads((tmp_path / "out" / "statistics.json").read_text())["fps"] == 20.0


def test_columns_of_choice(source, tmp_path):
    make(source, tmp_path / "a", columns=["take", "joints_mm", "fps", "text"])
    rows = load_split(str(tmp_path / "a"), "test")
    assert rows.column_names == ["take", "joints_mm", "fps", "text"]
    types = Features({"text": Value("string"), "fps": Value("float64"), "take": Value("int8")})
    make(source, tmp_path / "b", columns=Features({**types, "joints_mm": Array3D((None, 52, 3), "int16")}))
    assert load_split(str(tmp_path / "b"), "test").features["take"] == Value("int8")


def test_rows_come_in_groups_or_in_one_page(source, tmp_path, monkeypatch):
    monkeypatch.setattr(data_shards, "ROW_GROUP", 2)
    files = []
    for level in (3, 20):
        make(source, tmp_path / f"{level}", shard_size=100, compression_level=level)
        files.append(pq.ParquetFile(tmp_path / f"{level}" / "data" / "train-00000.parquet"))
    assert [file.num_row_groups for file in files] == [7, 1] and files[0].read().equals(files[1].read())


def test_the_card_is_one_that_the_hub_takes(built, source, tmp_path, capsys):
    bare = (built[0] / "README.md").read_text()
    assert "license:" not in bare and "| `take` | `int64` | from the table of texts |" in bare
    make(source, tmp_path / "set", license="cc-by-4.0", language="de")
    card = (tmp_path / "set" / "README.md").read_text()
    assert not lint_card(card, "dataset") and "language:\n- de\n" in card and "ASL" not in card
    assert "| `joints_mm` | `int16 (T, 52, 3)` | joints in millimetres |" in card
    publish_data(str(tmp_path / "set"), "me/set", dry_run=True)
    assert "data/train-00002.parquet" in capsys.readouterr().out
    (tmp_path / "set" / "README.md").write_text("my own words")
    make(source, tmp_path / "set")
    assert (tmp_path / "set" / "README.md").read_text() == "my own words"


def test_a_row_with_times_cuts_the_recording(tmp_path, make_again, monkeypatch):
    source = tmp_path / "s"
    write_clip(source / "rec.npz", 3, frames=240)  # 10 s
    write_clip(source / "own.npz", 4, frames=60)
    parts = {"a": (0, 2.5), "b": (2.5, 5), "c": (9, 10.4), "d": (11, 12), "e": (3, 3.02), "f": (0, 240)}
    rows = [{"id": id, "file": "rec.npz", "text": id, "start": s, "end": e} for id, (s, e) in parts.items()]
    rows.append({"id": "g", "file": "own.npz", "text": "cut already", "start": 70.0, "end": 72.5})
    write_texts(source, [row | {"split": "train"} for row in rows])
    loads, load = [], load_motion

    def counted(path, **keywords):
        loads.append(path.name)
        return load(path, **keywords)

    monkeypatch.setattr(data_shards, "load_motion", counted)
    report, _ = make_again(source, tmp_path / "out", fps=None)
    assert loads == ["rec.npz", "own.npz"]  # once for all parts
    whole = np.round(load_motion(source / "rec.npz").joints.astype(np.float64) * 1000)
    built = {row["id"]: row["joints_mm"] for row in rows_of(tmp_path / "out", "train")}
    assert {id: len(joints) for id, joints in built.items()} == {"a": 60, "b": 60, "c": 24, "g": 60}
    for id, first in (("a", 0), ("b", 60), ("c", 216)):
        np.testing.assert_array_equal(built[id], whole[first : first + len(built[id])])
    dropped = map(json.loads, (tmp_path / "out" / "dropped.jsonl").read_text().splitlines())
    reasons = {fault["id"]: fault["reason"] for fault in dropped}
    assert "11 to 12 s, the file has 240 frames, 10.0 s" in reasons["d"] and "less than 2 frames" in reasons["e"]
    assert "if its times are frames, call them start_frame and end_frame" in reasons["f"] and len(reasons) == 3
    notes = report["splits"]["train"]["notes"]
    assert notes["the file is as long as the part that its text names: taken as a whole"] == 1 and len(notes) == 2
    rows[1] |= {"start": 3.0}
    write_texts(source, [row | {"split": "train"} for row in rows])
    assert make_again(source, tmp_path / "out", fps=None)[1] == ["b"]
    assert {len(row["joints_mm"]) for row in rows_of(tmp_path / "out", "train") if row["id"] == "b"} == {48}


def test_parts_in_frames(tmp_path):
    source = tmp_path / "s"
    write_clip(source / "v.npz", 0, frames=30)
    write_texts(source, [row_of(0, video="v", start_frame=10, end_frame=25)])
    make(source, tmp_path / "out", fps=None)
    (row,) = rows_of(tmp_path / "out", "train")
    np.testing.assert_array_equal(row["joints_mm"], np.round(1000 * make_clip(30)[10:25].astype(np.float64)))
    assert (row["num_frames"], row["source"], len(row["valid"])) == (15, "v.npz", 15)


def test_signs_of_a_file_that_holds_many(tmp_path, make_again):
    source = tmp_path / "s"
    source.mkdir()
    writer, nodes, written, expected = mocap.animations("HELLO", "-NO", None)
    (source / "signs.glb").write_bytes(writer.glb(nodes, animations=written))
    write_clip(source / "one.npz", 0)
    rows = [
        {"file": "signs.glb", "clip": name, "text": name, "split": "train"} for name in ("HELLO", "-NO", "2", "BYE")
    ]
    rows.append({"file": "one.npz", "clip": "3", "text": "third of a video", "split": "train"})
    write_texts(source, rows)
    make(source, tmp_path / "out", fps=30.0)
    built = {row["id"]: row for row in rows_of(tmp_path / "out", "train")}
    assert built.keys() == {"signs_HELLO", "signs_-NO", "signs_2"} and built["signs_-NO"]["clip"] == "-NO"
    for name, joints in zip(("HELLO", "-NO", "2"), expected, strict=True):
        assert np.abs(read_joints(built[f"signs_{name}"]) - joints).max() < 0.001
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert reasons == [
        "one clip in the file, and its text has a column clip, which says '3'; leave that empty, or rename the column "
        "if it means something else",
        "3 animations in the file, none of them 'BYE': HELLO, -NO, 2; pass --clip HELLO, or say it in a column clip",
    ]
    write_texts(source, [rows[1], rows[2]])
    assert make_again(source, tmp_path / "out", fps=30.0)[1] == []


def test_clips_that_nothing_can_be_learnt_from_are_left_out_or_said(tmp_path):
    source, params = tmp_path / "s", motion_writers.a_motion(frames=30)
    for name, frames in (("short", 4), ("code", 5), ("window", 65), ("long", 600), ("-x", 20), ("hours", 2500)):
        write_clip(source / f"{name}.npz", frames, frames, fps=20.0)
    np.savez(source / "rate.npz", joints=make_clip(9).astype(np.float32))
    motion_writers.signavatars(source / "cut.pkl", params, np.zeros(90))
    names = ("short", "code", "window", "long", "-x", "hours", "rate", "cut")
    write_texts(source, [{"id": name, "text": "x", "split": "train"} for name in names])
    report = make(source, tmp_path / "out")
    dropped = map(json.loads, (tmp_path / "out" / "dropped.jsonl").read_text().splitlines())
    assert {fault["id"]: fault["reason"] for fault in dropped} == {
        "short": "it has 4 frames at 20 fps, fewer than the 5 frames that a code is made of",
        "hours": "it lasts 125.0 s, more than the 120 s of --max-seconds; cut it into utterances",
        "rate": "no frame rate: add `fps` to the file; pass --source-fps, or say it in a column fps",
    }
    train = report["splits"]["train"]
    assert train["reasons"]["no frame rate (--source-fps)"] == 1 and train["below_window"] == 3
    rate = "no frame rate in the file: taken as 24 fps, as usual for SignAvatars `smplx` (--source-fps)"
    assert train["notes"][rate] == 1 and sum(count for note, count in train["notes"].items() if "legs" in note) == 1
    assert [count for remark, count in report["remarks"].items() if "clips of 30 s and more" in remark] == [1]
    observed = json.loads((tmp_path / "out" / "statistics.json").read_text())["observed"]
    assert observed["upper_body"] == 1 and 0.95 < observed["legs"] < 1
    assert "3 clips shorter than a training window" in (tmp_path / "out" / "report.md").read_text()
    assert make(source, tmp_path / "out", max_seconds=3.0)["clips"] == 3
    assert MotionText(str(tmp_path / "out"), "train", 20.0).rows["id"][0] == "-x"


# --- bad clips --------------------------------------------------------------------------------------------------------


def test_bad_clips_are_named_and_the_rest_is_intact(built, copy, tmp_path):
    damage = {
        0: lambda path: path.write_bytes(path.read_bytes()[:3000]),
        1: lambda path: write_clip(path, 0, joints=np.full((9, 52, 3), np.nan, np.float32)),
        4: lambda path: write_clip(path, 0, frames=1),
        5: lambda path: write_clip(path, 0, joints=make_clip(9, 0) + (40, 0, 0)),
        8: lambda path: path.write_bytes(b""),
        9: lambda path: write_clip(path, 0, joints=np.zeros((9, 22, 3))),
    }
    for number, harm in damage.items():
        harm(copy / f"p{number % 2}" / f"clip-{number:03d}.npz")
    (copy / "p0" / "clip-012.npz").unlink()
    write_clip(copy / "p1" / "stranger.npz", 0)
    write_texts(copy, [row_of(n, signer=f"s{n % 3}", **({"text": " "} if n == 13 else {})) for n in range(TAKES)])
    report = make(copy, tmp_path / "out")
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [fault["id"] for fault in dropped] == [*(f"clip-{n:03d}" for n in (0, 1, 4, 5, 8, 9, 13, 12)), None]
    words = ["damaged", "all NaN", "1 frame", "32 m", "empty", "expected (frames, 52, 3)"]
    words += ["text is empty", "no motion file", "no text"]
    assert all(word in fault["reason"] for word, fault in zip(words, dropped, strict=True))
    assert str(tmp_path) not in (tmp_path / "out" / "dropped.jsonl").read_text()
    assert (report["found"], report["clips"], report["dropped"]) == (TAKES + 1, TAKES - 8, 9)
    kept = rows_of(tmp_path / "out", "train")
    whole = {row["id"]: row for row in rows_of(built[0], "train")}
    assert len(kept) == 6
    for row in kept:
        assert all(np.array_equal(row[name], whole[row["id"]][name]) for name in kept.column_names)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "18 clips, 9 dropped, 27 found." in text and "no motion file" in text


def test_texts_with_line_ends_of_other_kinds(copy, tmp_path):
    ends = "one\u2028two\u2029three\x85four\x0cfive\nsix"
    write_texts(copy, [row_of(0, text=ends), row_of(1), row_of(2, text=ends), {"id": f"no {ends}", "text": "x"}])
    make(copy, tmp_path / "out")
    assert rows_of(tmp_path / "out", "train")["text"][0] == rows_of(tmp_path / "out", "validation")["text"][0] == ends
    lines = (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["id"] == f"no {ends}" and len(lines) == 1 + TAKES - 3


def test_a_reader_that_fails_in_an_unknown_way(source, tmp_path, monkeypatch):
    def fails(path, **kwargs):
        if path.stem == "clip-004":
            raise RecursionError("too deep")
        remark = Remark(f"the hands are taken for relative in {path.name}", kind="the hands are taken for relative")
        return dataclasses.replace(load_motion(path, **kwargs), notes=(remark,))

    monkeypatch.setattr(data_shards, "load_motion", fails)
    report = make(source, tmp_path / "out")
    assert report["splits"]["train"]["reasons"] == {"RecursionError: too deep": 1}
    assert report["splits"]["test"]["notes"] == {"the hands are taken for relative": 6}


def test_a_file_takes_no_more_than_the_limits(source, tmp_path, monkeypatch, make_again):
    monkeypatch.setattr(data_shards, "_confined", Confined(1, seconds=1.0))
    monkeypatch.setattr(data_shards, "load_motion", motion_writers.hostile_reader)
    make(source, tmp_path / "out")
    lines = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    assert {row["id"]: row["reason"] for row in map(json.loads, lines)} == {
        "clip-001": "reading takes more than 1 s, the limit; cut it into utterances",
        "clip-002": "reading takes more than 1792 MB of memory, the limit; cut it into utterances",
        "clip-005": "reading ended the process that read; export the file again",
    }
    monkeypatch.setattr(data_shards, "load_motion", load_motion)  # time and a lost process may be the machine's doing
    report, ids = make_again(source, tmp_path / "out")
    assert ids == ["clip-001", "clip-005"] and report["dropped"] == 1


def test_names_of_files_write_no_markdown(copy, tmp_path):
    names = ["````\n# Heading.npz", "``` <b>\x1b[31m.npz", "| a | b |.npz"]
    for name in names:
        shutil.copy(copy / "p0" / "clip-000.npz", copy / name)
    rows = [row_of(n, **{"# a | `b`\x1b": n}) for n in range(TAKES)]
    write_texts(copy, [*rows, {"id": "``` `\x1b[31m", "text": "x"}])
    make(copy, tmp_path / "out")
    reports = [(tmp_path / "out" / name).read_text() for name in ("report.md", "README.md", "dropped.jsonl")]
    assert all(line.isprintable() for report in reports for line in report.split("\n"))
    assert not any(re.search("^# (Heading|a)", report, re.MULTILINE) for report in reports)
    assert "| `# a \\| 'b'\\x1b` | `int64` | from the table of texts |" in reports[1]
    assert {json.loads(line)["file"] for line in reports[2].splitlines()} >= set(names)


def test_a_fence_is_longer_than_any_within():
    lines = data_report._bars([("``````", 2), ("a\nb", 1)])
    assert lines[0] == "```````text" and lines[-1] == "```````" and "\n" not in "".join(lines)


def test_a_split_without_a_usable_clip_has_no_file(copy, tmp_path):
    out = tmp_path / "out"
    make(copy, out)
    for number in range(3, TAKES, 4):
        (copy / f"p{number % 2}" / f"clip-{number:03d}.npz").write_bytes(b"nothing")
    report = make(copy, out)
    assert not list((out / "data").glob("test*")) and report["splits"]["test"]["dropped"] == 6
    assert "test" not in (out / "README.md").read_text().split("| split |")[1].split("##")[0]
    assert_as_new(copy, out)


@pytest.mark.parametrize(
    "rows, message",
    [
        (None, "no table of texts in it"),
        ([{"id": "other", "text": "x"}], "a text is for 'other', a file is called .*; other: no motion file"),
        ([{"id": "a", "words": "x"}], "expected id, name or file, and text"),
        ([row_of(0, num_frames=3)], "'num_frames', which the build fills"),
    ],
)
def test_texts_that_do_not_fit(copy, tmp_path, rows, message):
    (copy / "texts.jsonl").unlink()
    if rows:
        write_texts(copy, rows)
    with pytest.raises(ValueError, match=message) as error:
        make(copy, tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shard_size": 0}, "expected 1 or more"),
        ({"compression_level": 23}, "1 to 22"),
        ({"convention": "mine"}, "no convention 'mine'"),
        ({"reader": {"colour": 1}}, "does not know colour"),
        ({"reader": {"fps": 0}}, "source_fps is 0, expected frames per second: 1 to 1000"),
        ({"reader": {"up": "w"}}, "up is 'w', expected one of y, -y"),
        ({"reader": {"format": "mine"}}, "format is 'mine', expected one of lslm"),
        ({"fps": -20.0}, "fps is -20, expected frames per second"),
        ({"max_seconds": 0}, "max_seconds is 0, expected more than 0 and at most 120"),
        ({"max_seconds": 121.0}, "max_seconds is 121, .*no model takes a longer clip"),
        ({"split_by": "colour"}, "no way to split by 'colour'"),
        ({"columns": ["text", "fps", "joints_mm", "colour"]}, "no column 'colour'"),
        ({"columns": ["text"]}, "needs the columns"),
    ],
)
def test_options_that_make_no_sense(source, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(source, tmp_path / "out", **options)


def test_folders_that_cannot_be(source, tmp_path):
    with pytest.raises(ValueError, match="cannot go into the folder of its source"):
        make(source, source)
    with pytest.raises(OSError, match="expected a folder"):
        make(source / "none", tmp_path / "out")


# --- again, and after interruptions -----------------------------------------------------------------------------------


def as_out(path):
    """The card names the folder: bytes are compared between folders of one name."""
    return {name: value for name, value in digest(path).items() if name != "README.md"}


def assert_as_new(source, out, **options):
    """`out` has the bytes of a build that begins with nothing."""
    shutil.rmtree(out.parent / "new", ignore_errors=True)
    make(source, out.parent / "new", **options)
    assert as_out(out) == as_out(out.parent / "new")


def test_only_what_changed_is_read_again(copy, tmp_path, make_again):
    def again(**options):
        _, ids = make_again(copy, tmp_path / "set", **options)
        assert_as_new(copy, tmp_path / "set", **options)
        return [id.removeprefix("clip-") for id in ids]

    assert len(again()) == TAKES and again() == []
    os.utime(copy / "p0" / "clip-008.npz", ns=(1, 1))  # touched: read, and the same
    assert again() == ["008"]
    write_clip(copy / "p1" / "clip-009.npz", 99)
    (copy / "p0" / "clip-010.npz").unlink()  # everything behind it moves up by one
    assert again() == ["009"]
    write_clip(copy / "p0" / "clip-000a.npz", 5)
    rows = [row_of(n, signer="s", text=f"other {n}") for n in range(TAKES)]  # new texts
    rows[4]["split"] = "test"  # and an old clip in another split
    write_texts(copy, [*rows, {"id": "clip-000a", "text": "new", "split": "train"}])
    assert again() == ["000a"]
    for options in ({"shard_size": 3}, {"compression_level": 1}, {"columns": ["text", "fps", "joints_mm", "valid"]}):
        assert again(**options) == []
    assert len(again(fps=15.0)) == TAKES


def test_dropped_clips_are_not_read_again_until_they_change(copy, tmp_path, make_again, monkeypatch):
    path, out = copy / "p0" / "clip-004.npz", tmp_path / "set"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    write_texts(copy, [row_of(n, text="" if n == 5 else "x") for n in range(TAKES)])
    assert make(copy, out)["dropped"] == 2
    write_clip(copy / "p0" / "clip-000.npz", 77)
    assert make_again(copy, out)[1] == ["clip-000"]
    path.write_bytes(whole)
    write_texts(copy, [row_of(n, text="x") for n in range(TAKES)])
    report, ids = make_again(copy, out)
    assert report["dropped"] == 0 and ids == ["clip-004", "clip-005"]

    def offline(path, **kwargs):
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(data_shards, "load_motion", offline)
        assert make(copy, out, fps=16.0)["splits"]["train"]["reasons"] == {"Input/output error": 14}
    report, ids = make_again(copy, out, fps=16.0)
    assert report["dropped"] == 0 and len(ids) == TAKES  # the disk was away, not the clips


def test_old_rows_that_are_damaged_are_read_from_the_source(copy, tmp_path, make_again):
    out = tmp_path / "set"
    make(copy, out)
    file = out / "data" / "train-00001.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:200] + bytes(len(content) - 208) + content[-8:])
    os.utime(copy / "p0" / "clip-012.npz", ns=(1, 1))
    make(copy, out)
    assert_as_new(copy, out)
    file.unlink()
    assert len(make_again(copy, out)[1]) == 5
    assert_as_new(copy, out)


def test_a_shard_that_was_changed_to_the_same_size_is_made_again(copy, tmp_path, make_again):
    out = tmp_path / "set"
    make(copy, out)
    file = out / "data" / "train-00001.parquet"
    whole, stat = file.read_bytes(), file.stat()
    table = pq.read_table(file)
    pq.write_table(table.slice(0, 1), tmp_path / "other")  # readable, and other rows
    for content in (whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], (tmp_path / "other").read_bytes()[: len(whole)]):
        file.write_bytes(content.ljust(len(whole), b"\0"))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert len(make_again(copy, out)[1]) == 5  # none of its rows is taken for good
        assert file.read_bytes() == whole
    write_texts(copy, [row_of(n) for n in range(TAKES)])  # nor into new shards
    file.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    assert len(make_again(copy, out)[1]) == 5
    assert_as_new(copy, out)


def test_a_second_build_is_refused_while_one_is_at_work(source, tmp_path):
    out = tmp_path / "set"
    refused = f"another build writes to .* .process {os.getpid()} on .*; wait for its end, or name another folder"
    with data_build.locked(out / ".build" / "lock", out, "build"):
        with pytest.raises(OSError, match=refused):
            make(source, out)
    assert make(source, out)["clips"] == TAKES


def test_shards_that_no_longer_belong_are_removed(copy, tmp_path):
    out = tmp_path / "set"
    make(copy, out)
    write_texts(copy, [row_of(n, signer="s") for n in range(6)])
    make(copy, out)
    assert_as_new(copy, out)
    assert len(list((out / "data").iterdir())) == 3 and len(list((out / ".build" / "records").iterdir())) == 3


def test_an_end_that_is_cut_short_at_any_point(copy, tmp_path, monkeypatch, make_again):
    """Every move and every removal in `finish` is once the last thing that happens."""
    out, ready = tmp_path / "set", tmp_path / "ready"
    write_texts(copy, [row_of(n) for n in range(16)])
    make(copy, ready, shard_size=3)
    (copy / "p0" / "clip-004.npz").write_bytes(b"nothing")
    write_clip(copy / "p0" / "clip-000a.npz", 5)
    rows = [row_of(n, signer="s") for n in range(11)]
    write_texts(copy, [*rows, {"id": "clip-000a", "text": "new", "split": "train"}])
    make(copy, tmp_path / "new", shard_size=3)
    expected = as_out(tmp_path / "new")
    data_build.plan(copy, ready, shard_size=3, fps=20.0)
    data_build.build_shards(ready, 0)
    for cut in itertools.count():
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(ready, out)
        left = [cut]

        def counted(operation, left=left):
            def run(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return operation(*args, **kwargs)

            return run

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", counted(os.replace))
            patch.setattr(Path, "unlink", counted(Path.unlink))
            try:
                data_build.finish(out)
                break
            except KeyboardInterrupt:
                pass
        assert not make_again(copy, out, shard_size=3)[1] and as_out(out) == expected, cut
    assert cut > 15 and as_out(out) == expected


def test_a_shard_that_is_cut_short(source, tmp_path, monkeypatch, built):
    out, seen = tmp_path / "set", []

    def stops(clip, recipe):
        seen.append(clip["id"])
        if len(seen) == 9:
            raise KeyboardInterrupt
        return read(clip, recipe)

    read = data_shards.read_clip
    with monkeypatch.context() as patch:
        patch.setattr(data_shards, "read_clip", stops)
        with pytest.raises(KeyboardInterrupt):
            make(source, out)
    assert not (out / "report.json").exists() and not list((out / "data").iterdir())
    with pytest.raises(ValueError, match="6 of 7 shards are not done"):
        data_build.finish(out)
    monkeypatch.setattr(data_shards, "read_clip", stops)
    make(source, out)
    assert len(seen) == 9 + TAKES - 5  # the first shard was finished
    assert digest(out) == digest(built[0])


def test_killed_half_way_with_processes(tmp_path):
    """A real SIGKILL of the real command; its processes end too. The same bytes as without, and as in one process."""
    source, out = tmp_path / "source", tmp_path / "set"
    for number in range(100):
        write_clip(source / f"clip-{number:03d}.npz", number % 7, 60)
    write_texts(source, [row_of(number) for number in range(100)])
    command = [sys.executable, "-m", "lslm_cli", "data", "build", source, out, "--shard-size", 5, "--fps", 20]
    process = subprocess.Popen([*map(str, command), "--workers", "2"], stderr=subprocess.DEVNULL)
    staged = out / ".build" / "staged"
    while not list(staged.glob("*.json")) and process.poll() is None:
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not list((out / "data").iterdir())
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert len(gone) >= 2 and not alive
    assert 0 < len(list(staged.glob("*.json"))) < 20
    make(source, out, shared_videos=True)  # seven motions under a hundred names
    make(source, tmp_path / "other" / "set", shared_videos=True)
    assert digest(out) == digest(tmp_path / "other" / "set") and len(rows_of(out, "train")) == 50


AGAIN = {
    "as it is": lambda joints: joints,
    "at another frame rate": lambda joints: resample(joints, 20, 25),
    "with noise of 3 mm": lambda joints: joints + np.random.default_rng(0).normal(0, 0.003, joints.shape),
    "somewhere else": lambda joints: joints + [3.0, 0.0, -1.0],
}


@pytest.mark.parametrize("how", AGAIN)
def test_the_same_motion_in_two_splits_is_an_error(built, copy, tmp_path, make_again, how):
    """Also under another name and split, and at the end of a build: what is read is kept for the next one."""
    out = tmp_path / "set"
    shutil.copytree(built[0], out)
    joints = make_clip(41, 3).astype(np.float64)  # at 25 frames a second it ends with a frame, too
    write_clip(copy / "p0" / "one.npz", 0, fps=20.0, joints=joints)
    write_clip(copy / "p1" / "two.npz", 0, fps=25.0 if "rate" in how else 20.0, joints=AGAIN[how](joints))
    rows = [{"id": "one", "text": "a", "split": "train"}, {"id": "two", "text": "b", "split": "test"}]
    write_texts(copy, [row_of(number, signer=f"s{number % 3}") for number in range(TAKES)] + rows)
    before = digest(out)
    with pytest.raises(ValueError, match="1 pair of clips .* 'two' in test and 'one' in train.*--shared-videos"):
        make(copy, out)
    assert digest(out) == before
    report, read = make_again(copy, out, shared_videos=True)
    assert report["remarks"] == {"clips with the motion of a clip in another split": 1} and not read
    assert {"one", "two"} <= {*rows_of(out, "train")["id"], *rows_of(out, "test")["id"]}


def test_hands_at_rest_are_no_motion_that_is_shared():
    still = sketch(np.tile(make_clip(2, 0)[:1] * 1000, (9, 1, 1)))
    assert not list(shared_motion({"train": [still] * 3, "test": [still]}))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 always looks into the folder it is started in")
def test_reading_processes_take_no_library_from_the_folder_they_are_in(tmp_path):
    """A folder of data may well have a name like `scipy`; a file called torch.py would be code of somebody. Nor do they
    import models, until something asks for them."""
    (tmp_path / "data" / "scipy").mkdir(parents=True)
    (tmp_path / "data" / "torch.py").write_text("raise SystemExit('somebody else')")
    script = tmp_path / "script.py"
    script.write_text(
        "if __name__ == '__main__':\n"
        "    from lslm.processing.readers.confined import Confined\n"
        "    import lslm\n"
        "    read = Confined()\n"
        "    print(read(lslm.load_motion, 'clip.npz').num_frames)\n"
        '    print(read(eval, \'"transformers" in __import__("sys").modules\'))\n'
        "    print(read(eval, '__import__(\"lslm\").load_motion.__module__'))\n"
    )
    write_clip(tmp_path / "data" / "clip.npz", 0)
    ran = subprocess.run([sys.executable, script], cwd=tmp_path / "data", capture_output=True, text=True)
    assert ran.stdout.split() == ["12", "False", "lslm.processing.motion"], ran.stderr


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(source, tmp_path, capsys, monkeypatch):
    in_processes = data_build.build_shards  # which the test before has seen
    monkeypatch.setattr(data_build, "build_shards", lambda out, workers, progress: in_processes(out, workers - 1))
    out = tmp_path / "set"
    arguments = ["data", "build", str(source), str(out), "--fps", "20", "--shard-size", "9", "--source-fps", "12"]
    assert lslm_cli.main([*arguments, "--columns", "text", "joints_mm", "fps", "--language", "en"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"written to {out}: 26 clips (train 14, validation 6, test 6); 0 dropped, see ")
    assert "26/26" in said.err
    rows = load_split(str(out), "test")
    assert rows.column_names == ["text", "joints_mm", "fps"] and len(rows[0]["joints_mm"]) == 17  # 11 frames at 12 fps
    capsys.readouterr()
    for more, message in (
        (["--texts", str(tmp_path / "no.csv")], "No such file"),
        (["--workers", "0"], "expected 1 or more"),
    ):
        assert lslm_cli.main([*arguments, *more]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error) and error.count("\n") == 1
    with pytest.raises(SystemExit):
        lslm_cli.main(["data", "build", "--help"])
    assert "How2Sign" in capsys.readouterr().out


def test_the_command_names_a_clip_of_several(tmp_path, capsys, monkeypatch):
    in_processes = data_build.build_shards
    monkeypatch.setattr(data_build, "build_shards", lambda out, workers, progress: in_processes(out, 0))
    writer, nodes, written, _ = mocap.animations("Idle", "HELLO")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "signs.glb").write_bytes(writer.glb(nodes, animations=written))
    write_texts(tmp_path / "clips", [{"id": "signs", "text": "hello"}])
    arguments = ["data", "build", str(tmp_path / "clips"), str(tmp_path / "set"), "--fps", "30"]
    assert lslm_cli.main(arguments) == 0
    assert "0 clips" in capsys.readouterr().out
    assert "2 animations in the file: Idle, HELLO" in (tmp_path / "set" / "dropped.jsonl").read_text()
    assert lslm_cli.main([*arguments, "--clip", "HELLO"]) == 0
    assert "1 clip (" in capsys.readouterr().out


def test_names_that_begin_with_a_dash_are_no_flags(tmp_path, capsys, monkeypatch):
    write_clip(tmp_path / "-source" / "-a.npz", 0)
    write_clip(tmp_path / "--json" / "--clip.npz", 1)
    write_texts(tmp_path / "-source", [{"id": "-a", "text": "hello", "split": "train"}])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        data_build, "build_shards", lambda out, workers, progress, run=data_build.build_shards: run(out, 0)
    )
    assert lslm_cli.main(["data", "build", "-source", "out", "--texts", "-source/texts.jsonl"]) == 0
    assert "1 clip (train 1)" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "--json")
    assert lslm_cli.main(["inspect", "--clip.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 12


def test_counts_add_up():
    observed = dict.fromkeys(data_report.PARTS, 3)
    facts = {"frames": 30, "fps": 20.0, "source_fps": 24.0, "observed": observed, "notes": ["fps guessed"] * 2}
    facts |= {"format": "lslm"}
    clip = {"text": "one two", "language": "en", "signer": "s"}
    one = data_report.summarise([clip], [facts], [{"kind": "too short"}])
    assert data_report.add(one, data_report.summarise([], [], [])) == one
    two = data_report.add(one, one)
    assert two == data_report.summarise([clip] * 2, [facts] * 2, [{"kind": "too short"}] * 2)
    assert two["seconds_histogram"][1] == 2 and two["words_histogram"][2] == 2 and two["notes"] == {"fps guessed": 4}


def test_gaps_are_filled_and_said(tmp_path):
    still = make_clip(1).repeat(40, axis=0)
    joints = still + np.random.default_rng(1).normal(0, 0.01, still.shape)
    joints[20:23, 30] = np.nan
    write_clip(tmp_path / "source" / "a.npz", 0, joints=joints, fps=20.0)
    write_texts(tmp_path / "source", [{"id": "a", "text": "hello", "split": "train"}])
    report = make(tmp_path / "source", tmp_path / "out")
    (row,) = rows_of(tmp_path / "out", "train")
    assert [mask >> 30 & 1 for mask in row["valid"]] == [1] * 20 + [0] * 3 + [1] * 17
    assert report["splits"]["train"]["notes"]["gaps of up to 5 frames filled in"] == 1
    seen = np.isfinite(joints)
    assert np.abs(read_joints(row) - joints)[seen].max() < 0.0006  # what was seen is as it came
