"""How fast do joints become motion features, beside the public reference and beside reading a file?

    python benchmarks/features.py OUT [--motion-x DIR] [--clips 256] [--frames 100] [--rounds 15]

One thread. Everything is measured in turn, round after round, so that other work on the machine meets all alike; what
counts are ratios of medians within one run. --motion-x names a checkout of github.com/IDEA-Research/Motion-X, whose
`process_file` (HumanML3D's, for 52 joints) is the reference: it is run, never copied, and needs scipy. It takes clips
one at a time, so that the time of a batch is compared with its time for as many clips. Writes OUT/results.json.
"""

import argparse
import importlib
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from data_build import FPS, make_clips

from lslm import SignMotionFeatureExtractor, joints_to_features
from lslm.processing.motion_features import FEET, HEADING_JOINTS, HUMANML3D_BONE_LENGTHS, RAW_DIRECTIONS
from lslm.training.provenance import record_of_script, save_results

CONTACT = 0.002  # square metres per frame: the threshold of the reference


def reference(checkout: Path) -> Callable[[np.ndarray], np.ndarray]:
    """`process_file` of a checkout of Motion-X, with the globals that its script sets, and the names of numpy and scipy
    that have gone since."""
    ndimage = importlib.import_module("scipy.ndimage")
    filters = types.ModuleType("scipy.ndimage.filters")
    vars(filters)["gaussian_filter1d"] = ndimage.gaussian_filter1d
    sys.modules[filters.__name__] = vars(ndimage)["filters"] = filters
    vars(np)["float"] = float
    sys.path.insert(0, str(checkout / "tomato_represenation"))  # so spelled there
    module = importlib.import_module("motion_representation")

    left_hip, right_hip, left_shoulder, right_shoulder = HEADING_JOINTS
    offsets = torch.from_numpy(HUMANML3D_BONE_LENGTHS[:, None] * RAW_DIRECTIONS).float()
    settings = {
        "l_idx1": 5,
        "l_idx2": 8,
        "fid_l": FEET[:2],
        "fid_r": FEET[2:],
        "face_joint_indx": [right_hip, left_hip, right_shoulder, left_shoulder],
        "n_raw_offsets": torch.from_numpy(module.t2m_raw_offsets),
        "kinematic_chain": module.t2m_body_hand_kinematic_chain,
        "tgt_offsets": offsets,
    }
    vars(module).update(settings)
    return lambda joints: module.process_file(joints.copy(), CONTACT)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--motion-x", type=Path, metavar="DIR", help="checkout of Motion-X; without it no reference")
    for name, default in {"clips": 256, "frames": 100, "rounds": 15}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = make_clips(args.clips, args.frames, np.random.default_rng(0))
    lengths = np.random.default_rng(1).integers(args.frames // 2, args.frames + 1, args.clips)
    extractor = SignMotionFeatureExtractor(fps=FPS)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "clip.npz"
    np.savez(file, joints=clips[0], fps=np.float32(FPS))
    doubles = clips[0].astype(np.float64)
    ways = {
        "one clip": lambda: joints_to_features(clips[0]),
        "one clip, float64": lambda: joints_to_features(doubles),
        "batch": lambda: joints_to_features(clips),
        "clips of different lengths": lambda: joints_to_features(
            [clip[:length] for clip, length in zip(clips, lengths, strict=True)]
        ),
        "file, read": lambda: extractor.load(file),
        "file to features": lambda: extractor.to_features(file),
    }
    results = {}
    if args.motion_x:
        process = reference(args.motion_x)
        ways["reference"] = lambda: process(clips[0])
        results["difference"] = float(np.abs(process(clips[0]) - joints_to_features(clips[0])).max())
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    file.unlink()
    ms = {name: 1000 * statistics.median(times[1:]) for name, times in seconds.items()}  # the first round warms up
    ms["batch"] /= args.clips
    ms["clips of different lengths"] *= args.frames / float(lengths.sum())  # of as many frames
    results["ms_per_clip"] = ms
    results["ms_beside_the_read"] = ms["file to features"] - ms["file, read"]
    if args.motion_x:
        ours = ("one clip", "one clip, float64", "batch", "clips of different lengths")
        results["times_the_reference"] = {name: ms["reference"] / ms[name] for name in ours}
    load = f"1 thread of {os.cpu_count()}, load before the start {os.getloadavg()[0]:.1f}"
    save_results(args.out, results | record_of_script(load, packages=("numpy", "torch")))
    print(*(f"{name}: {value}" for name, value in results.items()), sep="\n")


if __name__ == "__main__":
    main()
