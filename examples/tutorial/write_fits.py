"""Write invented signing as a researcher finds it: SignAvatars and SMPLer-X fits beside How2Sign's tables.

    python examples/tutorial/write_fits.py runs/tutorial/fits

Twelve invented signs make sentences such as "We drink tea."; two invented people sign them. It is no sign language and
nobody's motion: only the layouts of the files are those of the field (docs/formats.md). Some files are broken on
purpose, for docs/tutorial.md. The same command writes the same bytes.
"""

import argparse
import csv
import itertools
import pickle
import zlib
from pathlib import Path

import numpy as np

from lslm.processing.skeleton import HANDS_MEAN

FPS = 24  # SignAvatars'
WHO = {"i": "I", "you": "You", "we": "We"}
DOES = ("drink", "buy", "see", "want")
WHAT = ("tea", "milk", "bread", "fish", "books")
TAKES = {"train": 2, "val": 1, "test": 1}
# joints of body_pose, which starts at the left hip
SHOULDERS, ELBOWS, WRISTS = (15, 16), (17, 18), (19, 20)


def pose_of_sign(word: str) -> np.ndarray:
    """(2, 2, 14): where a sign begins and ends, of the right arm and the left one; for each how far shoulder, elbow and
    wrist are turned (3 numbers each) and the five fingers are bent."""
    draw = np.random.default_rng(zlib.crc32(word.encode()))
    return draw.normal(size=(2, 2, 14))


def motion(words: list[str], signer: int, take: int) -> dict[str, np.ndarray]:
    """SMPL-X parameters (T, n) of a sentence, y up, whole fingers: arms hang, move through the signs, and hang."""
    draw = np.random.default_rng((zlib.crc32(" ".join(words).encode()), signer, take))
    keys, times = [np.zeros((2, 14))], [0.0]
    for word in words:
        for key in pose_of_sign(word):
            keys.append(1.0 + key + draw.normal(0, 0.05, (2, 14)))
            times.append(times[-1] + draw.uniform(0.3, 0.45))
    keys.append(np.zeros((2, 14)))
    times.append(times[-1] + 0.4)
    frames = np.arange(0, times[-1], 1 / FPS)
    place = np.searchsorted(times, frames, "right") - 1
    part = (frames - np.take(times, place)) / np.diff(times)[place]
    part = (part * part * (3 - 2 * part))[:, None, None]  # slow at both ends
    arms = np.stack(keys)[place] * (1 - part) + np.stack(keys)[place + 1] * part
    body, hands = np.zeros((len(frames), 21, 3)), np.zeros((len(frames), 2, 15, 3))
    for side, sign in enumerate((1.0, -1.0)):  # the left arm, then the right one, its mirror image
        arm = arms[:, 1 - side]
        mirror = np.array([1.0, sign, sign])
        raised = np.clip(arm, -0.5, 2.5)
        body[:, SHOULDERS[side]] = mirror * (np.array([0, -0.2, -1.1]) + raised[:, :3] * (0.15, -0.2, 0.1))
        body[:, ELBOWS[side]] = mirror * (np.array([0, -0.2, 0]) + raised[:, 3:6] * (0.1, -0.6, 0.0))
        body[:, WRISTS[side]] = mirror * (raised[:, 6:9] * (0.3, 0.1, 0.1))
        bends = np.clip(0.3 + 0.5 * arm[:, 9:14], 0.0, 1.4)
        hands[:, side, :, 2] = -sign * np.repeat(bends, 3, axis=1)
    betas = np.random.default_rng(signer).normal(0, 0.7, 10)
    return {
        "global_orient": np.zeros((len(frames), 3)),
        "body_pose": body.reshape(-1, 63),
        "left_hand_pose": hands[:, 0].reshape(-1, 45),
        "right_hand_pose": hands[:, 1].reshape(-1, 45),
        "jaw_pose": np.zeros((len(frames), 3)),
        "betas": np.tile(betas, (len(frames), 1)),
        "expression": np.zeros((len(frames), 10)),
        "transl": np.zeros((len(frames), 3)),
    }


def as_seen(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As monocular fits store it: y down (upside down to us), fingers without the mean hand, the camera far away."""
    return params | {
        "global_orient": params["global_orient"] + (np.pi, 0, 0),
        "left_hand_pose": params["left_hand_pose"] - HANDS_MEAN[0],
        "right_hand_pose": params["right_hand_pose"] - HANDS_MEAN[1],
        "transl": params["transl"] + (0, 0.7, 20),
    }


def write_signavatars(folder: Path, name: str, params: dict[str, np.ndarray]) -> Path:
    seen = np.ones(len(params["body_pose"]), bool)
    columns = np.concatenate([params[part] for part in params], axis=1).astype(np.float32)
    path = folder / f"{name}.pkl"
    path.write_bytes(
        pickle.dumps({"smplx": columns, "left_valid": seen, "right_valid": seen, "height": 720, "width": 1280})
    )
    return path


def write_smplerx(folder: Path, name: str, params: dict[str, np.ndarray]) -> None:
    frames = folder / name / "smplx"
    frames.mkdir(parents=True)
    for number in range(len(params["body_pose"])):
        frame = {part: values[number].reshape(1, -1) for part, values in params.items()}
        for part in ("body_pose", "left_hand_pose", "right_hand_pose"):
            frame[part] = frame[part].reshape(1, -1, 3)
        np.savez(frames / f"{number + 1:05}_0.npz", **frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    out = parser.parse_args().out
    if out.exists():
        parser.error(f"{out} exists; remove it or name another")
    sentences = list(itertools.product(WHO, DOES, WHAT))
    order = np.random.default_rng(0).permutation(len(sentences))
    splits = {"train": order[:44], "val": order[44:50], "test": order[50:]}
    (out / "signavatars").mkdir(parents=True)
    (out / "smplerx").mkdir()
    for split, chosen in splits.items():
        rows = []
        for index, take in itertools.product(chosen, range(TAKES[split])):
            who, does, what = sentences[index]
            video, signer = f"inv{index:02}" if index else "-inv00", take % 2  # ids of videos may begin with a dash
            name = f"{video}_{take}-{signer}-rgb_front"
            params = as_seen(motion([who, does, what], signer, take))
            if signer or index % 5 == 0:
                write_smplerx(out / "smplerx", name, params)
            else:
                write_signavatars(out / "signavatars", name, params)
            rows.append(
                (video, f"{video}-{signer}-rgb_front", f"{video}_{take}", name, 0.0, len(params["body_pose"]) / FPS)
            )
            rows[-1] += (f"{WHO[who]} {does} {what}.",)
        with open(out / f"how2sign_realigned_{split}.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t")
            table.writerow(
                "VIDEO_ID VIDEO_NAME SENTENCE_ID SENTENCE_NAME START_REALIGNED END_REALIGNED SENTENCE".split()
            )
            table.writerows(rows)
    break_some(out)
    count = sum(len(splits[split]) * TAKES[split] for split in splits)
    print(f"{count} clips of 2 invented signers written to {out}, some of them broken")


def break_some(out: Path) -> None:
    """What a folder of fits has after a month: half a download, an empty file, a fit that failed, a clip of half an
    hour's recording that nobody cut, a clip without a text."""
    first, second, third, fourth, *_ = sorted((out / "signavatars").glob("inv*.pkl"))
    first.write_bytes(first.read_bytes()[:5000])
    second.write_bytes(b"")
    third.write_bytes(pickle.dumps({"smplx": np.full((60, 182), np.nan, np.float32)}))
    content = pickle.loads(fourth.read_bytes())
    fourth.write_bytes(pickle.dumps({"smplx": np.tile(content["smplx"], (12, 1))}))
    write_signavatars(out / "signavatars", "inv99_0-0-rgb_front", as_seen(motion(["i", "see"], 0, 0)))


if __name__ == "__main__":
    main()
