"""Five hundred damaged, renamed and hostile motion files: an error of one line, or the motion that it was."""

import pickle
import warnings

import motion_writers as write
import numpy as np
import pyarrow.parquet as pq
import pytest
import test_landmark_formats as landmarks
import test_mocap_formats as mocap

from lslm.processing import load_motion
from lslm.processing.skeleton import HANDS_MEAN

ROUNDS = 28  # mutations of each of the formats below


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """name -> (bytes of one file, suffix, format)."""
    folder = tmp_path_factory.mktemp("originals")
    params = write.a_motion(frames=6)
    joints = np.cumsum(np.full((6, 52, 3), 0.01), axis=0) + np.linspace(0, 1, 52)[None, :, None]
    np.savez(folder / "own.npz", joints=joints, fps=25.0)
    np.savez_compressed(folder / "zipped.npz", joints=joints, fps=25.0)
    points = np.random.default_rng(0).uniform(0.2, 0.8, (6, 258))
    files = {
        "lslm": folder / "own.npz",
        "lslm, compressed": folder / "zipped.npz",
        "signavatars": write.signavatars(folder / "a.pkl", params, HANDS_MEAN),
        "signavatars, torch zip": write.signavatars(folder / "b.pkl", params, HANDS_MEAN, torch_zip=True),
        "signavatars-unsmooth": write.signavatars(folder / "c.pkl", params, HANDS_MEAN, unsmooth=True),
        "soke": next(write.soke_folder(folder / "d", params, HANDS_MEAN).iterdir()),
        "soke-133": write.save(folder / "e.npy", write.soke_133(params, HANDS_MEAN)),
        "signspark": write.signspark(folder / "f.npz", params),
        "smplerx": next(write.smplerx_folder(folder / "g", params, HANDS_MEAN).glob("smplx/*")),
        "aios": next(write.aios_folder(folder / "h", params, HANDS_MEAN).glob("predictions/*")),
        "motion-x": write.save(folder / "i.npy", write.motion_x(params)),
        "amass-smplx": write.amass_smplx(folder / "j.npz", params, 60.0),
        "amass-smplh": write.amass_smplh(folder / "k.npz", params, 60.0),
        "signmotiongpt": write.save(folder / "l.npy", write.signmotiongpt(params, HANDS_MEAN)),
        "mediapipe": write.save(folder / "m.npy", points),
    }
    angles, root, _ = mocap.a_motion()
    writer, nodes = mocap.gltf_body(mocap.mixamo, angles, root)
    contents = {
        "bvh": (mocap.write_bvh(mocap.mixamo, angles, root).encode(), ".bvh"),
        "gltf": (writer.glb(nodes), ".glb"),
        "pose": (landmarks.write_pose(landmarks.clip()), ".pose"),
    }
    for name, (content, suffix) in contents.items():
        files[name] = folder / f"foreign{suffix}"
        files[name].write_bytes(content)
    pq.write_table(landmarks.kaggle_table(), folder / "n.parquet")
    files["mediapipe, parquet"] = folder / "n.parquet"
    return {name: (path.read_bytes(), path.suffix, name.split(",")[0]) for name, path in files.items()}


def mutated(original: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(original)
    kind = rng.integers(5)
    if kind == 0:  # cut off
        del content[rng.integers(0, len(content)) :]
    elif kind == 1:  # a few bits anywhere
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] ^= 1 << rng.integers(8)
    elif kind == 2:  # where the structure is: at the start and the end
        for place in rng.integers(-300, 300, rng.integers(1, 9)):
            content[place % len(content)] = rng.integers(256)
    elif kind == 3:  # a piece twice, or missing
        start, end = sorted(rng.integers(0, len(content), 2))
        content[start:end] = content[start:end] * rng.integers(0, 3)
    else:  # numbers that are none
        place = rng.integers(0, max(1, len(content) - 8))
        content[place : place + 8] = rng.choice([np.float32([np.nan, np.inf]), np.float32([1e30, -1e30])]).tobytes()
    return bytes(content)


def outcome(path):
    """The format that was read, or None; anything but one-line errors fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            motion = load_motion(path, fps=25)
        except (ValueError, OSError) as error:
            assert "\n" not in str(error) and len(str(error)) < 800
            return None
    assert motion.joints.shape[1:] == (52, 3) and motion.joints.dtype == np.float32 and motion.num_frames >= 2
    return motion.format


def test_damaged_files(originals, tmp_path):
    read = tried = 0
    for number, (name, (content, suffix, format)) in enumerate(originals.items()):
        for round in range(ROUNDS):
            rng = np.random.default_rng((number, round))
            path = tmp_path / f"clip{suffix}"
            path.write_bytes(mutated(content, rng))
            found = outcome(path)
            assert found in (None, format), f"{name}, round {round}: taken for {found}"
            tried, read = tried + 1, read + (found is not None)
    assert tried >= 500 and read > 30  # a flipped bit in a number leaves a file that is one


def test_another_suffix_changes_nothing(originals, tmp_path):
    for name, (content, suffix, _) in originals.items():
        plain = tmp_path / f"clip{suffix}"
        plain.write_bytes(content)
        expected = outcome(plain)
        for other in (".npz", ".npy", ".pkl", ".pose", ".bvh", ".txt", ""):
            path = tmp_path / f"renamed{other}"
            path.write_bytes(content)
            assert outcome(path) == expected, (name, other)


def test_a_file_that_says_much_gets_a_short_answer(tmp_path):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 2000}), }}\n".encode()
    path = tmp_path / "clip.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4))
    assert outcome(path) is None


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pkl", ".npz", ".npy", ".pt"])
def test_no_code_of_a_file_is_run(suffix, tmp_path):
    sprung = tmp_path / "sprung"
    for protocol in range(6):
        path = tmp_path / f"clip{suffix}"
        path.write_bytes(pickle.dumps({"smplx": Hostile(sprung)}, protocol))
        with pytest.raises(ValueError, match="open|not a motion file"):
            load_motion(path, fps=24)
    np.save(tmp_path / "objects.npy", np.array([Hostile(sprung)], dtype=object))
    assert not sprung.exists() or sprung.unlink() is None
    with pytest.raises(ValueError, match="open, which is code"):
        load_motion(tmp_path / "objects.npy", fps=24)
    assert not sprung.exists()
