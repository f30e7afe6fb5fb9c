"""What file names are taken for: known data sets, look-alikes, mixtures, and who speaks in each clip."""

from __future__ import annotations

import pytest

from orchestrator.data.importers import Listing, SourceClip, recognise
from orchestrator.errors import DataError

VOXCELEB2 = [
    f"{front}{who}/{video}/{clip:05d}.mp4"
    for front in ("dev/mp4/", "test/mp4/")
    for who, video in (("id00012", "21Uxsk56VDQ"), ("id00017", "01dfn2spqyE"), ("id06913", "_-4XpB gxyz"))
    for clip in (1, 2, 110)
]
LRS3 = [f"lrs3_v0.4/{name}/{i:05d}.mp4" for name in ("pretrain/0af00UcTOSc", "trainval/0af00UcTOSc") for i in (1, 50)]
LRS2 = [f"mvlrs_v1/{name}/{i:05d}.mp4" for name in ("main/5535415699068794046", "pretrain/5535496873") for i in (1, 9)]
HDTF = {
    "RD_Radio10_000.mp4": "Radio10",
    "RD_Radio1_000.mp4": "Radio1",
    "WDA_BarackObama_000.mp4": "BarackObama",
    "WDA_BarackObama_001.mp4": "BarackObama",
    "WRA_LamarAlexander_000.mp4": "LamarAlexander",
    "WRA_LamarAlexander0_000.mp4": "LamarAlexander",
    "clips/WDA_NancyPelosi3_crop_256_002.mp4": "NancyPelosi",
    "clips/WDA_ChrisVanHollen1_000_0004.mp4": "ChrisVanHollen",
}


def speakers(listing: Listing) -> dict[str, str]:
    return {clip.source: clip.speaker for clip in listing.clips}


def frames(folder: str, count: int = 3) -> list[str]:
    return [*(f"{folder}/{number}.jpg" for number in range(count)), f"{folder}/audio.wav"]


def test_voxceleb2() -> None:
    others = ["dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "dev/txt/id00012/21Uxsk56VDQ/00001.txt", "vox2_meta.csv"]
    listing = recognise([*others, *VOXCELEB2])
    assert listing.layout == "voxceleb2"
    assert speakers(listing) == {name: name.split("/")[2] for name in sorted(VOXCELEB2)}
    assert {clip.tag for clip in listing.clips} == {"voxceleb2"}
    assert {clip.tag for clip in recognise(VOXCELEB2, speaker="file").clips} == {"voxceleb2"}
    assert listing.notes == (
        "taken for VoxCeleb2: 18 of 18 clips lie as idXXXXX/<video>/00001.mp4",
        "the speaker of a clip is the idXXXXX folder: 3 speakers",
        "left aside: 3 files that are no clip (1 .csv, 1 .m4a, 1 .txt)",
    )


@pytest.mark.parametrize("front", ["", "dev/mp4/", "vox/dev/mp4/"])
def test_voxceleb2_wherever_the_root_is(front: str) -> None:
    assert speakers(recognise([f"{front}id00012/abc/00001.mp4"])) == {f"{front}id00012/abc/00001.mp4": "id00012"}


@pytest.mark.parametrize("names", [LRS2, LRS3])
def test_lrs_knows_a_broadcast_in_all_its_sets(names: list[str]) -> None:
    listing = recognise([*names, *(name.replace(".mp4", ".txt") for name in names)])
    assert listing.layout == "lrs"
    assert speakers(listing) == {name: name.split("/")[2] for name in sorted(names)}


def test_lrs_without_its_sets_is_known_by_the_words_beside() -> None:
    names = ["0af00UcTOSc/00001.mp4", "0akiEFwtkyA/00002.mp4"]
    assert recognise(names).layout == "folder"
    assert recognise([*names, *(name.replace(".mp4", ".txt") for name in names)]).layout == "lrs"


def test_hdtf_is_told_by_person_and_programme() -> None:
    listing = recognise(list(HDTF))
    assert listing.layout == "hdtf"
    assert speakers(listing) == HDTF


def test_wav2lip_frames() -> None:
    names = [*frames("main/5535/00001"), *frames("main/5535/00002"), *frames("main/6000/00001", 1), "main/log.txt"]
    listing = recognise(names)
    assert listing.layout == "wav2lip"
    assert listing.clips[1] == SourceClip("main/5535/00002", "5535", "main/5535/00002/audio.wav", tag="lrs")
    assert [clip.speaker for clip in listing.clips] == ["5535", "5535", "6000"]
    assert listing.notes[-1] == "left aside: 1 file that is no clip (1 .txt)"


@pytest.mark.parametrize(
    ("folder", "speaker"),
    [
        ("alone", "alone"),
        ("alone.v2", "alone.v2"),
        ("ann a/clip", "ann a"),
        ("x/y/ann/clip", "ann"),
        ("dev/id00012/21Uxsk56VDQ/00001", "id00012"),
        ("WDA_BarackObama_003", "BarackObama"),
    ],
)
def test_wav2lip_speakers(folder: str, speaker: str) -> None:
    assert speakers(recognise(frames(folder))) == {folder: speaker}


def test_numbered_pictures_without_sound_are_no_clip() -> None:
    assert recognise([f"a/{number}.jpg" for number in range(9)]).clips == ()
    assert recognise(["a/1.txt", "a/audio.wav"], "wav2lip").clips == ()
    assert recognise(["0.jpg", "audio.wav"]).clips == (), "the root itself has no name to go by"


def test_a_few_videos_beside_frames_are_left_aside_and_so_are_a_few_frames_beside_videos() -> None:
    many = [name for number in range(40) for name in frames(f"s{number}/c")]
    listing = recognise([*many, "s1/raw.mp4"])
    assert (listing.layout, len(listing.clips)) == ("wav2lip", 40)
    assert listing.notes[-1] == "left aside: 1 file that is no clip (1 .mp4)"
    listing = recognise([*VOXCELEB2, *frames("cut/00001")])
    assert (listing.layout, len(listing.clips)) == ("voxceleb2", len(VOXCELEB2))
    assert listing.notes[-1] == "left aside: 1 folder of frames and sound, which layout wav2lip would take"


def test_a_plain_folder() -> None:
    names = ["anna/1.mp4", "anna/deep/2.MKV", "李 x/1.mp4", "alone.take.mp4", "notes.txt", "anna/.hidden.mp4"]
    listing = recognise(names)
    assert listing.layout == "folder"
    assert speakers(listing) == {
        "alone.take.mp4": "alone.take",
        "anna/1.mp4": "anna",
        "anna/deep/2.MKV": "anna",
        "李 x/1.mp4": "李 x",
    }
    assert listing.notes[0] == (
        "the speaker of a clip is the first folder of its path (or the file itself when it lies in none): 3 speakers"
    )


@pytest.mark.parametrize(
    "name",
    [
        "id00012/00001.mp4",  # no folder of a video between
        "id0001/abc/00001.mp4",
        "xid00012/abc/00001.mp4",
        "id00012/abc/1.mp4",
        "id00012.mp4",
        "WDA_Obama.mp4",
        "RD_000.mp4",
        "XWDA_Obama_000.mp4",
        "WDA_Obama_00.mp4",
        "main/00001.mp4",
        "main/5535/take.mp4",
        "domain/5535/00001.mp4",
    ],
)
def test_what_only_looks_alike_is_a_plain_folder(name: str) -> None:
    assert recognise([name]).layout == "folder"


def test_a_mixture_is_a_plain_folder_and_says_so() -> None:
    listing = recognise([*VOXCELEB2, *(f"more/{number}.mp4" for number in range(10))])
    assert listing.layout == "folder"
    assert listing.notes[0] == "not taken for VoxCeleb2, although 18 of 28 clips lie as idXXXXX/<video>/00001.mp4"
    assert {clip.speaker for clip in listing.clips} == {"dev", "test", "more"}


def test_a_stray_clip_does_not_hide_a_data_set_but_is_seen() -> None:
    listing = recognise([*VOXCELEB2, "intro.mp4"])
    assert listing.layout == "voxceleb2"
    (stray,) = (clip for clip in listing.clips if clip.source == "intro.mp4")
    assert (stray.status, stray.reason, stray.speaker) == ("rejected", "no_speaker", "")
    assert stray.detail == "its path does not fit VoxCeleb2: idXXXXX/<video>/00001.mp4"
    assert "1 clip rejected as `no_speaker`, the first is intro.mp4" in listing.notes
    (stray,) = (clip for clip in recognise([*VOXCELEB2, "intro.mp4"], "auto", "file").clips if "intro" in clip.source)
    assert (stray.status, stray.speaker) == ("ok", "intro")


def test_a_layout_that_is_asked_for_is_taken() -> None:
    assert speakers(recognise(VOXCELEB2, "folder"))[VOXCELEB2[0]] == "dev"
    assert {clip.reason for clip in recognise(["a/1.mp4"], "hdtf").clips} == {"no_speaker"}
    assert recognise(["a/1.mp4", *frames("b/c")], "wav2lip").clips[0].source == "b/c"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("folder", ["x", "x", "solo"]),
        ("parent", ["anna", "bert", "solo"]),
        ("file", ["x/anna/01", "x/bert/01", "solo"]),
        (r"regex:(\w+)/01", ["anna", "bert", ""]),
        (r"regex:(x)/(?P<speaker>.)", ["a", "b", ""]),
        (r"regex:[a-z]+/..", ["x/an", "x/be", ""]),
        (r"regex:(q)?x|solo", ["", "", ""]),
    ],
)
def test_speaker_rules(rule: str, expected: list[str]) -> None:
    listing = recognise(["x/anna/01.mp4", "x/bert/01.mp4", "solo.mp4"], "auto", rule)
    assert [speakers(listing)[name] for name in ("x/anna/01.mp4", "x/bert/01.mp4", "solo.mp4")] == expected
    for clip in listing.clips:
        assert (clip.reason, clip.status) == (("", "ok") if clip.speaker else ("no_speaker", "rejected"))
        assert bool(clip.detail) == (not clip.speaker)


def test_a_rule_does_not_hide_what_the_root_was_taken_for() -> None:
    listing = recognise(VOXCELEB2, "auto", "parent")
    assert listing.layout == "voxceleb2"
    assert {clip.speaker for clip in listing.clips} == {"21Uxsk56VDQ", "01dfn2spqyE", "_-4XpB gxyz"}


@pytest.mark.parametrize("rule", ["", "first", "regex", "regex:(", "Folder"])
def test_a_bad_rule_is_one_clear_error(rule: str) -> None:
    with pytest.raises(DataError) as caught:
        recognise(["a/1.mp4"], "auto", rule)
    assert (caught.value.reason, repr(rule) in str(caught.value)) == ("bad_speaker_rule", True)


def test_names_that_are_not_unicode_survive() -> None:
    name = b"caf\xe9/1.mp4".decode("utf-8", "surrogateescape")
    (clip,) = recognise([name]).clips
    assert (clip.source, clip.speaker) == (name, name[:4])
