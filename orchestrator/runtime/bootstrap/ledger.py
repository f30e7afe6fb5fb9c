"""What a bootstrap has done: which rounds are trained, audited and written, and how it ended.

File contract: `<storage>/<name>/rounds.json`, replaced as a whole after every step; `audits/round-N.json` holds what
round N's audit wants written, stored before the manifest is touched, so that a loop that was stopped in between writes
the very same and audits nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from orchestrator.data.revisions import ManifestVersion, Revision, manifest_versions, revise_manifest
from orchestrator.errors import RunError
from orchestrator.runtime.paths import RunPaths, read_json, write_json
from orchestrator.storage import Folder

Ended = Literal["", "settled", "rounds", "blind"]
"""Not yet; so few clips moved that training again is no use; all rounds are done; the network tells nothing."""


@dataclass(frozen=True)
class Round:
    """One round, as far as it is."""

    number: int
    """From 1 on; 0 audits without a network, before anything is trained."""
    run: str = ""
    """The name of its training run; none in round 0."""
    checkpoint: str = ""
    """The best checkpoint of that run."""
    trained: dict[str, float] | None = None
    """What training measured; none before it is done."""
    audited: dict[str, float] | None = None
    """The clips of every status; none before it is done."""
    changed: int = 0
    """Clips that its audit moves by more than half a frame, rejects or brings back."""
    base: int | None = None
    """The version of the manifest that was audited."""
    version: int | None = None
    """The version that holds what the audit says; none before it is written."""


@dataclass(frozen=True)
class Ledger:
    """All rounds."""

    version: int
    """The version of the manifest that the next step is to find."""
    rounds: tuple[Round, ...] = ()
    """The rounds, the last one perhaps unfinished."""
    ended: Ended = ""
    """Why there is no further round."""

    def with_round(self, known: Round) -> Ledger:
        """The same with a round added, or replaced by its newer state."""
        return replace(self, rounds=(*(each for each in self.rounds if each.number != known.number), known))

    def round(self, number: int) -> Round:
        """A round as it stands."""
        return next((each for each in self.rounds if each.number == number), Round(number))


class Books:
    """The ledger of a bootstrap on its storage.

    Args:
        paths: the places of the bootstrap.
        flush: returns when what was written is where it belongs.
    """

    def __init__(self, paths: RunPaths, flush: Callable[[], None] = lambda: None) -> None:
        self._paths, self._flush = paths, flush

    def read(self, corpus: Folder) -> Ledger:
        """The ledger; a new one for a bootstrap that begins.

        Raises:
            RunError: it is damaged.
        """
        known = read_json(self._paths.folder / "rounds.json")
        if known is None:
            return Ledger(manifest_versions(corpus)[-1].number)
        rounds = tuple(Round(**each) for each in known["rounds"])
        return Ledger(known["version"], rounds, known["ended"])

    def write(self, ledger: Ledger) -> Ledger:
        """Store the ledger."""
        write_json(self._paths.folder / "rounds.json", asdict(ledger))
        self._flush()
        return ledger

    def keep(self, number: int, revisions: Iterable[Revision], why: str) -> None:
        """Store what an audit wants written."""
        write_json(self._audit(number), {"why": why, "revisions": [asdict(each) for each in revisions]})
        self._flush()

    def apply(self, ledger: Ledger, number: int, corpus: Folder) -> int:
        """Write what was kept of a round into the manifest, once, and give its version.

        Raises:
            RunError: the manifest was revised by somebody else meanwhile.
        """
        kept, base = self._kept(number), ledger.round(number).base
        current = manifest_versions(corpus)[-1]
        if current.number == base:
            return revise_manifest(corpus, (Revision(**each) for each in kept["revisions"]), kept["why"]).number
        if base is not None and current.number == base + 1 and current.why == " ".join(kept["why"].split()):
            return current.number  # stopped after it was written, before that was noted
        raise _revised(corpus, current, base)

    def require(self, ledger: Ledger, corpus: Folder) -> None:
        """Refuse to go on with another manifest than the one the loop left.

        Raises:
            RunError: it is another.
        """
        current = manifest_versions(corpus)[-1]
        if current.number != ledger.version:
            raise _revised(corpus, current, ledger.version)

    def _kept(self, number: int) -> dict[str, Any]:
        kept = read_json(self._audit(number))
        if kept is None:
            hint = "give another --name: the rounds begin again, with the manifest as it is"
            raise RunError(f"what the audit of round {number} found is gone: {self._audit(number)}", hint=hint)
        return kept

    def _audit(self, number: int) -> Any:
        return self._paths.folder / "audits" / f"round-{number}.json"


def _revised(corpus: Folder, current: ManifestVersion, expected: int | None) -> RunError:
    found = f"is at version {current.number} ({current.why}), but this bootstrap left it at version {expected}"
    hint = f"`orchestrator data undo {corpus.name} --to {expected}` goes back; another --name begins anew from here"
    return RunError(f"the manifest of {corpus.name} {found}", hint=hint)
