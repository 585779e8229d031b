"""glTF 2.0 files with an animation (.gltf, .glb, .vrm, .vrma) -> names and positions of joints.

`mocap_skeletons.named_joints_to_motion_joints` makes the 52 joints of them. Units and axes stay those of the file.

The JSON is read here: pygltflib gives back that JSON as classes, and leaves buffers, key frames and the hierarchy, the
work that there is, to the caller. pygltflib checks the tests.

Files are not trusted: indices, sizes and counts are checked before they are used, nothing outside the file's own folder
is opened, and whatever is wrong becomes a ValueError of one line.
"""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..rotations import normalize
from .clips import choose_clip
from .mocap_bvh import MAX_FPS, MAX_JOINTS, MAX_POSITIONS, Joints, check_size, in_chunks, whole_rate

MAX_BYTES = 2**29  # of the file, and of all buffers beside it: avatars bring their textures
MAX_JSON_BYTES = 2**24  # of JSON, which takes some 25 times as much once it is read
MAX_NUMBERS = 2**25  # in all key frames: ten minutes of 116 joints at 120 frames per second, 270 MB

# Baked animations have a key for every frame. Fewer keys than this a second are poses to interpolate between.
SPARSE_KEYS, SPARSE_FPS = 10.0, 30.0

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
MANY, SLOW_KEYS = 10, 0.9  # keys or joints by which something is told; seconds between the keys of no sign
UNEVEN = 1.05  # scale of one axis by another that changes the length of bones when they turn
_TARGETS = {"translation": 3, "rotation": 4, "scale": 3}
_REST = {"translation": (0.0, 0.0, 0.0), "rotation": (0.0, 0.0, 0.0, 1.0), "scale": (1.0, 1.0, 1.0)}


def read_gltf(content: bytes, folder: Path, clip: str | None = None) -> Joints:
    """Joint positions of an animation of a glTF 2.0 file (.gltf, .glb, .vrm, .vrma).

    Named nodes are joints, except meshes and what hangs on nothing that moves; the bones that VRM declares get their
    VRM names. Sampled at the rate of the animation's own keys (the median spacing of the channel that has most), or at
    30 frames per second if there are fewer than ten keys a second. A buffer may be the binary part of a .glb, a data
    URI, or a file in the same folder.

    Args:
        content: of the file. folder: where it lies, for buffers beside it. clip: which of several animations that move
            the skeleton.

    Returns:
        names of the J joints, positions (T, J, 3) float32 in the file's units (metres, says the standard) with y up,
        and frames per second.

    Raises:
        OSError: a buffer beside the file cannot be opened.
        ValueError: not glTF 2.0, no animation, several and none named, broken, or too large.

    Source: the glTF 2.0 specification, sections 3.6 and 3.11; VRMC_vrm_animation 1.0.
    """
    check_size(len(content), MAX_BYTES)
    try:
        with np.errstate(all="ignore"):  # numbers that overflow or are none are refused, not warned of
            return _gltf_joints(_Gltf(content, folder), clip)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())[:100]
        raise ValueError(f"damaged glTF file ({reason}); export it again") from error


class _Gltf:
    """The JSON of a glTF file and its buffers."""

    def __init__(self, content: bytes, folder: Path):
        self.folder, self.binary = folder, None
        text = self._split(content) if content[:4] == b"glTF" else content
        if len(text) > MAX_JSON_BYTES:
            raise ValueError(f"the JSON of the glTF file has over {MAX_JSON_BYTES >> 20} MB; export the skeleton alone")
        try:
            self.json = json.loads(text)
        except ValueError as error:
            raise ValueError(f"no glTF file, or a damaged one: its JSON cannot be read ({error})"[:200]) from error
        if not isinstance(self.json, dict) or not str(self.json.get("asset", {}).get("version", "")).startswith("2."):
            raise ValueError("expected glTF 2.0 with `asset.version`; export the file again")
        self.buffers: dict[int, bytes] = {}
        self.numbers = 0  # decoded so far
        self.read = 0  # bytes of buffers beside the file

    def _split(self, content: bytes) -> bytes:
        """The JSON chunk of a .glb; the binary one is kept."""
        chunks, position = [], 12
        while position + 8 <= len(content) and len(chunks) < 2:
            size, kind = struct.unpack_from("<II", content, position)
            if size > len(content) - position - 8:
                raise ValueError(f"truncated .glb: {size} bytes promised, {len(content) - position - 8} left")
            chunks.append((kind, content[position + 8 : position + 8 + size]))
            position += 8 + size
        if not chunks or chunks[0][0] != 0x4E4F534A or content[4:8] != b"\2\0\0\0":
            raise ValueError("the .glb file is not of version 2 or has no JSON part; export it again")
        if len(chunks) > 1 and chunks[1][0] == 0x004E4942:
            self.binary = chunks[1][1]
        return chunks[0][1]

    def item(self, name: str, index: Any) -> dict:
        return _item(self.json[name], index, name)

    def buffer(self, index: int) -> bytes:
        if index not in self.buffers:
            stated = self.item("buffers", index)
            uri = stated.get("uri")
            if uri is None and index == 0 and self.binary is not None:
                data = self.binary
            elif isinstance(uri, str) and uri.startswith("data:"):
                head, _, body = uri.partition(",")
                if not head.endswith(";base64"):
                    raise ValueError("a buffer of the glTF file is a data URI without base64; export as .glb")
                try:
                    data = base64.b64decode(unquote(body), validate=True)
                except (binascii.Error, ValueError) as error:
                    raise ValueError(f"a buffer of the glTF file is broken base64 ({error})") from error
            elif isinstance(uri, str):
                name = unquote(uri)
                # nothing but a plain name: no folders, drives, streams or URLs
                if not name or re.search(r'[/\\:*?"<>|\x00-\x1f]', name) or name in (".", ".."):
                    raise ValueError(f"a buffer of the glTF file lies elsewhere ({uri[:60]!r}); export as .glb")
                file = self.folder / name
                if file.exists() and not file.is_file():
                    raise ValueError(f"the buffer {name[:60]!r} of the glTF file is no regular file")
                self.read += file.stat().st_size
                check_size(self.read, MAX_BYTES)
                data = file.read_bytes()
            else:
                raise ValueError(f"buffer {index} of the glTF file is not in it; export as .glb")
            self.buffers[index] = data
        return self.buffers[index]

    def accessor(self, index: Any, kind: str) -> np.ndarray:
        """(count, width) float64 numbers."""
        accessor = self.item("accessors", index)
        if accessor.get("type") != kind or accessor.get("componentType") not in _COMPONENTS:
            stored = f"{accessor.get('componentType')!r:.20} {accessor.get('type')!r:.20}"
            raise ValueError(f"accessor {index} of the glTF file holds {stored}, expected numbers of type {kind}")
        if "sparse" in accessor:
            raise ValueError("the animation of the glTF file is stored sparse; export it again without compression")
        dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
        width, count = _WIDTHS[kind], _whole(accessor.get("count"), "count")
        view = self.item("bufferViews", accessor.get("bufferView"))
        data = self.buffer(_whole(view.get("buffer"), "buffer"))
        start = _whole(view.get("byteOffset", 0), "byteOffset")
        stop = start + _whole(view.get("byteLength"), "byteLength")
        start += _whole(accessor.get("byteOffset", 0), "byteOffset")
        stride = _whole(view.get("byteStride", 0), "byteStride") or width * dtype.itemsize
        if not count or start + (count - 1) * stride + width * dtype.itemsize > min(stop, len(data)):
            raise ValueError(f"truncated glTF file: accessor {index} reads {count} items beyond its buffer")
        self.numbers += count * width  # accessors may share a buffer, which costs the file nothing
        if self.numbers > MAX_NUMBERS:
            raise ValueError(f"the animation has over {MAX_NUMBERS} numbers; cut it into utterances")
        values = np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize)).astype(np.float64)
        if dtype.kind != "f":  # in an animation integers are always fractions of the largest
            values = np.maximum(values / np.iinfo(dtype).max, -1.0)
        if not np.isfinite(values).all():
            raise ValueError(f"accessor {index} of the glTF file holds NaN or infinity; export it again")
        return values


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise ValueError(f"`{name}` of the glTF file is {str(value)[:40]!r}, expected a count; export it again")
    return value


def _item(items: list[dict], index: Any, name: str) -> dict:
    if _whole(index, name) >= len(items):
        raise ValueError(f"the glTF file has {len(items)} {name} and refers to number {index}; export it again")
    return items[index]


def _floats(value: Any, count: int, name: str) -> np.ndarray:
    ok = isinstance(value, (list, tuple)) and len(value) == count
    if not ok or not all(type(number) in (int, float) and math.isfinite(number) for number in value):
        raise ValueError(f"`{name}` of a node is {str(value)[:60]!r}, expected {count} numbers; export the glTF again")
    return np.array(value, dtype=np.float64)


def _gltf_joints(gltf: _Gltf, clip: str | None) -> Joints:
    nodes = gltf.json.get("nodes", [])
    parents = _parents(nodes)
    order = _parents_first(parents)
    names, bones = _node_names(gltf, nodes)
    channels, key_times = _channels(gltf, nodes, bones, clip)
    first, last = min(times[0] for times in key_times), max(times[-1] for times in key_times)
    densest = max(key_times, key=len)
    spacing = float(np.median(np.diff(densest))) if len(densest) > 1 else 0.0
    if spacing >= SLOW_KEYS and len(densest) >= MANY:
        raise ValueError(
            f"{len(densest)} keys of the animation are {spacing:g} s apart; glTF counts seconds, no frames"
        )
    _check_turns(nodes, parents, channels)
    baked = 1 / MAX_FPS <= spacing <= 1 / SPARSE_KEYS
    fps = whole_rate(1 / spacing) if baked else SPARSE_FPS
    if last - first > MAX_POSITIONS / fps:
        raise ValueError(f"the animation lasts {last - first:.0f} seconds; cut it into utterances")
    frames = int(round((last - first) * fps)) + 1
    roots: dict[int, int] = {}
    for node in order:
        roots[node] = roots.get(parents[node], node)
    alive = {roots[node] for node in {*bones, *channels}}
    meshes = {node for node in range(len(nodes)) if "mesh" in nodes[node]} - (bones or channels.keys())
    named = [node for node, name in enumerate(names) if name and roots[node] in alive and node not in meshes]
    if not named:
        raise ValueError("no node of the glTF file has a name; export the skeleton with its bone names")
    slot = {node: place for place, node in enumerate(named)}

    def positions(chunk: slice) -> Iterator[np.ndarray]:
        at = first + np.arange(chunk.start, chunk.stop) / fps
        worlds: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for node in order:
            matrix, place = _local(nodes[node], channels.get(node, {}), at)
            if parents[node] >= 0:
                outer, origin = worlds[parents[node]]
                place = np.einsum("...ij,...j->...i", outer, place) + origin
                matrix = outer @ matrix
            worlds[node] = matrix, place
        for node in slot:
            yield worlds[node][1]

    return [names[node] for node in named], in_chunks(frames, len(nodes), len(named), positions), fps


def _check_turns(nodes: list[dict], parents: list[int], channels: dict[int, dict[str, tuple]]) -> None:
    """Refuse quaternions with w first, which turn most joints by 180 degrees, and scales that stretch what moves."""
    turns = [np.abs(paths["rotation"][1]).mean(0) for paths in channels.values() if "rotation" in paths]
    if len(turns) >= MANY and np.mean([turn.argmax() == 0 for turn in turns]) > 0.5:
        raise ValueError("most joints turn by 180 degrees about x: w stands first; glTF's quaternions are x, y, z, w")
    above = set()
    for node in channels:
        while (node := parents[node]) >= 0 and node not in above:
            above.add(node)
    for node in above:
        scale = np.abs(_floats(nodes[node].get("scale", _REST["scale"]), 3, "scale"))
        if scale.max() > UNEVEN * scale.min():
            raise ValueError(f"a node above the skeleton scales it by {scale.tolist()}; export it with scales applied")


def _parents(nodes: list[dict]) -> list[int]:
    if not 0 < len(nodes) <= MAX_JOINTS:
        raise ValueError(f"the glTF file has {len(nodes)} nodes, expected 1 to {MAX_JOINTS}: a skeleton")
    parents = [-1] * len(nodes)
    for parent, node in enumerate(nodes):
        for child in node.get("children", []):
            _item(nodes, child, "nodes")
            if parents[child] >= 0 or child == parent:
                raise ValueError(f"node {child} of the glTF file has two parents; export it again")
            parents[child] = parent
    return parents


def _parents_first(parents: list[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    order = list(children.get(-1, []))
    for node in order:  # grows while it is walked through
        order += children.get(node, [])
    if len(order) < len(parents):
        raise ValueError("the nodes of the glTF file form a circle; export it again")
    return order


def _node_names(gltf: _Gltf, nodes: list[dict]) -> tuple[list[str], set[int]]:
    """The names of the nodes; where VRM says which bone a node is, that name. And the nodes that are said to be bones,
    by VRM or by the skin of a mesh."""
    bone_nodes = {joint for skin in gltf.json.get("skins", []) for joint in skin["joints"]}
    names = [name if isinstance(name := node.get("name"), str) else "" for node in nodes]
    extensions = gltf.json.get("extensions", {})
    for extension in ("VRM", "VRMC_vrm", "VRMC_vrm_animation"):
        bones = extensions.get(extension, {}).get("humanoid", {}).get("humanBones", {})
        if isinstance(bones, list):  # VRM 0
            bones = {bone["bone"]: bone for bone in bones}
        for bone, stated in bones.items():
            _item(nodes, stated["node"], "nodes")
            names[stated["node"]] = str(bone)
            bone_nodes.add(stated["node"])
    return names, bone_nodes


def _channels(
    gltf: _Gltf, nodes: list[dict], bones: set[int], clip: str | None
) -> tuple[dict[int, dict[str, tuple]], list[np.ndarray]]:
    """{node: {path: (key times, values, interpolation)}} of the animation that is meant, and all key times."""
    animations = []  # with their channels that move nodes: not faces, not materials
    for animation in gltf.json.get("animations", []):
        targets = [(channel.get("target", {}), channel) for channel in animation.get("channels", [])]
        moving = [pair for pair in targets if pair[0].get("path") in _TARGETS and pair[0].get("node") is not None]
        if moving:
            animations.append((animation, moving))
    if not animations:
        raise ValueError("the glTF file has no animation that moves its nodes; export the clip with its animation")
    # the camera may have its own
    animations = [pair for pair in animations if any(target["node"] in bones for target, _ in pair[1])] or animations
    animation, moving = animations[choose_clip([pair[0].get("name") for pair in animations], clip, "animations")]
    channels: dict[int, dict[str, tuple]] = {}
    times_of: dict[int, np.ndarray] = {}
    for target, channel in moving:
        _item(nodes, target["node"], "nodes")
        sampler = _item(animation["samplers"], channel.get("sampler"), "samplers")
        how = sampler.get("interpolation", "LINEAR")
        if how not in ("LINEAR", "STEP", "CUBICSPLINE"):
            raise ValueError(f"the glTF file interpolates by {str(how)[:20]!r}, expected LINEAR, STEP, CUBICSPLINE")
        source = sampler.get("input")
        if source not in times_of:
            times_of[source] = gltf.accessor(source, "SCALAR")[:, 0]
        times = times_of[source]
        if (np.diff(times) < 0).any():
            raise ValueError("key times of the glTF file go backwards; export it again")
        values = gltf.accessor(sampler.get("output"), f"VEC{_TARGETS[target['path']]}")
        if len(values) != len(times) * (3 if how == "CUBICSPLINE" else 1):
            raise ValueError(f"the glTF file has {len(times)} keys with {len(values)} values; export it again")
        channels.setdefault(target["node"], {})[target["path"]] = (times, values, how)
    return channels, list(times_of.values())


def _local(node: dict, channels: dict[str, tuple], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A node's matrix (F | 1, 3, 3) and place (F | 1, 3) in its parent, at the times `at` (F,)."""
    if "matrix" in node and not channels:
        matrix = _floats(node["matrix"], 16, "matrix").reshape(4, 4).T
        return matrix[None, :3, :3], matrix[None, :3, 3]
    values = {}
    for path, count in _TARGETS.items():
        if path in channels:
            values[path] = _sample(*channels[path], at, turns=path == "rotation")
        else:
            values[path] = _floats(node.get(path, _REST[path]), count, path)[None]
    turn = normalize(values["rotation"])[:, [3, 0, 1, 2]]  # glTF writes w last
    return quaternion_to_matrix(turn) * values["scale"][:, None, :], values["translation"]


def quaternion_to_matrix(q: np.ndarray) -> np.ndarray:
    """Unit quaternions `(..., 4)`, w first, as rotation matrices `(..., 3, 3)`."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    first_row = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    second_row = [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    third_row = [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return np.stack(first_row + second_row + third_row, axis=-1).reshape(*q.shape[:-1], 3, 3)


def _sample(times: np.ndarray, values: np.ndarray, how: str, at: np.ndarray, *, turns: bool) -> np.ndarray:
    """Values (F, n) at the times `at` of keys (K,) with values (K, n), or (3 K, n): slope in, value, slope out."""
    if how == "CUBICSPLINE":
        slopes_in, values, slopes_out = values.reshape(len(times), 3, -1).swapaxes(0, 1)
    rounding = 1e-5  # seconds: key times are float32
    key = (np.searchsorted(times, at + rounding, side="right") - 1).clip(0)
    if how == "STEP" or len(times) == 1:
        return values[key]
    key = key.clip(0, len(times) - 2)
    span = (times[key + 1] - times[key])[:, None]
    weight = np.clip((at - times[key])[:, None] / np.where(span > 0, span, 1), 0, 1)
    start, end = values[key], values[key + 1]
    if how == "CUBICSPLINE":
        u, v = weight, 1 - weight
        curve = (1 + 2 * u) * v**2 * start + (1 + 2 * v) * u**2 * end
        return curve + span * u * v * (v * slopes_out[key] - u * slopes_in[key + 1])
    if turns:  # along the great arc, the shorter way
        start, end = normalize(start), normalize(end)
        cosine = (start * end).sum(-1, keepdims=True)
        end, cosine = np.where(cosine < 0, -end, end), np.abs(cosine).clip(0, 1)
        angle = np.arccos(cosine)
        sine = np.sin(angle)
        straight = sine < 1e-6
        sine = np.where(straight, 1, sine)
        near, far = np.sin((1 - weight) * angle) / sine, np.sin(weight * angle) / sine
        return np.where(straight, 1 - weight, near) * start + np.where(straight, weight, far) * end
    return start * (1 - weight) + end * weight
