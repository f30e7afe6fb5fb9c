"""Finding clips in real folders and in remote storage: walking, file lists, tables, and clear errors."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.importers import LAYOUTS, SourceClip, find_clips, open_clips
from orchestrator.errors import DataError, OrchestratorError
from orchestrator.storage import Folder, open_folder

NAMES = ["a/00001.mp4", "b/00001.mp4", "b b/李 1.mov", "notes.txt"]


@pytest.fixture(params=["local", "remote"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """An empty folder, on this machine or in remote storage."""
    if request.param == "local":
        yield open_folder(tmp_path)
        return
    uri = f"memory://{uuid.uuid4().hex}/data"
    yield open_folder(uri)
    memory = fsspec.filesystem("memory")
    if memory.exists(uri):
        memory.rm(uri, recursive=True)


def fill(root: Folder, files: Mapping[str, bytes | str] | list[str]) -> None:
    """Write files; of a list, one byte each."""
    for name, content in (files if isinstance(files, Mapping) else dict.fromkeys(files, "x")).items():
        with root.writer(name) as file:
            file.write(content.encode() if isinstance(content, str) else content)


def found(root: Folder, **options: Any) -> dict[str, str]:
    return {clip.source: clip.speaker for clip in find_clips(root, **options).clips}


def test_a_folder_is_walked(root: Folder) -> None:
    fill(root, NAMES)
    listing = find_clips(root)
    assert listing.layout == "folder"
    assert listing.clips == (
        SourceClip("a/00001.mp4", "a"),
        SourceClip("b b/李 1.mov", "b b"),
        SourceClip("b/00001.mp4", "b"),
    )
    assert found(root, speaker="file")["b/00001.mp4"] == "b/00001"


def test_frame_folders_are_found(root: Folder) -> None:
    fill(root, ["s/c/0.jpg", "s/c/1.jpg", "s/c/audio.wav", "s/d/0.jpg", "s/d/audio.wav"])
    listing = find_clips(root)
    assert listing.layout == "wav2lip"
    assert listing.clips == (SourceClip("s/c", "s", "s/c/audio.wav"), SourceClip("s/d", "s", "s/d/audio.wav"))


def test_hidden_files_links_and_strange_bytes(tmp_path: Path) -> None:
    fill(open_folder(tmp_path), ["a/1.mp4", "a/._1.mp4", ".cache/2.mp4"])
    (tmp_path / "elsewhere").mkdir()
    fill(open_folder(tmp_path / "elsewhere"), ["3.mp4"])
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "a" / "loop.mp4").symlink_to("loop.mp4")
    strange = os.fsencode(tmp_path) + b"/a/caf\xe9.mp4"
    try:
        Path(os.fsdecode(strange)).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    assert found(open_folder(tmp_path)) == {"a/1.mp4": "a", "a/caf\udce9.mp4": "a", "elsewhere/3.mp4": "elsewhere"}


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    fill(open_folder(tmp_path / "disk"), ["ann/1.mp4"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "set").symlink_to(tmp_path / "disk")
    assert found(open_folder(tmp_path / "root")) == {"set/ann/1.mp4": "set"}


def test_a_list_of_files(root: Folder) -> None:
    base = root.uri
    text = (
        f"\ufeff# chosen by hand\r\na/00001.mp4\r\n\r\n./b//00001.mp4\n{base}/b b/李 1.mov\n a/00001.mp4 \na/gone.mp4\n"
    )
    fill(root, {**dict.fromkeys(NAMES, "x"), "fileslist.txt": text, "not/listed.mp4": "x"})
    listing = find_clips(root)
    assert listing.layout == "fileslist"
    absent = SourceClip("a/gone.mp4", "a", "", 0.0, "", "rejected", "missing", "listed, but there is no such file")
    assert listing.clips == (
        SourceClip("a/00001.mp4", "a"),
        absent,
        SourceClip("b b/李 1.mov", "b b"),
        SourceClip("b/00001.mp4", "b"),
    )
    assert listing.notes[0] == "4 clips from the list fileslist.txt"
    assert listing.notes[-2:] == (
        "fileslist.txt repeats 1 file",
        "fileslist.txt names 1 file not there (`missing`), the first is a/gone.mp4",
    )
    assert found(root, layout="folder")["not/listed.mp4"] == "not"
    assert open_clips(f"{base}/fileslist.txt")[1] == listing


def test_a_list_of_absolute_paths_outside_of_its_folder(tmp_path: Path) -> None:
    fill(open_folder(tmp_path / "videos"), ["ann/1.mp4", "bob/1.mp4", "bob/x/2.mp4"])
    text = (
        f"../videos/ann/1.mp4\n{tmp_path}/videos/bob/x/../1.mp4\n{tmp_path}/videos/bob/x/2.mp4\ns3://bucket/c/3.mp4\n"
    )
    fill(open_folder(tmp_path / "lists"), {"train.txt": text})
    root, listing = open_clips(tmp_path / "lists" / "train.txt")
    assert root.local_path == tmp_path / "lists"
    assert [clip.source for clip in listing.clips] == [
        *(f"{tmp_path}/videos/{name}" for name in ("ann/1.mp4", "bob/1.mp4", "bob/x/2.mp4")),
        "s3://bucket/c/3.mp4",
    ]
    (tmp_path / "lists" / "train.txt").write_text("\n".join(text.split("\n")[:3]))
    _, listing = open_clips(tmp_path / "lists" / "train.txt")
    assert [clip.speaker for clip in listing.clips] == ["ann", "bob", "bob"]


def test_a_list_of_a_known_data_set_knows_its_speakers(tmp_path: Path) -> None:
    names = [f"vox/dev/mp4/id0001{number}/abc/00001.mp4" for number in range(3)]
    fill(open_folder(tmp_path), names)
    (tmp_path / "fileslist.txt").write_text("\n".join(f"{tmp_path}/{name}" for name in names))
    assert found(open_folder(tmp_path)) == {name: name.split("/")[3] for name in names}


def test_a_layout_says_how_the_paths_of_a_list_lie(tmp_path: Path) -> None:
    names = ["vox/id00012/abc/00001.mp4", "own/1.mp4", "own/2.mp4"]
    fill(open_folder(tmp_path), names)
    (tmp_path / "some.txt").write_text("\n".join(names))
    assert [clip.speaker for clip in open_clips(tmp_path / "some.txt")[1].clips] == ["own", "own", "vox"]
    clips = open_clips(tmp_path / "some.txt", "voxceleb2")[1].clips
    assert [(clip.speaker, clip.reason) for clip in clips] == [("", "no_speaker"), ("", "no_speaker"), ("id00012", "")]
    for name, layout in (("some.txt", "wav2lip"), ("some.txt", "table"), ("clips.csv", "hdtf")):
        with pytest.raises(DataError, match=f"layout {layout} does not fit {name}") as caught:
            open_clips(tmp_path / name, layout)
        assert caught.value.reason == "bad_layout"


def test_a_link_is_no_second_spelling(tmp_path: Path) -> None:
    fill(open_folder(tmp_path / "real"), ["a/1.mp4"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "fileslist.txt").write_text(f"a/1.mp4\n{tmp_path}/real/a/1.mp4\n{tmp_path}/link/a/1.mp4\n")
    assert found(open_folder(tmp_path / "link")) == {"a/1.mp4": "a"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "lists no file"),
        ("# only this\n\n", "lists no file"),
        ("x/1.mp4\ny/2.mp4\n", "none of the 2 files that"),
        (b"\0\0\0\x18ftypmp42", "is not text"),
    ],
)
def test_a_list_that_is_none(root: Folder, content: bytes | str, words: str) -> None:
    fill(root, {"a/1.mp4": "x", "fileslist.txt": content})
    with pytest.raises(DataError) as caught:
        find_clips(root)
    assert (caught.value.reason, words in caught.value.message) == ("bad_list", True), caught.value


ROWS: list[dict[str, Any]] = [
    {"source": "b/2.mp4", "speaker": "bob", "av_offset_s": -0.04, "split": "val", "quality": 0.9, "tag": "site"},
    {"source": "a/1 李.mp4", "speaker": "ann", "language": "中文"},
    {"source": "f/c", "speaker": "eve", "audio": "f/c/audio.wav"},
    {"source": "a/3.mp4", "speaker": "", "status": "rejected", "reason": "no_face", "detail": "nobody is seen"},
]
CLIPS = (
    SourceClip("a/1 李.mp4", "ann", language="中文"),
    SourceClip("a/3.mp4", "", status="rejected", reason="no_face", detail="nobody is seen"),
    SourceClip("b/2.mp4", "bob", "", -0.04, "val", tag="site"),
    SourceClip("f/c", "eve", "f/c/audio.wav"),
)


def table(kind: str, rows: list[dict[str, Any]]) -> bytes:
    """The rows as the bytes of a table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "csv":
        lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
        return "".join(",".join(f'"{value}"' for value in line) + "\r\n" for line in lines).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({column: [row.get(column) for row in rows] for column in columns}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_table_of_clips(root: Folder, kind: str) -> None:
    fill(root, {f"clips.{kind}": table(kind, ROWS), "fileslist.txt": "x"})
    fill(root, ["a/1 李.mp4", "b/2.mp4", "f/c/0.jpg", "f/c/audio.wav"])
    listing = find_clips(root)
    assert (listing.layout, listing.clips) == ("table", CLIPS)
    assert listing.notes == (
        f"4 clips from the table clips.{kind}",
        "the speaker of a clip is what the table says: 3 speakers",
        "columns that mean nothing here were left aside: quality",
    )
    assert found(root, speaker="parent")["f/c"] == "f"
    assert open_clips(f"{root.uri}/clips.{kind}")[1] == listing


def test_a_clip_of_a_table_that_is_not_there_is_rejected_and_listed(root: Folder) -> None:
    fill(
        root, {"clips.csv": table("csv", [row for row in ROWS if row["speaker"]]), "a/1 李.mp4": "x", "f/c/0.jpg": "x"}
    )
    listing = find_clips(root)
    assert {clip.source: clip.reason for clip in listing.clips} == {
        "a/1 李.mp4": "",
        "b/2.mp4": "missing",
        "f/c": "missing",  # its sound is
    }
    assert "clips.csv names 2 clips not there (`missing`), the first is b/2.mp4" in listing.notes
    fill(root, {"clips.csv": "source,speaker\na/9.mp4,ann\n"})
    with pytest.raises(DataError, match=r"none of the 1 clip of \S*clips\.csv is there, the first is a/9\.mp4"):
        find_clips(root)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"source": ""}, "column source: must not be empty"),
        ({"speaker": ""}, "column speaker: must not be empty"),
        ({"source": "b/../a/1 李.mp4"}, "source 'a/1 李.mp4' stands in"),
        ({"source": "."}, "column source: must be a clip"),
        ({"av_offset_s": "late"}, "column av_offset_s: must be seconds between -60 and 60, but is 'late'"),
        ({"av_offset_s": "nan"}, "column av_offset_s: must be seconds"),
        ({"av_offset_s": "40000"}, "column av_offset_s: must be seconds"),
        ({"split": "test"}, "column split: must be train or val (or empty), but is 'test'"),
        ({"status": "done"}, "column status: must be ok or rejected"),
    ],
)
def test_a_bad_value_names_line_and_column(tmp_path: Path, kind: str, row: dict[str, Any], words: str) -> None:
    good = {"source": "a/1 李.mp4", "speaker": "ann", "av_offset_s": "0.5"}
    fill(open_folder(tmp_path), {f"clips.{kind}": table(kind, [good, {"source": "a/2.mp4", "speaker": "ann", **row}])})
    with pytest.raises(DataError) as caught:
        find_clips(open_folder(tmp_path))
    where = {"parquet": "row 2", "csv": "line 3", "jsonl": "line 2"}[kind]
    assert caught.value.reason == "bad_table"
    assert f"clips.{kind}, {where}" in caught.value.message and words in caught.value.message, caught.value


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("clips.csv", "", "has no column source and no speaker; it has none"),
        ("clips.csv", "file,speaker\na.mp4,ann\n", "has no column source; it has file, speaker"),
        ("clips.csv", "source,speaker\n", "has no rows"),
        ("clips.csv", "source,speaker\na.mp4,ann\nb.mp4\n", "line 3: has 1 values, but there are 2 columns"),
        ("clips.csv", 'source,speaker\n"a.mp4,ann\n', "line 2"),
        ("clips.jsonl", '{"source": "a.mp4", "speaker": "ann"}\n{"source"', "line 2: is no JSON"),
        ("clips.jsonl", "[1, 2]\n", "line 1: is no JSON object"),
        ("clips.jsonl", '{"source": 3, "speaker": "ann"}', "line 1, column source: must be text, but is 3"),
        ("clips.jsonl", '{"source": "a.mp4", "speaker": ["x"]}', "line 1, column speaker: must be text"),
        ("clips.parquet", "PAR1 no more", "is no Parquet file"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, name: str, content: str, words: str) -> None:
    fill(open_folder(tmp_path), {name: content, "a.mp4": "x"})
    with pytest.raises(DataError) as caught:
        find_clips(open_folder(tmp_path))
    assert (caught.value.reason, words in caught.value.message) == ("bad_table", True), caught.value
    assert found(open_folder(tmp_path), layout="folder") == {"a.mp4": "a"}


def test_numbers_are_names_of_speakers_too(tmp_path: Path) -> None:
    fill(open_folder(tmp_path), {"a.mp4": "x", "clips.jsonl": '{"source": "a.mp4", "speaker": 17}'})
    assert found(open_folder(tmp_path)) == {"a.mp4": "17"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layout": "voxceleb3"}, "bad_layout"),
        ({"speaker": "regex:["}, "bad_speaker_rule"),
        ({"layout": "table"}, "missing"),
        ({"layout": "fileslist"}, "missing"),
        ({"layout": "wav2lip"}, "no_videos"),
        ({}, "no_videos"),
    ],
)
def test_nothing_to_find_is_one_clear_error(root: Folder, options: dict[str, str], reason: str) -> None:
    fill(root, ["only.txt"])
    with pytest.raises(DataError) as caught:
        find_clips(root, **options)
    assert caught.value.reason == reason


def test_a_folder_or_list_that_is_not_there(tmp_path: Path) -> None:
    for where in (tmp_path / "absent", tmp_path / "absent.txt", tmp_path / "absent" / "clips.csv"):
        with pytest.raises(OrchestratorError, match="there is no") as caught:
            open_clips(where)
        assert getattr(caught.value, "reason", "") == "missing"


def test_a_single_video_is_no_folder(tmp_path: Path) -> None:
    fill(open_folder(tmp_path), ["a.mp4"])
    with pytest.raises(DataError, match=r"a\.mp4 is a file, but no list of videos"):
        open_clips(tmp_path / "a.mp4")


def test_a_folder_named_like_a_list_is_a_folder(tmp_path: Path) -> None:
    fill(open_folder(tmp_path / "set.txt"), ["a/1.mp4"])
    assert [clip.source for clip in open_clips(tmp_path / "set.txt")[1].clips] == ["a/1.mp4"]


def test_every_layout_can_be_asked_for(root: Folder) -> None:
    fill(root, {"a/1.mp4": "x", "fileslist.txt": "a/1.mp4", "clips.jsonl": '{"source": "a/1.mp4", "speaker": "a"}'})
    fill(root, ["w/0.jpg", "w/audio.wav"])
    for layout in LAYOUTS:
        expected = "table" if layout == "auto" else layout
        assert find_clips(root, layout).layout == expected
