"""Streamed training data: who reads what, what a clip depends on, that a killed run ends where a whole one does."""

import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import lslm_cli
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Array3D, Dataset, Sequence, Value
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from training_fixtures import FPS, TOY_ALIGN, TOY_VQVAE, recipe, sign_joints, write_rows

from lslm.processing import SignMotionFeatureExtractor
from lslm.processing.motion_features import NUM_JOINTS
from lslm.training.dataset.motion_text import MotionText, feature_statistics
from lslm.training.dataset.streaming import STATISTICS, StreamedMotionText, streamed_statistics
from lslm.training.recipe import parse
from lslm.training.stages.tokenizer import TokenizerArguments

pytest_plugins = ["training_fixtures"]
SHARDS, ROWS = 4, 7
NO_TEXT = {"c1-2", "c3-6"}
UNCOUNTED = "stream: the clips are not counted, so the run needs an end: say max_steps, not epochs"


def write_shards(folder: Path, shards: int, rows: int, *, joints="mm", num_frames=True, row_group: int = 3) -> Path:
    """train-0.parquet to train-N.parquet; the texts are the clips' names, but for `NO_TEXT`."""
    rng = np.random.default_rng(0)
    features = {"id": Value("string"), "text": Value("string"), "fps": Value("float32")}
    features |= {"num_frames": Value("int32")} if num_frames else {}
    features["valid"] = Sequence(Value("int64"))
    if joints == "mm":
        features["joints_mm"] = Array3D((None, NUM_JOINTS, 3), "int16")
    else:
        features["joints"] = Sequence(Sequence(Sequence(Value("float32"))))
    for shard in range(shards):
        clips = []
        for row in range(rows):
            name = f"c{shard}-{row}"
            clip, _ = sign_joints([["tea", "no", "please", "a", "l"][(shard + row) % 5]] * (1 + row % 2), rng)
            values = {"id": name, "text": " " if name in NO_TEXT else name, "fps": FPS, "num_frames": len(clip)}
            values |= {"joints_mm": np.round(clip * 1000).astype(np.int16), "joints": clip.astype(np.float32).tolist()}
            clips.append(values | {"valid": [(1 << NUM_JOINTS) - 1 - (1 << 30)] * len(clip)})
        write_rows(folder / f"train-{shard}.parquet", clips, features, batch_size=row_group)
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> str:
    return str(write_shards(tmp_path_factory.mktemp("shards"), SHARDS, ROWS))


USED = {f"c{shard}-{row}" for shard in range(SHARDS) for row in range(ROWS)} - NO_TEXT


def names(items):
    return [item["text"] for item in items]


# --- who reads what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [0, 5, 1000])
@pytest.mark.parametrize("readers", [1, 2, 5, 13])  # of 12 row groups
def test_the_readers_of_an_epoch_see_every_clip_once(shards, readers, buffer, capsys):
    stream = StreamedMotionText(shards, "train", FPS, shuffle_buffer=buffer)
    orders = []
    for epoch in (0, 1):
        shares = [names(stream.items(epoch, reader, readers)) for reader in range(readers)]
        assert Counter(sum(shares, [])) == Counter(USED)
        assert min(map(len, shares)) >= 1
        orders.append(sum(shares, []))
    assert (orders[0] == orders[1]) == (buffer == 0)
    if readers == 1:
        assert f"{shards}, train: reader 1 of 1 left out 2 of 28 clips" in capsys.readouterr().err


def test_the_order_follows_from_seed_and_epoch(shards):
    def order(epoch, seed=0):
        return names(StreamedMotionText(shards, "train", FPS, seed=seed).items(epoch))

    assert order(3) == order(3)
    assert len({tuple(order(epoch, seed)) for epoch, seed in ((3, 0), (4, 0), (3, 1))}) == 3
    assert sorted(order(0)[:ROWS]) != sorted(f"c0-{row}" for row in range(ROWS))  # shards are mixed


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_what_their_process_reads(shards, workers):
    """Two processes with workers each: in their first epochs, every clip once."""
    seen = []
    for rank in range(2):
        stream = StreamedMotionText(shards, "train", FPS, rank=rank, world_size=2)
        readers = 2 * workers
        sizes = [len(list(stream.items(0, rank * workers + number, readers))) for number in range(workers)]
        loader = DataLoader(stream, batch_size=1, num_workers=workers, collate_fn=names, multiprocessing_context="fork")
        batches = list(islice(loader, max(sizes) * workers))
        for number, size in enumerate(sizes):  # batches come from the workers in turn
            seen += sum(batches[number::workers][:size], [])
    assert Counter(seen) == Counter(USED)


def test_a_reader_without_a_clip_says_so(tmp_path):
    write_shards(tmp_path, 1, 2)
    stream = StreamedMotionText(str(tmp_path), "train", FPS, rank=2, world_size=3)
    with pytest.raises(ValueError, match="train: reader 3 of 3 found no clip .*; use fewer processes or workers"):
        next(iter(stream))
    none = StreamedMotionText(str(tmp_path), "train", FPS, fits=lambda frames, text: False)
    with pytest.raises(ValueError, match="reader 1 of 1 found no clip"):
        next(iter(none))


def test_two_processes_train_on_different_clips(shards, tmp_path):
    """Each with two workers."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = str(Path(__file__).with_name("streamed_process.py"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*torchrun, script, shards, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = json.loads(done.stdout.splitlines()[-1])
    assert len(drawn) == 2 and not set(drawn[0]) & set(drawn[1]) and {*drawn[0], *drawn[1]} == USED


# --- what a clip is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joints", ["mm", "metres"])
@pytest.mark.parametrize("num_frames", [False, True])
@pytest.mark.parametrize("fps", [FPS, 20.0])
def test_clips_are_those_of_memory(tmp_path, joints, num_frames, fps):
    write_shards(tmp_path, 2, 4, joints=joints, num_frames=num_frames)
    memory = MotionText(str(tmp_path), "train", fps)
    stream = StreamedMotionText(str(tmp_path), "train", fps)
    for clip, streamed in zip(memory.joints, stream.joints, strict=True):
        assert np.array_equal(clip, streamed) and streamed.dtype == np.float32
    items = {item["text"]: item for item in stream.items(0)}
    assert sorted(items) == sorted(memory.texts)
    for index, text in enumerate(memory.texts):
        assert np.array_equal(items[text]["joints"], memory[index]["joints"])
        assert np.array_equal(items[text]["valid"], memory[index]["valid"]) and not items[text]["valid"][:, 30].any()


def test_a_clip_depends_on_seed_and_epoch_whoever_reads_it(shards):
    def clip(epoch, reader, readers, seed=0):
        stream = StreamedMotionText(shards, "train", FPS, seed=seed, augment=True, window=9, mirror=0.5)
        items = list(stream.items(epoch, reader, readers))
        return {item["text"]: (item["joints"].tobytes(), item["rng"].random()) for item in items}

    whole, part = clip(2, 0, 1), clip(2, 1, 4)
    assert part and all(whole[name] == part[name] for name in part)
    assert all(whole[name] != other[name] for other in (clip(3, 0, 1), clip(2, 0, 1, seed=1)) for name in whole)


def test_a_frame_count_that_is_wrong_is_told(tmp_path):
    write_shards(tmp_path, 1, 3)
    rows = Dataset.from_parquet(str(tmp_path / "train-0.parquet"), cache_dir=str(tmp_path / "cache"))
    rows = [row | {"joints_mm": row["joints_mm"][:1], "valid": row["valid"][:1]} for row in rows]
    Dataset.from_list(rows).to_parquet(tmp_path / "train-0.parquet")
    with pytest.raises(ValueError, match=r"clip c0-\d has 1 frame, and more by its column num_frames"):
        next(iter(StreamedMotionText(str(tmp_path), "train", FPS)))


# --- passing over what was seen ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [False, True])
@pytest.mark.parametrize("readers", [1, 2, 3])
def test_after_what_was_seen_comes_what_would_have_come(tmp_path, readers, num_frames, monkeypatch):
    folder = write_shards(tmp_path, SHARDS, ROWS, num_frames=num_frames)
    options = {"shuffle_buffer": 5, "augment": True, "rank": readers - 1, "world_size": readers}

    def drawn(seen_batches=0, batch_size=4):
        stream = StreamedMotionText(str(folder), "train", FPS, **options)
        stream.batch_size, stream.seen_batches = batch_size, seen_batches
        for item in islice(stream, 90):
            yield item and (item["text"], item["joints"].tobytes(), item["rng"].random())

    whole, clips_read, read = list(drawn()), [], StreamedMotionText._clip
    monkeypatch.setattr(StreamedMotionText, "_clip", lambda *args: clips_read.append(1) or read(*args))
    for batches in (1, 8, 20):  # in the first epoch, and in later ones
        assert list(drawn(batches)) == [None] * 4 * batches + whole[4 * batches :]
        assert len(clips_read) == 90 - 4 * batches  # nothing was made to be thrown away
        clips_read.clear()


def losses(folder):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize(
    ("stage", "workers", "accumulation", "killed_at"),
    [("tokenizer", 0, 1, 9), ("tokenizer", 2, 2, 7), ("align", 1, 1, 5)],
)
def test_a_killed_run_ends_where_a_whole_one_ends(
    shards, toy, toy_tokenizer, commands, tmp_path, stage, workers, accumulation, killed_at
):
    def command(out, save):
        flags = {"data": shards, "stream": "true", "shuffle_buffer": 5, "output_dir": out, "max_steps": 12}
        flags |= {"save_strategy": "steps", "save_steps": save, "logging_steps": 1}
        flags |= {"dataloader_num_workers": workers, "gradient_accumulation_steps": accumulation}
        if stage == "tokenizer":
            # dead codes move by random numbers; the k-means start falls before or after the kill
            flags |= {"quantizer": "ema", "ema_decay": 0.8, "codebook_warmup": 0.7, "mirror": 0.5}
            return [stage, *recipe(**TOY_VQVAE | flags)]
        flags |= {"tokenizer": toy_tokenizer, "backbone": toy / "llm", "code_dropout": 0.3, "max_length": 90}
        return [stage, *recipe(**TOY_ALIGN | flags)]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    commands.run(command(whole, 100))
    commands.kill(command(killed, killed_at - 1), killed / f"checkpoint-{killed_at - 1}", killed_at)
    commands.run(command(killed, killed_at - 1))
    expected, resumed = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []
    early = load_file(killed / f"checkpoint-{killed_at - 1}" / "model.safetensors")
    assert any(not torch.equal(expected[name], early[name]) for name in expected)
    assert losses(killed) == losses(whole) and len(losses(whole)) == 12
    assert json.loads((killed / "trainer_state.json").read_text())["epoch"] == 1  # of max_steps


# --- statistics, memory, keys -----------------------------------------------------------------------------------------


def test_statistics_come_from_the_data_set_if_they_fit(tmp_path, capsys):
    folder = write_shards(tmp_path, 2, 3)
    extractor = SignMotionFeatureExtractor(fps=FPS)
    stream = StreamedMotionText(str(folder), "train", FPS)
    expected = feature_statistics(MotionText(str(folder), "train", FPS).joints, extractor)
    for found, exact in zip(streamed_statistics(stream, str(folder), extractor), expected, strict=True):
        assert np.array_equal(found, exact)
    stored = {"fps": FPS, "convention": "humanml3d", "target_skeleton": "humanml3d", "frames": 9}
    stored |= {"mean": [0.5] * 623, "std": [2.0] * 623}
    (folder / STATISTICS).write_text(json.dumps(stored))
    mean, std = streamed_statistics(stream, str(folder), extractor)
    assert mean.tolist() == [0.5] * 623 and std.tolist() == [2.0] * 623
    capsys.readouterr()
    for key, value in (("fps", 20.0), ("convention", "signing"), ("target_skeleton", None)):
        (folder / STATISTICS).write_text(json.dumps(stored | {key: value}))
        assert np.array_equal(streamed_statistics(stream, str(folder), extractor)[0], expected[0])
        assert f"{STATISTICS}: of another {key}; not used" in capsys.readouterr().out
    nonsense = [json.dumps(stored | values) for values in ({"std": [float("nan")] * 623}, {"std": [-1.0] * 623})]
    for wrong in ("{", "[]", json.dumps(stored | {"mean": [0.5]}), json.dumps({"fps": FPS}), *nonsense):
        (folder / STATISTICS).write_text(wrong)
        with pytest.raises(ValueError, match="statistics.json: expected fps, convention, target_skeleton and 623") as e:
            streamed_statistics(stream, str(folder), extractor)
        assert "\n" not in str(e.value)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """40 MB of clips pass; hardly any of it stays."""
    rows = 32
    joints = np.random.default_rng(0).normal(size=(rows, 160, NUM_JOINTS, 3)).astype(np.float32)
    features = {"text": Value("string"), "fps": Value("float32"), "num_frames": Value("int32")}
    features["joints"] = Array3D((None, NUM_JOINTS, 3), "float32")
    clips = [{"text": "a", "fps": 20.0, "num_frames": 160, "joints": clip} for clip in joints]
    for shard in range(13):
        write_rows(tmp_path / f"train-{shard:02}.parquet", clips, features, batch_size=8)
    stream = StreamedMotionText(str(tmp_path), "train", 20.0, shuffle_buffer=16, augment=False)

    def held():  # not the resident size: what an allocator keeps depends on the tests before
        return (tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes()) / 2**20

    tracemalloc.start()
    try:
        sizes = [held() for n, _ in enumerate(islice(stream, 13 * rows)) if n % 52 == 51]
    finally:
        tracemalloc.stop()
    assert len(sizes) == 8 and max(sizes[4:]) - max(sizes[:4]) < 2, sizes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"num_train_epochs": 3}, UNCOUNTED),
        ({"max_steps": 3, "limit": 5}, "limit is for clips in memory: leave it out, or leave out stream"),
    ],
)
def test_a_stream_needs_an_end(shards, tmp_path, capsys, flags, said):
    flags = TOY_VQVAE | {"data": shards, "output_dir": tmp_path, "stream": "true"} | flags
    assert lslm_cli.main(["tokenizer", *recipe(**flags)]) == 2
    assert capsys.readouterr().err == f"lslm: {said}\n"


def test_a_stream_trains_as_memory_does(shards, tmp_path):
    args = parse(TokenizerArguments, recipe(data=shards, output_dir=tmp_path, max_steps=3), "lslm tokenizer")
    assert not args.stream and args.shuffle_buffer == 1000
    for stream in ("false", "true"):
        flags = TOY_VQVAE | {"data": shards, "output_dir": tmp_path / stream, "max_steps": 30, "logging_steps": 1}
        flags |= {"stream": stream, "augment": "false", "quantizer": "ema", "codebook_warmup": 0.3}
        assert lslm_cli.main(["tokenizer", *recipe(**flags)]) == 0
    memory, streamed = losses(tmp_path / "false"), losses(tmp_path / "true")
    assert np.mean(streamed[-5:]) < np.mean(streamed[:5])
    assert np.mean(streamed) == pytest.approx(np.mean(memory), rel=0.3)
