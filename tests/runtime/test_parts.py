"""The parts of a journal in object storage: everything in order, once, whoever dies or is believed dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.runtime import parts as room
from orchestrator.runtime.parts import JournalParts, journals_of
from orchestrator.storage import LocalFolder


@pytest.fixture
def home(tmp_path: Path) -> LocalFolder:
    """A folder does for what object storage can."""
    return LocalFolder(tmp_path / "home")


def append(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.write(text)


def names(home: LocalFolder) -> list[str]:
    return [entry.name for entry in home.entries()]


def test_a_reader_gets_whole_lines_as_they_come(tmp_path: Path, home: LocalFolder) -> None:
    write, read = tmp_path / "a" / "journal.jsonl", tmp_path / "b" / "journal.jsonl"
    writer, reader = JournalParts(write, home), JournalParts(read, home)
    reader.fetch()
    assert not read.exists()
    append(write, "1\n2\n3")
    writer.push()
    reader.fetch()
    assert read.read_text() == "1\n2\n" and len(names(home)) == 1
    append(write, "3\n")
    writer.push()
    writer.push()
    reader.fetch()
    reader.fetch()
    assert read.read_text() == "1\n2\n33\n" and len(names(home)) == 1


def test_a_full_part_is_followed_by_another(tmp_path: Path, home: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_FULL", 10)
    write, read = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    writer, reader = JournalParts(write, home), JournalParts(read, home)
    for number in range(20):
        append(write, f"line {number}\n")
        writer.push()
        if number % 3 == 0:
            reader.fetch()
    append(write, "x" * 100 + "\n")  # longer than a part
    writer.push()
    reader.fetch()
    assert read.read_text() == write.read_text() and len(names(home)) == 11
    late = tmp_path / "late.jsonl"
    JournalParts(late, home).fetch()
    assert late.read_text() == write.read_text()


def test_a_writer_that_goes_on_writes_after_all_that_was_there(tmp_path: Path, home: LocalFolder) -> None:
    first, second, read = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.jsonl"
    reader = JournalParts(read, home)
    append(first, "1\n")
    JournalParts(first, home).push()
    reader.fetch()
    heir = JournalParts(second, home)
    heir.fetch()
    append(second, "2\n")
    heir.push()
    reader.fetch()
    assert second.read_text() == read.read_text() == "1\n2\n"
    assert [name.split("-")[0] for name in names(home)] == ["00001", "00002"]


def test_one_that_was_believed_dead_is_heard_no_more(tmp_path: Path, home: LocalFolder) -> None:
    zombie_file, heir_file, read = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.jsonl"
    zombie, heir, reader = JournalParts(zombie_file, home), JournalParts(heir_file, home), JournalParts(read, home)
    append(zombie_file, "1\n")
    zombie.push()
    append(heir_file, "2\n")  # its steps since the last checkpoint are done again
    heir.push()
    reader.fetch()
    append(zombie_file, "zombie\n")
    zombie.push()
    append(heir_file, "3\n")
    heir.push()
    reader.fetch()
    assert read.read_text() == "1\n2\n3\n"


def test_a_refused_part_is_written_once(tmp_path: Path, home: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    writer = JournalParts(write, home)
    append(write, "1\n")
    writer.push()
    put = LocalFolder.write

    def answers_with_an_error(folder: LocalFolder, name: str, content: bytes) -> None:
        put(folder, name, content)  # taken, but nobody hears of it
        raise OSError("the connection is gone")

    append(write, "2\n")
    monkeypatch.setattr(LocalFolder, "write", answers_with_an_error)
    with pytest.raises(OSError, match="connection"):
        writer.push()
    monkeypatch.undo()
    append(write, "3\n")
    writer.push()
    JournalParts(read, home).fetch()
    assert read.read_text() == "1\n2\n3\n"


def test_journals_are_found_by_their_parts() -> None:
    files = ["journal/00001-000000-a.jsonl", "trials/000/journal/x", "trials/001/status.json", "my-journal/x", "stop"]
    assert journals_of(files) == ["journal.jsonl", "trials/000/journal.jsonl"]
