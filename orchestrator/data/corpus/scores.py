"""What a network makes of each validation pair, so that two networks are compared pair by pair.

File contract: a pair list (see `pairs`) with one more column, `cosine` float32, and in its metadata `syncnet.step`, the
optimizer step of the network. Rows are in the order of the list, so that the file of a run joins with its own list, and
two files join with each other where `syncnet.pairs_hash` agrees.
"""

# N pairs

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.data.corpus.pairs import METADATA, open_list, store, to_parquet
from orchestrator.errors import DataError

_COSINE = "cosine"
_STEP = "step"
_PACKED = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """The pairs of a list with their cosines."""

    step: int
    """Optimizer steps that the network had taken."""
    pairs_hash: str
    """Of the list: scores are comparable only where this agrees."""
    clips: NDArray[np.str_]
    """(N,) the clip that each pair comes from."""
    labels: NDArray[np.int8]
    """(N,) 1 in sync, 0 out of sync."""
    cosines: NDArray[np.float32]
    """(N,)"""


def pack_scores(step: int, pairs_hash: str, cosines: NDArray[np.float32]) -> dict[str, Any]:
    """Scores as plain JSON data, for journals and checkpoints: (N,) cosines become text, 5.3 bytes each."""
    packed = base64.b64encode(cosines.astype(_PACKED).tobytes()).decode()
    return {"step": step, "pairs_hash": pairs_hash, "cosines": packed}


def scores_bytes(pair_list: Path, packed: Mapping[str, Any]) -> bytes:
    """The scores of a stored list, as the bytes of their file.

    Args:
        pair_list: the list.
        packed: as `pack_scores` gives them.

    Raises:
        DataError: as `open_list`; `other_pairs` for scores of another list.
    """
    return to_parquet(_scored(open_list(pair_list)[0], packed))


def write_scores(path: Path, table: pa.Table, packed: Mapping[str, Any]) -> None:
    """Store the scores of a list, atomically.

    Args:
        path: the file.
        table: the list, as `pairs_table` gives it.
        packed: as `pack_scores` gives them.

    Raises:
        DataError: `not_written`; `other_pairs` for scores of another list.
    """
    store(path, to_parquet(_scored(table, packed)))


def read_scores(path: Path) -> ScoredPairs:
    """The scores in a file.

    Raises:
        DataError: as `open_list`, which a list without scores is refused by too.
    """
    table, facts = open_list(path, [_COSINE])
    clips, labels, cosines = (np.array(table.column(name).to_pylist()) for name in ("clip_id", "label", _COSINE))
    return ScoredPairs(
        int(facts.get(_STEP, 0)),
        facts["pairs_hash"],
        clips.astype(np.str_),
        labels.astype(np.int8),
        cosines.astype(np.float32),
    )


def _scored(table: pa.Table, packed: Mapping[str, Any]) -> pa.Table:
    metadata = table.schema.metadata
    listed = metadata[f"{METADATA}pairs_hash".encode()].decode()
    cosines = np.frombuffer(base64.b64decode(packed["cosines"]), _PACKED)
    if (packed["pairs_hash"], len(cosines)) != (listed, len(table)):
        what = f"{len(cosines)} scores of the pair list {packed['pairs_hash'][:12]}"
        raise DataError(f"{what} do not fit the {len(table)} pairs of the list {listed[:12]}", reason="other_pairs")
    scored = table.append_column(_COSINE, pa.array(cosines, pa.float32()))
    return scored.replace_schema_metadata({**metadata, METADATA + _STEP: str(packed["step"])})
