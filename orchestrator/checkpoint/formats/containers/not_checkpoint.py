"""Files that are no checkpoints, told as what they are: the commonest real failure is a download of something else.

Contract: `describe` looks at the first bytes only and answers with what the file is and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.checkpoint.formats.base import SourceFile, readable_size, refuse
from orchestrator.errors import CheckpointError, RefusalReason

_DOWNLOAD_AGAIN = "open the address in a browser, or download with the site's own tool, signed in where it asks for it"
_BINARY_KINDS = (
    (b"PK\x05\x06", 0, "an empty zip archive", "download or copy it again"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7-Zip archive", "unpack it; the checkpoint may be inside"),
    (b"Rar!", 0, "a RAR archive", "unpack it; the checkpoint may be inside"),
    (b"\x28\xb5\x2f\xfd", 0, "a Zstandard archive", "unpack it with `zstd -d`; the checkpoint may be inside"),
    (b"ftyp", 4, "an MP4 or MOV video", "give the model file; videos go to `prepare`"),
    (b"\x1aE\xdf\xa3", 0, "a Matroska or WebM video", "give the model file; videos go to `prepare`"),
    (b"RIFF", 0, "a WAV or AVI file", "give the model file; videos go to `prepare`"),
    (b"ID3", 0, "an MP3 file", "give the model file; videos go to `prepare`"),
    (b"OggS", 0, "an Ogg file", "give the model file; videos go to `prepare`"),
    (b"fLaC", 0, "a FLAC file", "give the model file; videos go to `prepare`"),
    (b"\x89PNG", 0, "a PNG image", "give the model file"),
    (b"\xff\xd8\xff", 0, "a JPEG image", "give the model file"),
    (b"%PDF", 0, "a PDF document", "give the model file"),
    (b"\x93NUMPY", 0, "a numpy array file (.npy)", "give the model file"),
    (b"\x89HDF", 0, "an HDF5 file, perhaps of Keras", "this product reads torch and safetensors files"),
    (b"\x08\x00\x00\x00TFL3", 0, "a TensorFlow Lite model", "this product reads torch and safetensors files"),
    (b"GGUF", 0, "a GGUF language model", "this product reads torch and safetensors files"),
    (b"\x7fELF", 0, "a program", "give the model file"),
)


def refuse_file(source: SourceFile) -> CheckpointError:
    """The refusal of a file that no container reads."""
    what, hint = describe(source)
    return refuse(source, RefusalReason.NOT_A_CHECKPOINT, f"is not a checkpoint: it is {what}", hint)


def describe(source: SourceFile) -> tuple[str, str]:
    """What the file is, and what to do."""
    if source.size == 0:
        return "empty (0 bytes)", "download or copy it again"
    for detector in _TEXT_KINDS:
        found = detector(source)
        if found:
            return found
    for magic, offset, what, hint in _BINARY_KINDS:
        if source.head[offset : offset + len(magic)] == magic:
            return what, hint
    if not source.head.strip(b"\x00"):
        return "filled with zeros, as after an interrupted download", "download or copy it again"
    if re.match(rb"\x08[\x01-\x14][\x12\x1a\x22:]", source.head):
        return "an ONNX network", "give the file that it was exported from"
    return (
        f"an unknown binary file of {readable_size(source.size)} that begins with {source.head[:8].hex(' ')}",
        "known are files of torch.save and safetensors",
    )


def _lfs_pointer(source: SourceFile) -> tuple[str, str] | None:
    if not source.head.startswith(b"version https://git-lfs"):
        return None
    size = re.search(rb"^size (\d+)", source.head, re.MULTILINE)
    stands_for = readable_size(int(size.group(1))) if size else "an unknown size"
    return (
        f"a Git LFS pointer of {source.size} bytes that stands for a file of {stands_for}",
        "run `git lfs pull` in the repository it came from",
    )


def _web_page(source: SourceFile) -> tuple[str, str] | None:
    text = _text(source)
    if text is None or not re.search(r"<(!doctype html|html|head|body|\?xml)", text[:1024], re.IGNORECASE):
        return None
    if "virus scan" in text.lower() or "scan this file for viruses" in text:
        return (
            "Google Drive's page that warns of files too large for its virus scan",
            "confirm the download in a browser, or use a downloader that confirms it",
        )
    title = re.search(r"<title[^>]*>([^<]{1,80})", text, re.IGNORECASE)
    return f"a web page{f' titled {title.group(1).strip()!r}' if title else ''}", _DOWNLOAD_AGAIN


def _refused_download(source: SourceFile) -> tuple[str, str] | None:
    text = _text(source)
    if text is None or source.size > 2000 or re.search(r"<(!doctype html|html|body)", text, re.IGNORECASE):
        return None
    found = re.search(
        r"entry not found|access denied|repository not found|accessdenied|nosuchkey|unauthorized|forbidden"
        r"|invalid username or password|gated repo|restricted|rate limit|not found|error 40\d",
        text,
        re.IGNORECASE,
    )
    if not found:
        return None
    return f"a server's refusal that was saved as the file: {text.strip()[:80]!r}", _DOWNLOAD_AGAIN


def _plain_text(source: SourceFile) -> tuple[str, str] | None:
    text = _text(source)
    if text is None:
        return None
    if text.lstrip()[:1] in ("{", "["):
        return "a JSON file", "give the file with the weights; a configuration goes to `train`"
    if re.search(r"^[A-Za-z_][\w.-]*:( |$)", text, re.MULTILINE):
        return "a YAML configuration", "give the file with the weights; a configuration goes to `train`"
    return f"a text file that begins {text.strip()[:60]!r}", "give the file with the weights"


_TEXT_KINDS: tuple[Callable[[SourceFile], tuple[str, str] | None], ...] = (
    _lfs_pointer,
    _refused_download,
    _web_page,
    _plain_text,
)


def _text(source: SourceFile) -> str | None:
    """The beginning as text; none when it is binary."""
    try:
        text = source.head[:3000].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < 2990:  # otherwise a character was cut in two
            return None
        text = source.head[: error.start].decode("utf-8")
    return text if all(char.isprintable() or char in "\r\n\t\ufeff" for char in text) else None
