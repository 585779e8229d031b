"""Files as people have them: compressed, by joblib, as np.save of a dict, results of programs that find people."""

import gzip
import json
import os
import pickle
import time
import tracemalloc
import zipfile
import zlib
from collections import defaultdict

import motion_writers as write
import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
import test_mocap_formats as mocap
import torch

from lslm.processing import MotionFileError, load_motion
from lslm.processing.motion_features import LEFT_HAND, RIGHT_HAND
from lslm.processing.readers import compressed, landmark_formats, mocap_gltf
from lslm.processing.readers.clips import choose_clip
from lslm.processing.readers.safe_pickle import read_pickle
from lslm.processing.skeleton import HANDS_MEAN

PARAMS = write.a_motion()
RELAXED = PARAMS | dict(zip(write.HEAD[2:], HANDS_MEAN[:, None].repeat(write.FRAMES, 1), strict=True))


def matrices(vectors):
    """(T, 3 J) -> (T, J, 3, 3) float32."""
    return np.array([[write.rotation(v) for v in row.reshape(-1, 3)] for row in vectors], np.float32)


def joblib_dump(content, path, **options):
    pytest.importorskip("joblib").dump(content, path, **options)
    return path


# --- containers -------------------------------------------------------------------------------------------------------


def signavatars(path):
    return write.signavatars(path, PARAMS, HANDS_MEAN)


def bvh(path):
    angles, root, _ = mocap.a_motion()
    path.write_text(mocap.write_bvh(mocap.mixamo, angles, root))
    return path


def own(path):
    np.savez(path, joints=write.joints_of(PARAMS), fps=25.0)
    return path


PLAIN = {
    "lslm": lambda path: own(path / "a.npz"),
    "signavatars": lambda path: signavatars(path / "a.pkl"),
    "motion-x": lambda path: write.save(path / "a.npy", write.motion_x(PARAMS)),
    "bvh": lambda path: bvh(path / "a.bvh"),
}


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("format", PLAIN)
def test_compressed_files_are_what_is_in_them(format, pack, tmp_path):
    plain = PLAIN[format](tmp_path)
    packed = plain.with_name(f"{plain.name}.gz")
    packed.write_bytes(pack(plain.read_bytes()))
    expected, motion = load_motion(plain, fps=25), load_motion(packed, fps=25)
    np.testing.assert_array_equal(motion.joints, expected.joints)
    assert motion.format == format == expected.format and motion.notes == expected.notes


@pytest.mark.parametrize(
    "data, reason",
    [
        (gzip.compress(b"\x93NUMPY" * 99)[:-9], "breaks off"),
        (gzip.compress(gzip.compress(b"\x93NUMPY")), "twice"),
        (gzip.compress(b"\x93NU") + gzip.compress(b"MPY"), "in several parts"),
        (gzip.compress(bytes(2**20 + 1)), "more than 1 MB"),
        (b"\x1f\x8b" + bytes(99), "damaged compressed"),
        (gzip.compress(b"frame,x\n0,1\n"), "not a motion file"),
        (gzip.compress(b""), "empty"),
    ],
    ids=["cut", "twice", "parts", "large", "damaged", "a table", "empty"],  # gzip writes the time
)
def test_compressed_files_that_are_of_no_use(data, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "MAX_BYTES", 2**20)
    (tmp_path / "clip.gz").write_bytes(data)
    with pytest.raises(MotionFileError, match=reason):
        load_motion(tmp_path / "clip.gz")


def test_a_saved_dict_is_its_arrays(tmp_path):
    arrays = {name: PARAMS[name] for name in write.HEAD} | {"fps": 25.0, "gender": np.array("female", dtype=object)}
    np.savez(tmp_path / "a.npz", **{name: value for name, value in arrays.items() if name != "gender"})
    np.save(tmp_path / "a.npy", arrays)
    expected, motion = load_motion(tmp_path / "a.npz"), load_motion(tmp_path / "a.npy")
    np.testing.assert_array_equal(motion.joints, expected.joints)


def test_arrays_that_are_pickled_bare_are_told_apart_like_npy(tmp_path):
    view = write.camera_view(PARAMS, HANDS_MEAN)
    first = np.concatenate([view[k] for k in (*write.HEAD, "jaw_pose", "betas", "expression", "transl")], axis=1)
    for format, array in {"signavatars": first, "signmotiongpt": write.signmotiongpt(PARAMS, HANDS_MEAN)}.items():
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(array))
        torch.save(torch.tensor(array), tmp_path / "a.pt")
        assert load_motion(tmp_path / "a.pkl", fps=25).format == load_motion(tmp_path / "a.pt", fps=25).format == format


@pytest.mark.parametrize("options", [{}, {"compress": 3}, {"compress": ("gzip", 3)}, {"protocol": 2}], ids=str)
def test_what_joblib_saved_comes_back(options, tmp_path):
    arrays = [np.arange(6.0).reshape(2, 3).T, np.arange(5, dtype=">i2"), np.zeros((0, 3)), np.array([True, False])]
    content = {
        "arrays": arrays,
        "names": np.array(["left", None], dtype=object),
        "of": defaultdict(dict, {1: {"a": 2}}),
    }
    path = joblib_dump(content, tmp_path / "a.pkl", **options)
    read = read_pickle(compressed.unpacked(path.read_bytes()))
    assert read["of"] == {1: {"a": 2}} and read["names"] == ["left", None]
    for array, expected in zip(read["arrays"], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.flags.writeable and array.dtype.isnative


# --- programs that find people ----------------------------------------------------------------------------------------


def smpl_pose(params):
    """(T, 72): root, 21 joints of the body, and two hands of one joint, which SMPL-X does not have."""
    return np.concatenate([params["global_orient"], params["body_pose"], np.full((write.FRAMES, 6), 0.3)], axis=1)


def wham(path, tracks=(3,)):
    camera = write.in_axes(PARAMS, write.FLIP)
    results = defaultdict(dict)
    for track in tracks:
        results[track]["pose"], results[track]["trans"] = smpl_pose(camera), camera["transl"]
        results[track]["pose_world"], results[track]["trans_world"] = smpl_pose(PARAMS), PARAMS["transl"]
        results[track]["betas"] = PARAMS["betas"]
        results[track]["verts"] = np.zeros((write.FRAMES, 6890, 3), np.float16)
        results[track]["frame_ids"] = np.delete(np.arange(100, 100 + write.FRAMES + 1), 7)  # one is lost
    return joblib_dump(results, path / "wham_output.pkl")


def gvhmr(path):
    def params(view):
        names = ("global_orient", "body_pose", "transl", "betas")
        return {name: torch.tensor(view[name], dtype=torch.float32) for name in names}

    content = {"smpl_params_global": params(PARAMS), "smpl_params_incam": params(write.in_axes(PARAMS, write.FLIP))}
    content |= {"K_fullimg": torch.ones(write.FRAMES, 3, 3), "net_outputs": {"pred": {"x": torch.ones(1, 2)}}}
    torch.save(content, path / "hmr4d_results.pt")
    return path / "hmr4d_results.pt"


def prompthmr(path):
    pose = np.concatenate([smpl_pose(PARAMS)[:, :66], np.zeros((write.FRAMES, 99))], axis=1)
    world = {"pose": pose, "shape": PARAMS["betas"], "trans": PARAMS["transl"]}
    camera = {"rotmat": np.zeros((write.FRAMES, 55, 3, 3)), "pose": pose[:, :75] * 0, "trans": PARAMS["transl"]}
    person = {"track_id": 1, "frames": np.arange(write.FRAMES), "smplx_cam": camera, "smplx_world": world}
    return joblib_dump({"camera": {"img_focal": 1.0}, "people": {1: person}, "masks": None}, path / "results.pkl")


def phalp(path):
    """Two people in each picture, the second only ever predicted."""
    camera = write.in_axes(PARAMS, write.FLIP)
    root, body = matrices(camera["global_orient"]), matrices(smpl_pose(camera)[:, 3:])
    frames = {}
    for t in range(write.FRAMES):
        smpl = {"global_orient": root[t], "body_pose": body[t], "betas": np.ones(10, np.float32)}
        people = [{key: value[..., ::-1] for key, value in smpl.items()}, smpl]
        frames[f"outputs/{t:06}.jpg"] = {"time": t, "shot": 0, "tid": [9, 4], "tracked_time": [1, 0], "smpl": people}
    return joblib_dump(frames, path / "demo_video.pkl", compress=3)


ESTIMATES = {"WHAM": wham, "GVHMR": gvhmr, "PromptHMR": prompthmr, "PHALP": phalp}


@pytest.mark.parametrize("program", ESTIMATES)
def test_results_of_programs_that_find_people(program, tmp_path):
    motion = load_motion(ESTIMATES[program](tmp_path), fps=25)
    joints, expected = motion.joints, write.joints_of(RELAXED)
    if program == "WHAM":
        assert len(joints) == write.FRAMES + 1  # the lost frame is between its neighbours
        joints, motion.valid = np.delete(joints, 7, axis=0), np.delete(motion.valid, 7, axis=0)
    np.testing.assert_allclose(joints - joints[:, :1], expected - expected[:, :1], atol=1e-3)
    notes = [note.text for note in motion.notes]
    hands = ["the left hand is never seen", "the right hand is never seen"]
    assert set(hands) <= set(notes) and not motion.valid[:, LEFT_HAND + RIGHT_HAND].any()
    assert motion.valid[:, :22].all()


def test_of_several_people_one_is_asked_for(tmp_path):
    with pytest.raises(MotionFileError, match="2 people in the file: 3, 12; pass clip='3'") as caught:
        load_motion(wham(tmp_path, tracks=(3, 12)), fps=25)
    assert caught.value.argument == "clip"
    assert len(load_motion(tmp_path / "wham_output.pkl", fps=25, clip="12").joints) == write.FRAMES + 1
    with pytest.raises(MotionFileError, match="none of them '4': 3, 12"):
        load_motion(tmp_path / "wham_output.pkl", fps=25, clip="4")
    with pytest.raises(MotionFileError, match="leave clip out"):
        load_motion(signavatars(tmp_path / "a.pkl"), fps=25, clip="4")


@pytest.mark.parametrize(
    "person, reason",
    [
        ({"pose": np.zeros((9, 99))}, r"`pose` has shape \(9, 99\)"),
        ({"body_pose": np.zeros((9, 63))}, "expected `global_orient` and `body_pose`"),
        ({"pose": np.zeros((9, 72)), "frame_ids": [0, 1]}, "2 numbers of frames, expected 9"),
        ({"pose": np.zeros((9, 72)), "frame_ids": [0, 1, 2, 3, 4, 5, 6, 7, 10**9]}, "most frames are lost"),
        ({"pose": "none"}, "real numbers"),
        ([np.zeros((9, 72))], "it holds people; expected"),
    ],
)
def test_people_that_cannot_be_read(person, reason, tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({1: person} if isinstance(person, dict) else {"people": person}))
    with pytest.raises(MotionFileError, match=reason):
        load_motion(tmp_path / "a.pkl", fps=25)


# --- what is no motion file -------------------------------------------------------------------------------------------

OPENPOSE = b'{"version":1.3,"people":[{"person_id":[-1],"pose_keypoints_2d":[1.5,2.5,0.9]}]}'
OTHERS = {
    "clip.fbx": (
        b"Kaydara FBX Binary  \0\x1a\0" + bytes(99),
        "an FBX file.* blender .*import_scene.fbx.*export_scene.gltf",
    ),
    "clip.glb": (b"Kaydara FBX Binary  \0\x1a\0", "an FBX file"),
    "clip.usdz": (b"PK\3\4" + bytes(99), "a USD file.* usd_import|damaged"),
    "clip.blend": (b"BLENDER-v306", "a Blender file"),
    "clip.abc": (b"Ogawa\xff", "a mesh.* no skeleton"),
    "clip.c3d": (b"\2P" + bytes(99), "a file of markers"),
    "clip.vmd": (b"Vocaloid Motion Data 0002", "an animation of another program"),
    "clip.png": (b"\x89PNG\r\n\x1a\n", "a picture.* lslm extract VIDEO OUT"),
    "clip.h5": (b"\x89HDF\r\n\x1a\n", "an HDF5 or MATLAB file.*np.savez"),
    "clip.mat": (b"MATLAB 5.0 MAT-file", "an HDF5 or MATLAB file"),
    "clip.csv": (b"frame,x,y\n0,1,2\n", "a table or text.*np.savez"),
    "clip.tar": (b"clip.npz\0", "an archive.* unpack"),
    "clip.7z": (b"7z\xbc\xaf\x27\x1c", "an archive"),
    "clip.pkl.bz2": (b"BZh91AY&SY", "only gzip and zlib are read; unpack it"),
    "clip.eaf": (b'<?xml version="1.0"?>', "an annotation"),
    "clip.csv.gz": (gzip.compress(b"frame,x\n0,1\n"), "a table or text"),
    "clip.json": (OPENPOSE, "keypoints of pictures, as OpenPose.* no depth"),
    "clip.json.gz": (gzip.compress(OPENPOSE), "keypoints of pictures"),
    "dwpose.json": (b'[{"image_id": 0, "keypoints": [[1, 2]]}]', "keypoints of pictures"),
    "rtmw.json": (b'{"meta_info": {"dataset_name": "coco_wholebody", "num_keypoints": 133}}', "keypoints of pictures"),
    "facts.json": (b'{"fps": 25}', "a JSON file"),
    "clip.safetensors": (b"\x40\0\0\0\0\0\0\0{", "a sound or a network"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_kinds_are_named_with_a_way_out(name, tmp_path):
    data, reason = OTHERS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MotionFileError, match=reason) as caught:
        load_motion(tmp_path / name)
    assert name.endswith("usdz") or "damaged" not in str(caught.value)


def test_an_archive_of_motion_files_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        archive.writestr("walk.bvh", "HIERARCHY")
    with pytest.raises(MotionFileError, match="an archive.* unpack it"):
        load_motion(tmp_path / "clips.zip")


def test_keypoints_without_depth_are_refused_with_that_sentence(tmp_path):
    for number in range(3):
        (tmp_path / f"clip_{number:012}_keypoints.json").write_bytes(OPENPOSE)
    with pytest.raises(
        MotionFileError, match="OpenPose, DWPose and RTMW write them, no motion file: they have no depth"
    ):
        load_motion(tmp_path)
    for shape in ((9, 133, 3), (9, 133, 2), (1, 9, 133, 3)):
        np.save(tmp_path / "a.npy", np.ones(shape))
        with pytest.raises(MotionFileError, match=r"\(OpenPose, DWPose, RTMW\) have no depth"):
            load_motion(tmp_path / "a.npy", fps=25)


def test_a_pipe_or_a_device_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "clip.npz")
    for path in (tmp_path / "clip.npz", "/dev/zero"):
        with pytest.raises(MotionFileError, match="not a regular file"):
            load_motion(path)


# --- budgets ----------------------------------------------------------------------------------------------------------


def saved(path, **arrays):
    np.savez_compressed(path / "a.npz", **arrays)
    return path / "a.npz"


def hands_and(frames, **arrays):
    return {name: np.zeros((frames, width)) for name, width in zip(write.HEAD, (3, 63, 45, 45), strict=True)} | arrays


def wide_table(path):
    names = ["frame", *(f"{a}_{p}_{k}" for p, n in landmark_formats._PARTS.items() for k in range(n) for a in "xyz")]
    column = pyarrow.array(np.zeros(40_000, np.int8))
    pq.write_table(pyarrow.table([column] * len(names), names=names), path / "a.parquet")
    return path / "a.parquet"


def members(path):
    """A directory of 20,000 names and nothing that they name."""
    entry = b"PK\1\2" + bytes(24) + b"\5" + bytes(17)
    directory = b"".join(entry + b"%05d" % number for number in range(20_000))
    head, sizes = b"PK\3\4" + bytes(60), (len(directory).to_bytes(4, "little"), (64).to_bytes(4, "little"))
    (path / "a.npz").write_bytes(head + directory + b"PK\5\6" + bytes(4) + b"\xff" * 4 + b"".join(sizes) + bytes(2))
    return path / "a.npz"


def repeated_kinds(path):
    kinds = pyarrow.DictionaryArray.from_arrays(np.zeros(200_000, np.int32), ["pose" * 400])
    column = pyarrow.array(np.zeros(200_000, np.int8))
    names = ["frame", "type", "landmark_index", "x", "y", "z"]
    frames = np.arange(200_000) // 543
    pq.write_table(pyarrow.table([frames, kinds, *[column] * 4], names=names), path / "a.parquet")
    return path / "a.parquet"


# What a file of few bytes asks for: how it is written, what is said, and megabytes that are enough
GREEDY = {
    "wide, of one byte": (lambda p: write.save(p / "a.npy", np.zeros((20_000, 1990), np.int8)), "no known layout", 60),
    "wide, named": (lambda p: saved(p, motion=np.zeros((20_000, 1990), np.int8)), "no known layout", 60),
    "betas of other frames": (
        lambda p: saved(p, **hands_and(9, betas=np.zeros((20_000, 1500), np.int8))),
        *("expected 9 frames", 50),
    ),
    "too many betas": (lambda p: saved(p, **hands_and(9, betas=np.zeros((9, 1900)))), "expected 9 frames", 5),
    "too wide poses": (lambda p: saved(p, poses=np.zeros((20_000, 1900), np.int8), trans=0), "expected", 50),
    "an archive of many names": (members, "over 10,000 members", 5),
    "parquet of many columns": (wide_table, "40000 rows, 0 MB, expected clips", 5),
    "parquet of long names": (repeated_kinds, "both shoulders", 60),
}


@pytest.mark.parametrize("case", GREEDY)
def test_shapes_are_looked_at_before_numbers_are_widened(case, tmp_path, monkeypatch):
    monkeypatch.setattr(landmark_formats, "MAX_KAGGLE_NUMBERS", 2**23)
    write_file, reason, megabytes = GREEDY[case]
    path = write_file(tmp_path)
    tracemalloc.start()
    with pytest.raises(MotionFileError, match=reason):
        load_motion(path, fps=25)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < megabytes * 2**20


def test_frames_of_another_shape_are_refused_where_they_come(tmp_path):
    for number, size in enumerate((258, 259)):
        np.save(tmp_path / f"{number}.npy", np.zeros(size))
    (tmp_path / "2.npy").write_bytes(b"never read")
    with pytest.raises(MotionFileError, match=r"the folder holds \(258,\) and \(259,\)"):
        load_motion(tmp_path)


def test_tens_of_thousands_of_clips_are_told_apart_at_once():
    names = [f"clip {number % 20_000}" for number in range(40_000)]
    begin = time.perf_counter()
    assert choose_clip(names, "clip 7 20007", "animations") == 20_007
    assert time.perf_counter() - begin < 5  # minutes, if each was compared with each
    with pytest.raises(MotionFileError, match="50001 animations in the file, the limit"):
        choose_clip([""] * 50_001, None, "animations")


def test_buffers_that_name_one_file_are_counted_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(mocap_gltf, "MAX_BYTES", 3000)
    (tmp_path / "a.bin").write_bytes(bytes(800))
    accessors = [
        {"bufferView": k, "componentType": 5126, "count": 2, "type": t} for k, t in enumerate(["SCALAR", "VEC4"] * 3)
    ]
    document = {
        "asset": {"version": "2.0"},
        "nodes": [{"name": "a"}],
        "buffers": [{"uri": "a.bin"}] * 6,
        "bufferViews": [{"buffer": k, "byteLength": 800} for k in range(6)],
        "accessors": accessors,
        "animations": [
            {
                "samplers": [{"input": k, "output": k + 1} for k in (0, 2, 4)],
                "channels": [{"sampler": k, "target": {"node": 0, "path": "rotation"}} for k in range(3)],
            }
        ],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    with pytest.raises(MotionFileError, match="the file has over"):
        load_motion(tmp_path / "a.gltf")


def test_links_in_a_circle_are_no_file(tmp_path):
    (tmp_path / "a.npz").symlink_to(tmp_path / "b.npz")
    (tmp_path / "b.npz").symlink_to(tmp_path / "a.npz")
    with pytest.raises(OSError, match="no such file|symbolic links"):
        load_motion(tmp_path / "a.npz")
