"""Tables of texts as the field writes them, the join with motion files, and splits that never move."""

import json
import os
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lslm.training.dataset.build import tables
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
        ("a.csv", "id,text\na,добрый день\n".encode("cp1251"), "not UTF-8 text, and no Latin-1"),
        ("a.json", '{"a": "x", "a": "y"}', "'a' is there twice, with other values"),
        ("a.jsonl", '{"id": 1, "words": "x"}\n' * 200, "line 1: it has the columns id, words"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    catalogue = Catalogue(tmp_path / "join.sqlite")
    with pytest.raises(ValueError, match=message) as error:
        catalogue.add_texts(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


SAID = 'He said "hi" to me.'
QUOTED = '"He said ""hi"" to me."'
WHOLE = "fields in quotation marks, taken for those of csv and taken off"
STAY = "fields with quotation marks that are not those of csv, and stay (the first in line {})"
AROUND = "texts with quotation marks around them or doubled; are they the table's own?"


@pytest.mark.parametrize(
    "name, content, texts, remarks",
    [
        # csv quoting, whatever the delimiter; a raw mark beside it stays
        ("a.tsv", f"id\ttext\na\t{QUOTED}\nb\tplain\n", [SAID, "plain"], {}),
        ("a.csv", f'id\ttext\na\t{QUOTED}\nb\t5" long\n', [SAID, '5" long'], {STAY.format(3): 1}),
        ("a.csv", f"id;text\r\na;{QUOTED}\r\n", [SAID], {}),
        ("a.csv", 'id,text\na, "one, two" \n', ["one, two"], {}),
        ("a.tsv", '"id"\t"text"\n"a"\t"x"\n', ["x"], {WHOLE: 4}),
        ("a.tsv", 'id\ttext\na\t"one\ttwo\nthree"\nb\tx\n', ["one\ttwo\nthree", "x"], {}),
        ("a.csv", 'id,text\na,"line one\nline two"\n', ["line one\nline two"], {}),
        # tabs without quoting, and Phoenix
        ("a.tsv", f'id\ttext\na\t{SAID}\nb\t"All of it."\n', [SAID, '"All of it."'], {AROUND: 1}),
        ("a.tsv", 'id\ttext\na\t"Hi, she said\nb\tyou."\n', ['"Hi, she said', 'you."'], {}),
        ("a.csv", 'name|orth|translation\nx-1|O|"ja"\n', ['"ja"'], {AROUND: 1}),
        # a mark that nothing closes does not take the rest of the table
        ("a.csv", 'id,text\na,"Hi\nb,"x"\nc,y\n', ['"Hi', "x", "y"], {STAY.format(2): 1}),
        ("a.csv", 'id,text\na,"Hi" she said\nb,x\n', ['"Hi" she said', "x"], {STAY.format(2): 1}),
        ("a.csv", 'id,text\na,"""All."""\n', ['"All."'], {AROUND: 1}),
        # which delimiter
        ("a.csv", "id,gloss|split|x,text\na,b,hello\n", ["hello"], {}),
        ("a.csv", 'id,text\na,"one; two; three"\n', ["one; two; three"], {}),
        ("a.csv", "sep=;\nid;text\na;one, two\n", ["one, two"], {}),
        # columns without a name: pandas' index, a comma at the end of lines
        ("a.csv", ",id,text\n0,a,hello\n1,b,hi\n", ["hello", "hi"], {}),
        ("a.csv", "id,text,\na,hello,\nb,hi\n", ["hello", "hi"], {}),
        ("a.csv", "\nid,text\na,hello,\nb,hi,\n", ["hello", "hi"], {}),
        ("a.csv", "x,,id,text\n1,lost,a,hello\n", ["hello"], None),
        # encodings
        ("a.csv", b"\xef\xbb\xbfid;text\r\na;caf\xc3\xa9\r\n", ["café"], {}),
        ("a.csv", "id,text\na,café\n".encode("utf-16"), ["café"], {}),
        ("a.csv", "id\ttext\na\tcafé\n".encode("utf-16-le"), ["café"], {}),
        ("A.JSONL", '{"id": "a", "text": "café"}\n'.encode("utf-16"), ["café"], {}),
        ("a.json", '{"a": "café"}'.encode("utf-8-sig"), ["café"], {}),
        ("a.csv", "id,text\na,“café”\n".encode("cp1252"), ["“café”"], None),
        # other line ends are characters; so is what is long
        ("a.csv", "id,text\na,x\u2028y\x85z\nb,w\rc,v\n", ["x\u2028y\x85z", "w", "v"], {}),
        ("a.jsonl", '{"id": "a", "text": "x\u2029y"}\n', ["x\u2029y"], {}),
        ("a.csv", f"id,text\na,{'long ' * 40000}\n", [("long " * 40000).strip()], {}),
    ],
)
def test_dialects(tmp_path, name, content, texts, remarks):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = Counter()
    rows = list(read_texts(tmp_path / name, remarks=found))
    assert [row.text for row in rows] == texts
    assert all(row.extra.keys() <= {"gloss|split|x", "x", "orth"} for row in rows)
    if remarks is None:
        assert len(found) == 1
    else:
        assert found == {f"{name}: {remark}": count for remark, count in remarks.items()}


@pytest.mark.parametrize("line", ['a,"Hi, she said', '"a,"Hi', 'a,"He said ""no""', 'a,b","c'])
def test_marks_that_nothing_closes_are_looked_at_twice_at_most(monkeypatch, line):
    """Each such mark looks for its end in the lines that follow: not again and again from its own line on."""
    looked_at = []
    monkeypatch.setattr(
        tables, "_cells", lambda text, mark, cells=tables._cells: (looked_at.append(text), cells(text, mark))[1]
    )
    rows = list(tables._records([f"{line}\n"] * 300, ",", True, seen := Counter()))
    assert [cells for _, cells in rows] == [line.split(",")] * 300 and seen["first"] == 1
    assert sum(map(len, looked_at)) < 3 * 300 * (len(line) + 1)


def test_one_bad_row_is_left_out_alone(tmp_path):
    huge = "9" * 400
    rows = ['{"id": "a", "text": "x", "n": 1}', f'{{"id": "b", "text": "x", "n": {huge}}}', "[" * 5000]
    rows += ['{"id": "c", "text": ["x", "y"]}', '{"id": "d", "text": NaN, "n": 2}', '{"id": "e", "words": "x"}']
    rows += ['{"id": "\\ud800", "text": "x"}', '{"id": "f", "text": "x", "n": "one"}', '{"id": "g", "text": "y"}']
    rows += ['{"id": "h", "text": "x", "text": "y"}', f'{{"id": {huge}, "text": "x"}}']
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join([*rows, '{"id": "i", "text": "é"}', ""]).encode() + b'{"id": "j", "text": "\xff"}\n')
    catalogue = Catalogue(tmp_path / "join.sqlite")
    catalogue.add_texts(path)
    catalogue.add_files(tmp_path)
    reasons = [fault.reason.split(": ", 1)[1][:40] for fault in catalogue.left_out() if "a.jsonl" in fault.reason]
    assert sorted(reasons) == [
        "bytes that are not utf-8",
        "half a character (a lone surrogate)",
        "it has the columns id, words; expected i",
        "n is '9999999999999999999999999999999999",
        "n is 'one', where others have int64",
        "not JSON ('text' is there twice, with ot",
        "not JSON (maximum recursion depth exceed",
        "text is a list, expected a string",
    ]
    left = [(fault.id, fault.reason) for fault in catalogue.left_out() if fault.reason == "no motion file"]
    assert [id for id, _ in left] == [huge, "a", "d", "g", "i"]  # read, and without a file here
    assert str(catalogue.columns["n"]) == "int64" and catalogue.tables == {"a.jsonl": 13}
    table = write(tmp_path / "b.csv", "id,text\na,x\nb,\xe9\n")
    table.write_bytes(table.read_bytes() + b"c,\xff\n")
    assert [getattr(row, "reason", row.id if isinstance(row, Text) else "") for row in read_texts(table)] == [
        "a",
        "b",
        "b.csv, line 4: bytes that are not utf-8",
    ]


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


def spans(clips):
    return {clip["id"]: (clip["file"], clip.get("span")) for rows in clips.values() for clip in rows}


def test_how2sign_is_cut_only_where_the_whole_recording_lies(joined):
    def line(n, start):
        return {
            **{"VIDEO_ID": "v", "VIDEO_NAME": "v-5-rgb_front", "SENTENCE_NAME": f"v_{n}-5-rgb_front"},
            **{"START_REALIGNED": f"{start}", "END_REALIGNED": f"{start + 2.5}", "SENTENCE": f"x{n}"},
        }

    rows = [line(0, 0.0), line(1, 3.5), line(2, 7.0)]
    clips, left_out = joined(rows, ["a/v_1-5-rgb_front.npz", "v-5-rgb_front.pkl"])
    assert spans(clips) == {
        "v_0-5-rgb_front": ("v-5-rgb_front.pkl", [0.0, 2.5, "s"]),
        "v_1-5-rgb_front": ("a/v_1-5-rgb_front.npz", None),  # its own file is already cut
        "v_2-5-rgb_front": ("v-5-rgb_front.pkl", [7.0, 9.5, "s"]),
    }
    assert not left_out and len([rows for rows in clips.values() if rows]) == 1


@pytest.mark.parametrize(
    "columns, expected",
    [
        ({"start": 1, "end": "2.5"}, [1.0, 2.5, "s"]),
        ({"Start": "0:01:02,5", "End": "1:05"}, [62.5, 65.0, "s"]),
        ({"start_ms": 500, "end_ms": 1500}, [0.5, 1.5, "s"]),
        ({"start": 1.5, "duration": 2}, [1.5, 3.5, "s"]),
        ({"start_frame": 10, "end_frame": 40}, [10.0, 40.0, "frames"]),
        ({"start": -1, "end": -1}, None),
        ({"start": "", "end": None}, None),
    ],
)
def test_times_of_parts(joined, columns, expected):
    clips, _ = joined([row("a", file="rec.npz", **columns), row("b", file="b.npz", **columns)], ["rec.npz", "b.npz"])
    assert spans(clips) == {"a": ("rec.npz", expected), "b": ("b.npz", None)}  # b's own file is cut already


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"start": "one", "end": 2}, "start is 'one', expected a time"),
        ({"start": 3, "end": 2}, "start is 3 and end 2, expected a later end"),
        ({"start": 3, "end": None}, "end is missing, expected a time"),
        ({"start": "nan", "end": "inf"}, "start is 'nan', expected a time"),
    ],
)
def test_times_that_are_none(joined, columns, reason):
    clips, left_out = joined([row("a", file="rec.npz", **columns)], ["rec.npz"])
    assert not pairs(clips) and left_out[0] == Fault("a", None, f"texts.jsonl, line 1: {reason}")


def test_several_texts_of_one_file(joined):
    one, two, four = {"start": 0, "end": 1}, {"start": 1, "end": 2}, {"start": 3, "end": 4}
    rows = [row("a", "x", file="r.npz", **one), row("b", "y", file="r.npz", **two)]  # parts
    rows += [row("s", "x", **one), row("s", "x", **four)]  # an id that is a recording
    rows += [row("c", "x", file="t.npz"), row("d", "y", file="t.npz")]  # which of them?
    rows += [row("e", "x", file="u.npz", **one), row("f", "y", file="u.npz", **one), row("g", file="u.npz", **two)]
    rows += [row("h", "x", file="w.npz", **one), row("i", "y", file="w.npz")]  # i is the whole of it?
    rows += [row("j", "x"), row("j", "y"), row("k"), row("k")]
    clips, left_out = joined(rows, [f"{name}.npz" for name in "rstuwjk"])
    assert spans(clips) == {
        "a": ("r.npz", [0.0, 1.0, "s"]),
        "b": ("r.npz", [1.0, 2.0, "s"]),
        "s_0-1": ("s.npz", [0.0, 1.0, "s"]),
        "s_3-4": ("s.npz", [3.0, 4.0, "s"]),
        "g": ("u.npz", [1.0, 2.0, "s"]),
        "h": ("w.npz", [0.0, 1.0, "s"]),
        "k": ("k.npz", None),
    }
    remedy = "give each its start and end, its clip of the file, or a file of its own"
    assert [(fault.id, fault.file, fault.reason.replace("texts.jsonl, line ", "")) for fault in left_out] == [
        *((id, "t.npz", f"2 texts for this file: 5; 6; {remedy}") for id in "cd"),
        *((id, "u.npz", f"2 texts for one part of this file: 7; 8; {remedy}") for id in "ef"),
        ("i", "w.npz", f"2 texts for this file: 11; 10; {remedy}"),
        *(("j", "j.npz", "2 rows with this id, and other texts or files: 12; 13") for _ in "xy"),
        ("k", None, "texts.jsonl: the id is there a second time"),
    ]


def test_clips_of_a_file_by_their_names(joined):
    first, second = {"start": 0, "end": 1}, {"start": 1, "end": 2}
    rows = [row("a", file="d.glb", clip="HELLO"), row("b", file="d.glb", clip="-NO")]
    rows += [row("signs", clip="X"), row("signs", clip=7)]  # an id that is a file
    rows += [row("e1", file="e.glb", clip="A", **first), row("f", file="e.glb", clip="A", **second)]
    rows += [row("g", file="g.glb"), row("h", file="g.glb", clip="A")]  # g is the whole of it?
    rows += [row("i", file="i.glb", clip="A"), row("j", file="i.glb", clip="A"), row("k", clip="")]
    clips, left_out = joined(rows, [f"{name}.glb" for name in ("d", "signs", "e", "g", "i", "k")])
    found = {clip["id"]: (clip["file"], clip.get("clip"), clip.get("span")) for rows in clips.values() for clip in rows}
    assert found == {
        "a": ("d.glb", "HELLO", None),
        "b": ("d.glb", "-NO", None),
        "signs_X": ("signs.glb", "X", None),
        "signs_7": ("signs.glb", "7", None),
        "e1": ("e.glb", "A", [0.0, 1.0, "s"]),
        "f": ("e.glb", "A", [1.0, 2.0, "s"]),
        "h": ("g.glb", "A", None),
        "k": ("k.glb", None, None),
    }
    reasons = {fault.id: fault.reason for fault in left_out}
    assert reasons.keys() == {"g", "i", "j"}
    assert "2 texts for this file: " in reasons["g"] and "2 texts for one part of this file: " in reasons["j"]


def test_a_table_of_files_and_times(joined):
    rows = [{"file": "d/rec.npz", "text": f"t{n}", "start": n, "end": n + 1} for n in range(2)]
    rows.append({"file": "d/own.npz", "text": "x", "start": 7, "end": 8})
    clips, left_out = joined(rows, ["d/rec.npz", "d/own.npz"])
    assert {id: span for id, (_, span) in spans(clips).items()} == {
        "d/rec_0-1": [0.0, 1.0, "s"],
        "d/rec_1-2": [1.0, 2.0, "s"],
        "d/own": [7.0, 8.0, "s"],
    }
    assert not left_out


def test_a_folder_of_clips_is_no_recording(joined):
    rows = [row(f"v_{n}", f"x{n}", video="v", start=n, end=n + 1) for n in range(2)]
    rows += [row(f"w_{n}", f"x{n}", video="w.mp4", start=n, end=n + 1) for n in range(2)]
    clips, left_out = joined(rows, ["v/v_0.npz", "v/v_1.npz", *(f"w/{n:05}.npz" for n in range(9))])
    assert spans(clips) == {
        **{f"v_{n}": (f"v/v_{n}.npz", None) for n in range(2)},
        **{f"w_{n}": ("w", [n, n + 1, "s"]) for n in range(2)},
    }
    assert not left_out


def test_dots_accents_and_suffixes_of_names(joined):
    files = ["take 1.2.npz", "take 1.3.npz", "A.M. (Alt) 6-4.NPZ", "A.M.npz", unicodedata.normalize("NFD", "für.npz")]
    rows = [{"file": "take 1.2", "text": "a"}, {"file": "take 1.3", "text": "b"}, {"file": "take 1.4", "text": "c"}]
    rows += [{"file": "A.M. (Alt) 6-4.npz", "text": "d"}, {"file": "A.M.mp4", "text": "e"}]
    rows += [{"file": unicodedata.normalize("NFC", "für"), "text": "f"}]
    clips, left_out = joined(rows, [*files, "take 1.npz"])
    found = pairs(clips)
    assert {unicodedata.normalize("NFC", id): file for id, file in found.items()} == {
        **{"take 1.2": files[0], "take 1.3": files[1], "A.M. (Alt) 6-4": files[2], "A.M": files[3], "für": files[4]},
    }
    assert left_out == [Fault("take 1.4", None, "no motion file"), Fault(None, "take 1.npz", "no text")]


def test_compressed_motion_files_are_named_like_others(joined):
    rows = [row("a"), row("b", file="b.npz"), row("c", file="c.pkl.gz")]
    clips, left_out = joined(rows, ["a.bvh.gz", "b.npz.gz", "c.pkl.gz", "d.csv.gz"])
    assert pairs(clips) == {"a": "a.bvh.gz", "b": "b.npz.gz", "c": "c.pkl.gz"} and not left_out


def test_a_text_takes_no_file_that_may_be_anothers(joined):
    rows = [row("a"), row("one/b", "x"), row("two/b", "y"), row("c", file="old/c.npz"), row("d", file="d.npz")]
    clips, left_out = joined(rows, ["a.npz", "sub/a.npz", "one/b.npz", "new/c.npz", "d.npz", "sub/d.npz"])
    assert pairs(clips) == {"one/b": "one/b.npz", "c": "new/c.npz", "d": "d.npz"}
    assert [(fault.id, fault.reason.split(";")[0]) for fault in left_out if fault.id] == [
        ("a", "2 files of this name"),
        ("two/b", "one/b.npz is the file of another text: texts.jsonl, line 2"),
    ]


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
    rows = [row("a"), row("gone"), row("twice"), row("a"), row("q/worse"), row("c", split="never")]
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


def test_links_to_nothing_and_out_of_the_source(tmp_path):
    source = tmp_path / "source"
    for name in ("source/a.npz", "far/b.npz", "far/sub/c.npz"):
        write(tmp_path / name, "x")
    for name, target in {
        "b.npz": "far/b.npz",
        "sub": "far/sub",
        "loop.npz": "source/loop.npz",
        "in.npz": "source/a.npz",
    }.items():
        (source / name).symlink_to(tmp_path / target)
    table = write(source / "t.csv", "id,text\na,x\nb,y\nc,z\n")
    (source / "again").symlink_to(source)
    assert find_tables(source) == [table]
    catalogue = Catalogue(tmp_path / "join.sqlite")
    catalogue.add_texts(table)
    catalogue.add_files(source, [table])
    assert pairs({split: list(catalogue.clips(split)) for split in SPLITS}) == {
        "a": "a.npz",
        "b": "b.npz",
        "c": "sub/c.npz",
    }
    named = {remark for remark in catalogue.remarks if "link" in remark}
    assert named == {f"{name}: a link that leads out of the source" for name in ("b.npz", "sub")}
    faults = [(fault.file, fault.reason) for fault in catalogue.left_out()]
    assert faults[0] == ("in.npz", "no text") and faults[1][0] == "loop.npz" and "cannot be opened" in faults[1][1]


def test_half_a_character_is_reported(joined):
    clips, left_out = joined([row("a"), row("b", text="\ud800")], ["a.npz", "b.npz"])
    assert pairs(clips) == {"a": "a.npz"}
    half = "texts.jsonl, line 2: half a character (a lone surrogate)"
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


def dealt(clips):
    return {clip["id"]: split for split, rows in clips.items() for clip in rows}


@pytest.mark.parametrize("column", ["video", "VIDEO_NAME", "file", None])
def test_whatever_names_the_video_keeps_its_clips_together(joined, column):
    rows = [row(f"v{n // 4}_{n}", f"x{n}") for n in range(80)]
    for n, cells in enumerate(rows):
        video = f"v{n // 4}"
        cells |= (
            {"file": f"{video}.npz", "start": n, "end": n + 1}
            if column == "file"
            else {column: video}
            if column
            else {}
        )
    files = {cells.get("file", f"{cells['id']}.npz") for cells in rows}
    clips, _ = joined(rows, files, **({} if column else {"video_before": "_"}))
    splits = dealt(clips)
    assert len(splits) == 80 and set(splits.values()) == set(SPLITS)
    assert all(len({splits[f"v{n // 4}_{n}"] for n in range(first, first + 4)}) == 1 for first in range(0, 80, 4))


def test_a_video_in_two_splits_is_an_error(tmp_path):
    def catalogue(rows, shared=False, **options):
        source = tmp_path / "source"
        table = write(source / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        for cells in rows:
            write(source / cells.get("file", f"{cells.get('id', cells.get('name'))}.npz"), "x")
        catalogue = Catalogue(tmp_path / "join.sqlite", **options)
        catalogue.add_texts(table)
        catalogue.add_files(source, [table])
        catalogue.check_videos(shared)
        return catalogue.remarks

    rows = [row("a", video="v", split="train"), row("b", video="v", split="test"), row("c", video="w", split="test")]
    with pytest.raises(
        ValueError, match="1 videos have clips in several splits, such as 'v': 'b' in test, 'a' in train"
    ):
        catalogue(rows)
    several = "videos with clips in several splits"
    assert catalogue(rows, shared=True)[several] == 1
    assert several not in catalogue(rows, split_by="video") and several not in catalogue(rows[1:])
    one = [row("d", file="r.npz", start=0, end=1, split="train"), row("e", file="r.npz", start=2, end=3, split="test")]
    with pytest.raises(ValueError, match="such as 'r.npz'"):
        catalogue(one)
    with pytest.raises(ValueError, match="such as 'v1'"):
        catalogue([row("v1_0", split="train"), row("v1_1", split="test")], video_before="_")
    # the authors of Phoenix deal the sentences of a broadcast to all splits
    phoenix = [{"name": f"tagesschau-{n}", "orth": "A", "translation": f"x{n}", "split": SPLITS[n]} for n in range(2)]
    assert catalogue(phoenix)[several] == 1


def test_clips_whose_video_nobody_names_are_remarked(tmp_path):
    catalogue = Catalogue(tmp_path / "join.sqlite")
    catalogue.add_texts(write(tmp_path / "t.csv", "id,text,video,split\na,x,,\nb,y,v,\nc,z,,test\n"))
    assert catalogue.remarks == {"t.csv: no column names the video of a clip, so each is dealt by itself": 1}


def test_a_split_by_signer_needs_signers(joined):
    clips, left_out = joined([row("a", signer="s"), row("b")], ["a.npz", "b.npz"], split_by="signer")
    assert pairs(clips) == {"a": "a.npz"} and "no signer" in left_out[0].reason
