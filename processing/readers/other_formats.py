"""Files that people bring and that hold no motion we can read: what each is called, and the way to one that we can."""

from ..motion_errors import MotionFileError

_TO_GLB = "(filepath='IN'); bpy.ops.export_scene.gltf(filepath='OUT.glb')"
_BLENDER = f'blender -b --python-expr "import bpy; bpy.ops.wm.read_factory_settings(use_empty=True); {{}}{_TO_GLB}"'
_ARRAYS = "save its arrays with np.savez as `joints` (frames, 52, 3) and `fps`, or `pose`, `left_hand` and `right_hand`"
_VIDEO = "take the video: lslm extract VIDEO OUT finds the landmarks in it"
_SKELETON = "it holds no skeleton: export the animated skeleton as .glb or .bvh"
_EXPORT = "open it in the program that made it, or in Blender, and export .glb or .bvh"
_UNPACK = "only gzip and zlib are read; unpack it"
_OTHER = "name the file of the motion"
_FLAT = f"they have no depth, which signing needs; {_VIDEO}"

OF_VIDEO = ("a video", ".mp4 .mov .avi .mkv .webm .m4v .3gp .mpg .mpeg .wmv .flv", (b"\x1aE\xdf\xa3",), "unpack it")
_JSON = ("a JSON file", ".json .jsonl", (), _ARRAYS)
_KEYPOINTS = ("keypoints of pictures, as OpenPose, DWPose and RTMW write them", "", (), _FLAT)
# what it is, its suffixes, how it may begin, and the way
_KNOWN = (
    ("an FBX file", ".fbx", (b"Kaydara FBX", b"; FBX"), "convert it: " + _BLENDER.format("bpy.ops.import_scene.fbx")),
    ("a USD file", ".usd .usda .usdc .usdz", (b"PXR-USDC", b"#usda"), _BLENDER.format("bpy.ops.wm.usd_import")),
    ("a Blender file", ".blend", (b"BLENDER",), "export it there: File, Export, glTF 2.0, with its animation"),
    ("a mesh", ".obj .ply .stl .off .mdd .pc2 .abc", (b"ply\n", b"ply\r", b"Ogawa"), _SKELETON),
    ("a file of markers", ".c3d .trc .tak .vsk", (b"PathFileType",), "solve a skeleton with fingers and export .bvh"),
    ("an animation of another program", ".vmd .pmx .dae .anim .asf .amc .max .ma .mb", (b"Vocaloid Motion",), _EXPORT),
    OF_VIDEO,
    ("a picture", ".png .jpg .jpeg .gif .bmp .tif .tiff .webp", (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), _VIDEO),
    ("an HDF5 or MATLAB file", ".h5 .hdf5 .mat", (b"\x89HDF", b"MATLAB "), _ARRAYS),
    ("a database or records of several clips", ".mdb .lmdb .tfrecord .sqlite .db", (b"SQLite",), _ARRAYS),
    ("a table or text", ".csv .tsv .txt .skels .xlsx .yaml .yml", (), _ARRAYS),
    ("another kind of .pose file", ".pose", (), "expected version 0.1 or 0.2; write it with a current pose-format"),
    ("an annotation", ".eaf .srt .vtt .ass .textgrid", (b"<?xml", b"WEBVTT"), _OTHER),
    ("a sound or a network", ".wav .mp3 .safetensors .gguf .onnx .task .ckpt", (b"ID3", b"GGUF"), _OTHER),
    (
        "an archive",
        ".zip .tar .tgz .7z .rar",
        (b"PK", b"7z\xbc\xaf", b"Rar!"),
        "unpack it, and name a file or a folder",
    ),
    ("compressed", ".bz2 .xz .lzma .lz4 .zst .br", (b"BZh", b"\xfd7zXZ", b'\x04"M\x18', b"\x28\xb5\x2f\xfd"), _UNPACK),
)


def refusal(start: bytes, suffix: str) -> MotionFileError:
    """Why a file that no reader takes is of no use.

    Args:
        start: its first bytes, 500 where it has them. suffix: the last one of its name, with the dot.
    """
    rows = _rows(start, suffix)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[")):
        rows.insert(0, _KEYPOINTS if b'"people"' in start or b"keypoint" in start else _JSON)
    if not rows:
        return MotionFileError(
            "not a motion file: its first bytes are of no format known here, whatever its name; "
            "save the joints with np.savez(path, joints=joints, fps=fps)",
            kind="not a motion file",
        )
    what, _, _, way = rows[0]
    return MotionFileError(f"this is {what}, no motion file: {way}", kind=f"{what}, no motion file")


def is_video(start: bytes, suffix: str) -> bool:
    """Whether a file that no other reader takes is a video; arguments as in [`refusal`]."""
    return OF_VIDEO in _rows(start, suffix)[:1]


def _rows(start: bytes, suffix: str) -> list[tuple]:
    """What a file may be, by its name and then by its beginning."""
    rows = [row for row in _KNOWN if suffix.lower() in row[1].split()]
    rows += [row for row in _KNOWN if start.startswith(row[2])]
    return rows + [OF_VIDEO] * (start[4:8] == b"ftyp" or start.startswith(b"RIFF"))
