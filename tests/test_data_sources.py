"""Tables of texts as the field writes them, the join with motion files, and splits that never move."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lslm.training.dataset.build.sources import Catalogue, find_tables
from lslm.training.dataset.build.texts import SPLITS, Fault, Text, read_texts

HOW2SIGN = "VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE\n"
PHOENIX = "name|video|start|end|speaker|orth|translation\n"


def texts_of(path, **kwargs):
    return [row for row in read_texts(path, **kwargs) if isinstance(row, Text)]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def joined(tmp_path):
    """Join rows and files: `joined(rows, files, **options)` -> (clips by split, what is left out)."""

    def join(rows, files, table="texts.jsonl", **options):
        source = tmp_path / "source"
        for name in files:
            write(source / name, "x")
        catalogue = Catalogue(tmp_path / "join.sqlite", **options)
        text = write(source / table, "".join(json.dumps(row) + "\n" for row in rows))
        catalogue.add_texts(text, os.path.dirname(table))
        catalogue.add_files(source, [text])
        clips = {split: list(catalogue.clips(split)) for split in SPLITS}
        left_out = list(catalogue.left_out())
        catalogue.close()
        return clips, left_out

    return join


def row(id, text="x", **more):
    return {"id": id, "text": text, **more}


def pairs(clips):
    return {clip["id"]: clip["file"] for rows in clips.values() for clip in rows}


# --- tables -----------------------------------------------------------------------------------------------------------


def test_how2sign(tmp_path):
    line = 'abc\tabc-1-rgb_front\tabc_7\tabc_7-3-rgb_front\t1.5\t4.0\t"Hi, she said\n'
    path = write(tmp_path / "how2sign_realigned_val.csv", HOW2SIGN + line)
    (text,) = texts_of(path)
    assert (text.id, text.key, text.text) == ("abc_7-3-rgb_front",) * 2 + ('"Hi, she said',)  # a quote is a quote
    assert (text.split, text.language, text.signer, text.video, text.fps) == ("validation", "en", "3", "abc", None)
    assert text.extra["START_REALIGNED"] == "1.5" and text.extra["VIDEO_ID"] == "abc"
    # SOKE's copy has commas and a frame rate
    header = HOW2SIGN.replace("\t", ",").strip() + ",fps\n"
    path = tmp_path / "how2sign_realigned_train_preprocessed_fps.csv"
    (text,) = texts_of(write(path, header + 'a,a,s,n-1-rgb_front,0,1,"a, b",29.97'))
    assert (text.split, text.text, text.fps) == ("train", "a, b", 29.97)


def test_phoenix(tmp_path):
    line = "01April_2010_Thursday_heute-6694|01April/1/*.png|-1|-1|Signer08|JETZT WETTER|und nun\n"
    (text,) = texts_of(write(tmp_path / "PHOENIX-2014-T.dev.corpus.csv", PHOENIX + line))
    assert (text.id, text.text, text.signer) == ("01April_2010_Thursday_heute-6694", "und nun", "Signer08")
    assert (text.split, text.language, text.video) == ("validation", "de", "01April_2010_Thursday_heute")
    assert text.extra["orth"] == "JETZT WETTER"


def test_hamnosys(tmp_path):
    content = {"gsl_12": {"hamnosys": "\ue000", "hamnosys_text": "hamflathand", "type_name": "gsl", "video_front": "u"}}
    (text,) = texts_of(write(tmp_path / "data.json", json.dumps(content)))
    assert (text.id, text.text, text.language, text.split) == ("gsl_12", "hamflathand", None, None)
    assert text.extra == {"hamnosys": "\ue000", "type_name": "gsl", "video_front": "u"}


def test_tables_of_ones_own(tmp_path):
    path = write(tmp_path / "a.csv", 'file,text,fps,signer,split,topic\n./b/c.npz,"Hi, you",25,ann,dev,food\n')
    (text,) = texts_of(path, near="sub")
    assert (text.id, text.key, text.near, text.text) == ("b/c", "b/c.npz", "sub/b/c.npz", "Hi, you")
    assert (text.fps, text.signer, text.split, text.extra) == (25.0, "ann", "validation", {"topic": "food"})
    rows = [{"id": 7, "name": None, "file": "x.npz", "text": "t", "language": "fr", "n": 3}, {"id": "b", "text": "u"}]
    path = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    first, second = texts_of(path, language="en")
    assert (first.id, first.key, first.language, first.extra) == ("7", "x.npz", "fr", {"name": None, "n": 3})
    assert (second.key, second.language, second.near) == ("b", "en", None)
    assert [t.text for t in texts_of(write(tmp_path / "c.tsv", 'name\ttext\na\t"x\nb\ty\n'))] == ['"x', "y"]
    assert [t.text for t in texts_of(write(tmp_path / "d.json", '{"a": "x", "b": {"text": "y"}}'))] == ["x", "y"]


def test_rows_that_cannot_be_used_are_named(tmp_path):
    path = write(tmp_path / "a.csv", "id,text,fps,split\na,x,fast,\n,y,,\nb,z\nc,w,20,later\nd,v,20,test\n")
    rows = list(read_texts(path))
    assert [row.reason for row in rows if isinstance(row, Fault)] == [
        "a.csv, line 2: fps is 'fast', expected a number",
        "a.csv, line 3: no id",
        "a.csv, line 4: 2 fields, expected 4",
        "a.csv, line 5: split is 'later', expected train, validation or test",
    ]
    assert rows[0].id == "a" and rows[-1].id == "d" and rows[-1].split == "test"
    (fault,) = read_texts(write(tmp_path / "a.jsonl", "{nonsense\n"))
    assert fault.reason.startswith("a.jsonl, line 1: not JSON")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "number,words\n1,x\n", "expected id, name or file, and text"),
        ("a.csv", "id,text,id\n1,x,2\n", "each once"),
        ("a.json", "[1", "not JSON"),
        ("a.json", "3", "neither an object nor a list"),
        ("a.csv", b"id,text\na,\xff\n", "not UTF-8"),
        ("a.jsonl", '{"id": 1, "text": "x", "n": 1}\n{"id": 2, "text": "x", "n": "one"}', "'n' has values of several"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    catalogue = Catalogue(tmp_path / "join.sqlite")
    with pytest.raises(ValueError, match=message) as error:
        catalogue.add_texts(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_types_of_columns_are_found_over_all_rows(tmp_path):
    rows = [{"id": str(n), "text": "x", "a": n, "signs": [{"take": "t", "end": n}], "none": None} for n in range(1500)]
    rows[-1] |= {"a": 0.5, "signs": [{"take": "t", "seen": True}]}
    catalogue = Catalogue(tmp_path / "join.sqlite")
    catalogue.add_texts(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    types = {name: str(kind) for name, kind in catalogue.columns.items()}
    assert types["a"] == "double" and types["none"] == "null"
    assert all(part in types["signs"] for part in ("take: string", "end: int64", "seen: bool"))


def test_tables_are_found_but_not_too_deep(tmp_path):
    wanted = ["data.json", "b/x.tsv", "a.csv", "train/re_aligned/x_train.csv"]
    for name in [*wanted, "b/meta.json", "a/b/c/deep.csv", ".hidden/x.csv", "out/x.csv"]:
        write(tmp_path / name, "x")
    assert find_tables(tmp_path, skip=tmp_path / "out") == sorted(tmp_path / name for name in wanted)


# --- the join ---------------------------------------------------------------------------------------------------------


def test_files_are_named_by_path_or_by_bare_name(joined):
    rows = [row("stem"), row("one/same"), row("path", file="two/same.npz"), row("video", file="clips/video.mp4")]
    rows += [row("dots.in.it"), row("near", file="here.npz")]
    files = ["deep/down/stem.pkl", "one/same.npz", "two/same.npz", "m/video.npz", "dots.in.it.npz"]
    clips, left_out = joined(rows, [*files, "tables/here.npz", "elsewhere/here.npz"], table="tables/t.jsonl")
    assert pairs(clips) == {
        "stem": "deep/down/stem.pkl",
        "one/same": "one/same.npz",
        "path": "two/same.npz",
        "video": "m/video.npz",
        "dots.in.it": "dots.in.it.npz",
        "near": "tables/here.npz",
    }
    assert left_out == [Fault(None, "elsewhere/here.npz", "no text")]


def test_a_folder_of_frames_is_one_clip(joined):
    rows = [row("clip_a"), row("clip_b"), row("images")]
    files = [f"poses/clip_a/clip_a_{n}_3D.pkl" for n in range(12)]
    files += [f"smplerx/clip_b/smplx/{n:05}_0.npz" for n in range(3)] + ["smplerx/clip_b/meta/00000_0.json"]
    files += [f"poses/lonely/lonely_{n}_3D.pkl" for n in range(9)] + ["images/1.png", "images/2.png"]
    clips, left_out = joined(rows, files)
    assert pairs(clips) == {"clip_a": "poses/clip_a", "clip_b": "smplerx/clip_b"}
    assert left_out == [
        Fault("images", None, "no motion file"),
        Fault(None, "poses/lonely", "no text (a folder of 9 files that differ by a number)"),
    ]


def test_nothing_disappears(joined, tmp_path):
    rows = [row("a"), row("gone"), row("twice"), row("a", text="y"), row("q/worse"), row("c", split="never")]
    files = ["a.npz", "e/twice.npz", "d/twice.pkl", "more.npz", "b/extra.pose", "q/worse.npz", "r/worse.npz"]
    files.append("notes.txt")
    clips, left_out = joined(rows, files)
    assert pairs(clips) == {"a": "a.npz", "q/worse": "q/worse.npz"}
    assert [(fault.id, fault.file, fault.reason) for fault in left_out] == [
        ("gone", None, "no motion file"),
        ("twice", "d/twice.pkl", "2 files of this name; say which in a column `file`"),
        ("a", None, "texts.jsonl: the id is there a second time"),
        ("c", None, "texts.jsonl, line 6: split is 'never', expected train, validation or test"),
        *((None, f, "no text") for f in ("b/extra.pose", "d/twice.pkl", "e/twice.npz", "more.npz", "r/worse.npz")),
    ]


def test_links_hidden_files_and_names_that_are_no_text(joined, tmp_path):
    source = tmp_path / "source"
    (source / "far").mkdir(parents=True)
    (source / "far" / "loop").symlink_to(source)
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere / "b.npz", "x")
    (source / "link").symlink_to(elsewhere)
    (source / os.fsdecode(b"\xff.npz")).write_bytes(b"x")
    clips, left_out = joined([row("a"), row("b")], ["a.npz", ".git/x.npz"])
    assert pairs(clips) == {"a": "a.npz", "b": "link/b.npz"}
    assert left_out == [Fault(None, r"\xff.npz", "the file name is not UTF-8; rename it")]


def test_half_a_character_is_reported(joined):
    clips, left_out = joined([row("a"), row("b", text="\ud800")], ["a.npz", "b.npz"])
    assert pairs(clips) == {"a": "a.npz"}
    half = "texts.jsonl, row 2: half a character (a lone surrogate)"
    assert [fault.reason for fault in left_out] == [half, "no text"]


def test_the_order_is_that_of_the_ids(joined):
    names = [f"c{n}" for n in (3, 10, 1, 2)]
    clips, _ = joined([row(name, split="train") for name in names], [f"{name}.npz" for name in names])
    assert [clip["id"] for clip in clips["train"]] == ["c1", "c10", "c2", "c3"]
    assert clips["train"][0] == dict(id="c1", file="c1.npz", text="x", language=None, fps=None, signer=None, extra={})


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return Catalogue(tmp_path_factory.mktemp("split") / "join.sqlite")


@given(video=st.text(min_size=1, max_size=20), ids=st.lists(st.text(max_size=9), min_size=2))
def test_clips_of_one_video_stay_together(catalogue, video, ids):
    splits = {catalogue._split(Text(id, id, "x", video=video)) for id in ids}
    assert len(splits) == 1 and splits < {*SPLITS}


def test_shares_seeds_and_official_splits(tmp_path):
    catalogues = [Catalogue(tmp_path / f"{seed}.sqlite", seed=seed) for seed in (0, 0, 1)]
    dealt = [[c._split(Text(f"c{n}", f"c{n}", "x")) for n in range(4000)] for c in catalogues]
    assert dealt[0] == dealt[1] != dealt[2]
    assert [round(dealt[0].count(split) / 4000, 1) for split in SPLITS] == [0.8, 0.1, 0.1]
    official = Text("a", "a", "x", split="test", signer="s", video="v")
    assert catalogues[0]._split(official) == "test"
    texts = [Text(f"a{n}", "a", "x", split="test", signer=f"s{n % 2}", video="v") for n in range(40)]
    by = {}
    for way in ("video", "signer", "clip"):
        catalogue = Catalogue(tmp_path / way, split_by=way)
        by[way] = [catalogue._split(text) for text in texts]
    assert len(set(by["video"])) == 1 and len(set(by["clip"])) == 3
    assert len(set(by["signer"][::2])) == len(set(by["signer"][1::2])) == 1


def test_a_split_by_signer_needs_signers(joined):
    clips, left_out = joined([row("a", signer="s"), row("b")], ["a.npz", "b.npz"], split_by="signer")
    assert pairs(clips) == {"a": "a.npz"} and "no signer" in left_out[0].reason
