"""Who speaks, told from a clip's path: the rule that a person may give instead of the layout's own.

The rules are `auto` (the layout's), `folder` (first folder of the path), `parent` (last folder), `file` (each file its
own) and `regex:PATTERN` (the group named `speaker`, or the first group, or the whole match, found anywhere in the
path). A path without a speaker gives a rejected clip, never a made-up one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.data.importers.clips import OK, REJECTED, SourceClip
from orchestrator.data.importers.names import first_folder, last_folder, relative_to_each_other, without_extension
from orchestrator.errors import DataError

AUTO = "auto"
_REGEX = "regex:"
_RULES: dict[str, Callable[[str], str | None]] = {
    "folder": first_folder,
    "parent": last_folder,
    "file": without_extension,
}
_TOLD = {
    "folder": "the first folder of its path (or the file itself when it lies in none)",
    "parent": "the folder that it lies in (or the file itself when it lies in none)",
    "file": "every file is a speaker of its own",
}
NO_SPEAKER = "no_speaker"
_EXAMPLE = r"for example regex:^(\w+)_\d+"


def check_rule(rule: str) -> None:
    """Refuse a rule that is none.

    Raises:
        DataError: `bad_speaker_rule`.
    """
    if rule != AUTO:
        _function(rule)


def told_by(rule: str) -> str:
    """The rule in words."""
    return _TOLD.get(rule) or f"what {rule.removeprefix(_REGEX)!r} finds in its path"


def with_speakers(clips: Sequence[SourceClip], rule: str) -> list[SourceClip]:
    """The clips with the speakers that a rule (other than `auto`) tells; rejected where it tells none."""
    function = _function(rule)
    # A pattern sees the path as it is listed; folders are counted from the root, or from what absolute paths share.
    paths = [clip.source for clip in clips]
    names = paths if rule.startswith(_REGEX) else relative_to_each_other(paths)
    return [_named(clip, function(name), rule) for clip, name in zip(clips, names, strict=True)]


def without_speaker(clip: SourceClip, detail: str) -> SourceClip:
    """The clip rejected because nobody can say who speaks; an earlier rejection stays."""
    if clip.status != OK:
        return clip
    return replace(clip, speaker="", status=REJECTED, reason=NO_SPEAKER, detail=detail)


def _named(clip: SourceClip, speaker: str | None, rule: str) -> SourceClip:
    if speaker:
        return replace(clip, speaker=speaker)
    return without_speaker(clip, f"{rule.removeprefix(_REGEX)!r} finds no speaker in the path")


def _function(rule: str) -> Callable[[str], str | None]:
    if rule in _RULES:
        return _RULES[rule]
    if not rule.startswith(_REGEX):
        message = f"the speaker rule must be auto, {', '.join(_RULES)} or regex:PATTERN, but is {rule!r}"
        raise DataError(message, reason="bad_speaker_rule", hint=_EXAMPLE)
    pattern = rule.removeprefix(_REGEX)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        message = f"the speaker rule {rule!r} is no regular expression: {error}"
        raise DataError(message, reason="bad_speaker_rule", hint=_EXAMPLE) from error
    return lambda name: _first_group(compiled.search(name))


def _first_group(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    named = match.groupdict()
    if "speaker" in named:
        return named["speaker"]
    return match[1] if match.re.groups else match[0]
