"""joonson's SyncNets from the names and shapes of their tensors.

The trainer's nets do not tell their temporal stride. Of its filterbank net both strides are in use, so both are
candidates and neither is chosen; of its MFCC net only upstream's default is known.
"""

from __future__ import annotations

from orchestrator.checkpoint.architecture.candidates import Candidate, Shapes, extent
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.config.model import JoonsonSyncNetConfig, JoonsonTrainerConfig
from orchestrator.errors import CheckpointError, RefusalReason

ANCHOR = "netcnnaud.0.weight"
"""In every file of joonson/syncnet_python."""
TRAINER_PREFIX = "__S__."
"""Before the names of every net of joonson/syncnet_trainer, to which it belongs, as `__L__.` does."""

_TRAINER_STRIDES = {"fbank": (1, 2), "mfcc": (1,)}
_FBANK_KERNEL = (5, 7)
"""Of the first convolution on filterbanks; on MFCCs it is 3x3. The filterbank itself is not in every file."""
_ONLY_IN_TRAINER = "netfcspk.0.weight"
TRAINER_ANCHOR = TRAINER_PREFIX + _ONLY_IN_TRAINER
"""In every file of joonson/syncnet_trainer, and in none of syncnet_python, whose net may stand behind `__S__.` too."""


def candidates(shapes: Shapes, path: str) -> list[Candidate]:
    """The net of syncnet_python, or those of syncnet_trainer.

    Raises:
        CheckpointError: `mismatch` for a trainer's net that was taken out of its wrapping.
    """
    if TRAINER_ANCHOR in shapes:
        features = "fbank" if shapes.get(TRAINER_PREFIX + ANCHOR, ())[2:] == _FBANK_KERNEL else "mfcc"
        return [_trainer(shapes, features, stride) for stride in _TRAINER_STRIDES[features]]
    if ANCHOR not in shapes:
        return []
    if _ONLY_IN_TRAINER in shapes:
        raise CheckpointError(
            f"the weights in {path} are the inner net of joonson/syncnet_trainer, without the prefix `__S__.` and the "
            "four numbers `__L__.` with which upstream saves it",
            reason=RefusalReason.MISMATCH,
            path=path,
            hint="save the whole SyncNet of SyncNetDist.py, as upstream's `saveParameters` does",
        )
    config = JoonsonSyncNetConfig(n_out=extent(shapes, "netfcaud.3.weight", 0))
    return [Candidate(config, f"joonson_syncnet (n_out {config.n_out})", (_read("model.n_out", config.n_out),))]


def _trainer(shapes: Shapes, features: str, stride: int) -> Candidate:
    raw = {"features": features, "temporal_stride": stride, "n_out": extent(shapes, "__S__.netfcaud.3.weight", 0)}
    config = JoonsonTrainerConfig.model_validate(raw)
    unknown = "weights do not tell this; it is the default of joonson/syncnet_trainer"
    return Candidate(
        config,
        f"joonson_trainer ({features}, temporal_stride {stride})",
        (
            _read("model.features", features),
            _read("model.n_out", config.n_out),
            Decision("model.temporal_stride", DecisionSource.DEFAULT, stride, unknown),
            Decision("model.num_frames", DecisionSource.DEFAULT, config.num_frames, unknown + "; it reads any number"),
        ),
    )


def _read(field: str, value: int | str) -> Decision:
    return Decision(field, DecisionSource.DERIVED, value, "read off the names and shapes of the weights")
