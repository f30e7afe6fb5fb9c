"""Every setting of a run, typed: the only truth about configuration. YAML files hold presets of it.

There are no hosts and no addresses here except where a person puts them (`storage`, `tracking.uri`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.config.data import DataConfig
from orchestrator.config.loss import LossConfig
from orchestrator.config.model import ModelConfig
from orchestrator.config.section import Section
from orchestrator.config.sweep import SweepConfig

Verb = Literal["init", "resume", "fork"]


class StartConfig(Section):
    """What the run starts from. The run's own latest checkpoint always comes first."""

    checkpoint: str | None = None
    """A SyncNet file in any readable format, or a normalized directory; none means from scratch."""
    verb: Verb = "init"
    """init: take the weights, start at step 0. resume: take everything, continue exactly. fork: take weights, step
    and data position, with a new optimizer and schedule."""


class OptimConfig(Section):
    """AdamW and its schedule. The defaults are those of LatentSync's SyncNet training."""

    lr: float = Field(1e-5, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the two moments."""
    eps: float = Field(1e-8, gt=0)
    """Added to the denominator."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the rate goes on after warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up from 0."""
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Where the cosine ends, as a share of the peak."""
    grad_clip_norm: float | None = Field(1.0, gt=0)
    """Clip the global gradient norm to this; none means no clipping."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that keep their weights, by their names in it, each with all that lies below:
    `[audio_encoder, "visual_encoder.down_blocks.[0-3]"]`."""


class TrainConfig(Section):
    """How long and in what portions."""

    steps: int = Field(1000, ge=0)
    """Optimizer steps in total, those of a resumed run included; with 0 the start is judged, saved, and that is all."""
    global_batch: int = Field(256, ge=1)
    """Samples per optimizer step over all workers; per-worker batch and accumulation are derived from it."""
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] = 32
    """Most samples that one worker puts through the net at once; auto finds the largest that fits a GPU's memory."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast type; fp16 adds a gradient scaler and needs a GPU."""
    seed: int = Field(42, ge=0)
    """Seed of the weights, the sample stream and dropout."""
    deterministic: bool = False
    """Only algorithms that give the same bits every time, on a GPU too, where they are slower; on a CPU all are."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay per step of an exponential average of the weights, which is then what is validated and exported; 0 keeps
    none."""
    max_bad_steps: int = Field(25, ge=1)
    """Steps in a row with a loss or gradient that is no finite number, each of which is skipped, before the run
    stops."""
    patience: int = Field(0, ge=0)
    """Validations without a new best after which the run stops; 0 goes on to the last step."""
    stop_at_chance: int = Field(0, ge=0)
    """Validations in a row that find the run at chance or collapsed after which it stops; 0 goes on."""
    log_every: int = Field(10, ge=1)
    """Steps between logged metrics."""


class SpeedConfig(Section):
    """How fast the same mathematics is computed: nothing here changes a figure by more than rounding."""

    channels_last: bool | Literal["auto"] = "auto"
    """Memory layout of the convolutions; auto takes it on a GPU in bf16 and fp16, where it is faster."""
    compile: bool = False
    """Compile the network with torch.compile; where that fails, training goes on without it and says so."""
    gradient_checkpointing: bool = False
    """Compute activations a second time in the backward pass instead of keeping them: less memory, about a third
    slower."""


class EvalConfig(Section):
    """The deterministic validation."""

    every: int = Field(100, ge=1)
    """Steps between validations; step 0 and the last step are always validated."""
    pairs: int = Field(2048, ge=2)
    """Balanced positive and negative pairs, the same ones every time."""
    batch: int = Field(64, ge=1)
    """Pairs that one worker puts through the net at once."""


class CheckpointConfig(Section):
    """When to save and what to keep."""

    every: int = Field(100, ge=1)
    """Steps between checkpoints; every validation and the last step are saved too."""
    minutes: float = Field(0.0, ge=0)
    """Save too when the latest checkpoint is this old; 0 saves by steps only."""
    keep: int = Field(2, ge=1)
    """Checkpoints kept: this many of the best by `metric`, and besides always the last."""
    keep_every: int = Field(0, ge=0)
    """Keep for ever the checkpoints of every so many steps; 0 keeps none for their step."""
    asynchronous: bool = True
    """Write in the background while training goes on; false waits for the disk at every checkpoint."""
    retry_s: float = Field(300.0, ge=0)
    """Seconds for which a storage that refuses a checkpoint is asked again before the run stops."""
    metric: Literal["val/accuracy", "val/auc", "val/loss"] = "val/accuracy"
    """The validation figure that decides which checkpoint is best."""


class ScaleConfig(Section):
    """Workers of the run: how many, and what each asks of the cluster."""

    num_workers: int = Field(1, ge=0)
    """Data-parallel workers; 0 runs the same loop in the driver's own process, without any worker."""
    min_workers: int | None = Field(None, ge=1)
    """Elastic: train with as many workers as there is room for, from this number to `num_workers`; none waits for
    all of them."""
    resize_s: float = Field(60.0, gt=0)
    """Elastic: seconds between looks whether there is room for more workers."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp keeps the whole state on every worker; fsdp gives each its share, for nets that do not fit one GPU. The
    checkpoints are the same."""
    stuck_after_s: float = Field(600.0, gt=0)
    """Seconds without a step, a validation batch or a checkpoint after which a worker counts as stuck and all are
    started again."""
    use_gpu: bool | Literal["auto"] = "auto"
    """One GPU per worker; auto takes them where the cluster has enough."""
    cpus_per_worker: float = Field(1, gt=0)
    """CPUs that each worker reserves."""
    max_failures: int = Field(3, ge=-1)
    """Failures of workers to recover from; -1 means without limit. Nodes that were announced to go do not count."""


class TrackingConfig(Section):
    """Where MLflow keeps the runs."""

    uri: str | None = None
    """Tracking server or store; none means MLFLOW_TRACKING_URI, and without that a SQLite file under `storage`."""
    experiment: str = Field("syncnet", min_length=1)
    """The MLflow experiment."""


class RunConfig(Section):
    """One training run, or, with `sweep`, one sweep."""

    model: ModelConfig
    """The network."""
    start: StartConfig = StartConfig()
    """What to start from."""
    data: DataConfig = DataConfig()
    """What to train on."""
    optim: OptimConfig = OptimConfig()
    """How to optimise."""
    loss: LossConfig = LossConfig()
    """What is optimised."""
    train: TrainConfig = TrainConfig()
    """How long."""
    speed: SpeedConfig = SpeedConfig()
    """How fast the same is computed."""
    eval: EvalConfig = EvalConfig()
    """How to validate."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """What to keep."""
    scale: ScaleConfig = ScaleConfig()
    """On how many workers."""
    tracking: TrackingConfig = TrackingConfig()
    """Where to record it."""
    storage: str = Field("runs", min_length=1)
    """Folder, or URI of object storage, under which every run has a folder of its own; all workers must see it."""
    sweep: SweepConfig | None = None
    """The sweep over the settings above."""
