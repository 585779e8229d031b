"""A part of what benchmarks/corpus.py reads: known motions as people store them, one thing in each wrong or unsaid."""

import numpy as np
import pytest
from motion_corpus import KINDS, cases, errors, judge, signer

ROWS = {
    "axes of joints: y up, facing x, 116 frames": "right",
    "axes of parameters: Motion-X, y down (camera)": "right",
    "axes of motion capture: BVH, z up, left-handed (Unreal)": "right",
    "axes of motion capture: glTF, x down": "right",
    "axes of joints: y up, x mirrored, 116 frames": "right",
    "landmarks of pictures: x mirrored after detection (selfie)": "refused",
    "units: joints in centimetres, 40 frames": "refused",
    "shapes of rotations: six, interleaved columns": "right",
    "shapes of rotations: quaternions wxyz": "refused",
    "shapes of rotations: matrices, transposed": "refused",
    "shapes of rotations: hands of 45 components": "refused",
    "order of joints: Motion-X, hands exchanged": "refused",
    "glTF: quaternions wxyz": "refused",
    "glTF: stretched": "refused",
    "frames: glTF, times in frames": "refused",
    "frames: five frames of parameters zeros": "right",
    "hand mean: smplx, signing, relative: left": "right",
    "hand mean: AMASS, flat, relative": "said",
    "order of joints: SMPL-X, 55, 40 frames": "refused",
    "batches: Motion-X, two of a batch": "refused",
    "sizes of pictures: unsaid, rows of 1662, of 720 x 1280": "right",
    "landmarks of pictures: left hand lost for 20 frames, -1": "right",
    "landmarks of pictures: .pose with its hands exchanged": "refused",
    "landmarks of pictures: left hand held for 20 frames": "right",
    "landmarks of pictures: fingers from little to thumb": "refused",
    "landmarks of pictures: wrist last": "refused",
    "landmarks of pictures: visibility in place of depth": "refused",
    "landmarks of pictures: from between the shoulders": "said",
    "frames: rate unsaid, Motion-X": "said",
    "frames: folder, 1, 10, 2": "right",
    "several: glTF, two animations": "refused",
    "several: parameters, the people's rows in turn": "refused",
    "names: joints beside parameters of another motion": "right",
    "BVH: channels YZX": "right",
    "glTF: CUBICSPLINE and signs": "right",
    "numbers and types: joints, big-endian": "right",
    "containers: parameters, torch": "right",
}


def test_every_kind_is_tried():
    assert {row.partition(": ")[0] for row in ROWS} == set(KINDS)


@pytest.mark.parametrize("row", ROWS)
def test_no_file_is_read_silently_wrong(row, tmp_path):
    kind, _, name = row.partition(": ")
    (case,) = (case for case in cases(0, kind, name) if case.name == name)
    judged = judge(case, tmp_path)
    assert judged["verdict"] == ROWS[row], judged


def test_a_mirrored_turned_or_misplaced_person_is_wrong():
    _, known = signer(0)
    valid, away = np.ones(known.joints.shape[:2], bool), known.joints * (-1, 1, -1)
    assert max(errors(away, valid, known).values()) < 1e-9  # the heading is nobody's
    for wrong in (known.joints * (-1, 1, 1), known.joints[..., [0, 2, 1]], known.joints * 1.02):
        assert min(errors(wrong, valid, known).values()) > 0.005
    unseen = known._replace(seen=known.seen & (np.arange(52) < 22))
    assert errors(known.joints, valid, unseen)["left hand"] > 1
