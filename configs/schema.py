"""The typed configuration of a run: the only home of defaults.

The YAML groups beside this file hold what a choice (a workload, a data set, a regime) changes about these defaults.
One class per workload, told apart by the key ``workload``, so that a run accepts the keys which it reads and no others.
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
Share = Annotated[float, Meta(ge=0, le=1)]

Mode = Literal["pipeline", "agentic", "norm_aware"]
Regime = Literal["strict", "balanced", "exploratory"]
Approve = Literal["ask", "auto", "record"]
FailOn = Literal["critical", "major", "never"]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the configuration; an unknown key in it is an error."""


class Runtime(Section, frozen=True, kw_only=True):
    device: Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")] = "auto"
    threads: Annotated[int, Meta(ge=0, description="CPU threads; 0 takes all cores this process may use")] = 0
    deterministic: Annotated[bool, Meta(description="bit-identical results on the same machine, at some speed")] = False
    compile: Annotated[
        Literal["auto", "on", "off"], Meta(description="torch.compile; auto compiles where it pays (CUDA)")
    ] = "auto"


class BoostRuntime(Section, frozen=True, kw_only=True):
    device: Annotated[
        str, Meta(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N; auto takes the CPU")
    ] = "auto"
    threads: Annotated[int, Meta(ge=0, description="CPU threads; 0 takes all cores this process may use")] = 0


class Local(Section, frozen=True, kw_only=True):
    name: Literal["local"] = "local"


class Norms(Section, frozen=True, kw_only=True):
    """How this run is judged, where that differs from the catalogue."""

    enabled: Annotated[bool, Meta(description="judge the run; without it only metrics are recorded")] = True
    thresholds: Annotated[
        dict[str, dict[str, float | str]],
        Meta(description="changed limits by norm, such as {spike: {sigma: 8}}; `level` is one of them"),
    ] = field(default_factory=dict)
    muted: Annotated[list[str], Meta(description="ids of norms that are not judged")] = field(default_factory=list)
    file: Annotated[str | None, Meta(description="a YAML file with norms of your own; its detectors are imported")] = (
        None
    )
    deadline_seconds: Annotated[Positive, Meta(description="how long a person has to answer a proposal")] = 600.0


class Promotion(Section, frozen=True, kw_only=True):
    """Whether the model asks to be promoted, and where models are kept."""

    enabled: Annotated[
        bool, Meta(description="put the model under current/ if it is good enough, else candidates/")
    ] = False
    folder: Annotated[str, Meta(min_length=1, description="where current/ and candidates/ are")] = "models"


class Sla(Section, frozen=True, kw_only=True):
    phases: Annotated[list[str], Meta(description="phases (and `step`) that are held to agreed times")] = field(
        default_factory=list
    )


class RunConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="workload"):
    """What every run has, whatever it trains."""

    workload: ClassVar[str]
    data_sets: ClassVar[tuple[str, ...]]
    """Data by name; anything else that ``data`` says is a path."""

    data: Annotated[str, Meta(min_length=1, description="a data set by name, or a path")]
    mode: Annotated[Mode, Meta(description="how far the agent goes when a norm is broken")] = "norm_aware"
    regime: Annotated[Regime, Meta(description="how strict the norms are")] = "balanced"
    approve: Annotated[
        Approve, Meta(description="ask a person, take what is recommended (auto), or change nothing (record)")
    ] = "ask"
    fail_on: Annotated[
        FailOn, Meta(description="end with exit code 7 if a norm of this severity was broken and not cured")
    ] = "critical"
    violation: Annotated[str, Meta(description="a defect planted on purpose")] = "none"
    seed: Annotated[int, Meta(ge=0, lt=2**32, description="seed of every random number generator")] = 42
    tags: Annotated[list[str], Meta(description="labels to find the run by")] = field(default_factory=list)
    claim: Annotated[
        str, Meta(description="what the result is to support beyond this run, such as 'better than AdamW'")
    ] = ""
    norms: Norms = Norms()
    promotion: Promotion = Promotion()
    sla: Sla = Sla()
    launcher: Local = Local()


# --- vit --------------------------------------------------------------------------------------------------------------


class VitTrain(Section, frozen=True, kw_only=True):
    epochs: Count = 30
    batch_size: Count = 64
    log_every: Annotated[int, Meta(ge=1, description="steps between two training metric records")] = 1
    val_fraction: Annotated[Fraction, Meta(description="share of the training images kept for validation")] = 0.1
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class VitModel(Section, frozen=True, kw_only=True):
    patch: Annotated[int, Meta(ge=1, description="side of a square patch, in pixels")] = 2
    dim: Count = 64
    depth: Count = 4
    heads: Annotated[int, Meta(ge=1, description="attention heads; 64 of model.dim to each is a good width")] = 1
    mlp_ratio: Positive = 2.0
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of hidden units left out while training")] = 0.0

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"model.dim={self.dim} must be a multiple of model.heads={self.heads}")
        if self.dim % 4:
            raise ValueError(f"model.dim={self.dim} must be a multiple of 4 for 2-D sine-cosine positions")


class VitOptimizer(Section, frozen=True, kw_only=True):
    name: Annotated[
        Literal["muon", "adamw"], Meta(description="muon: Muon for the block matrices and AdamW for the rest")
    ] = "muon"
    lr: Annotated[Positive, Meta(description="learning rate of AdamW")] = 2e-3
    muon_lr: Annotated[Positive, Meta(description="learning rate of Muon; not read with name=adamw")] = 2e-2
    weight_decay: NonNegative = 0.05


class Scheduler(Section, frozen=True, kw_only=True):
    name: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[float, Meta(ge=0, lt=1, description="share of all steps spent warming up")] = 0.05
    final: Annotated[Share, Meta(description="learning rate at the end, as a share of the peak")] = 0.01


class Amp(Section, frozen=True, kw_only=True):
    enabled: bool = True
    dtype: Annotated[
        Literal["auto", "bf16", "fp16"], Meta(description="auto: bf16 where the hardware computes in it, else fp32")
    ] = "auto"


class Augment(Section, frozen=True, kw_only=True):
    crop: Annotated[int, Meta(ge=0, description="pixels of padding before a random crop; 0 is off")] = 1
    flip: Annotated[bool, Meta(description="mirror half of the images")] = False
    randaugment: Annotated[int, Meta(ge=0, le=10, description="RandAugment magnitude; 0 is off")] = 0
    mixup: Annotated[NonNegative, Meta(description="alpha of mixup's beta distribution; 0 is off")] = 0.0


class Checkpoint(Section, frozen=True, kw_only=True):
    every_epochs: Annotated[
        int, Meta(ge=0, description="epochs between two checkpoints, beside each new best; 0 keeps the last one only")
    ] = 1


VitViolation = Literal[
    "none", "nondeterminism", "amp_nan", "eval_mode_bug", "aug_leak", "checkpoint_incomplete", "reporting_single_run"
]


class VitConfig(RunConfig, frozen=True, kw_only=True, tag="vit"):
    """A plain vision transformer on CIFAR-10, digits or an .npz file of images."""

    workload: ClassVar[str] = "vit"
    data_sets: ClassVar[tuple[str, ...]] = ("digits", "cifar10")

    data: str = "digits"
    violation: VitViolation = "none"
    train: VitTrain = VitTrain()
    model: VitModel = VitModel()
    optimizer: VitOptimizer = VitOptimizer()
    scheduler: Scheduler = Scheduler()
    amp: Amp = Amp()
    augment: Augment = Augment()
    runtime: Runtime = Runtime()
    checkpoint: Checkpoint = Checkpoint()


# --- catboost ---------------------------------------------------------------------------------------------------------


class BoostTrain(Section, frozen=True, kw_only=True):
    iterations: Count = 1000
    early_stopping: Annotated[int, Meta(ge=0, description="iterations without a better AUC; 0 is off")] = 100
    val_fraction: Annotated[Fraction, Meta(description="share of the rows kept for validation")] = 0.15
    test_fraction: Annotated[
        Fraction, Meta(description="share of the rows kept for the test: drawn at random, and once more the newest")
    ] = 0.2

    def __post_init__(self) -> None:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "train.val_fraction + train.test_fraction must be less than 1: nothing is left to train on"
            )


class BoostModel(Section, frozen=True, kw_only=True):
    depth: Annotated[int, Meta(ge=1, le=16)] = 6
    l2_leaf_reg: NonNegative = 3.0
    max_ctr_complexity: Annotated[
        int, Meta(ge=1, le=15, description="categories combined into one feature; 1 fits about twice as fast as 4")
    ] = 4


class BoostOptimizer(Section, frozen=True, kw_only=True):
    lr: Annotated[float, Meta(gt=0, le=1, description="learning rate (shrinkage)")] = 0.05


class Features(Section, frozen=True, kw_only=True):
    exclude: Annotated[
        list[str], Meta(description="columns not to learn from; `duration` is known only after the call")
    ] = field(default_factory=lambda: ["duration"])


class Snapshot(Section, frozen=True, kw_only=True):
    snapshot_seconds: Annotated[int, Meta(ge=1, description="seconds between two snapshots of the fit")] = 2


class Drift(Section, frozen=True, kw_only=True):
    cohorts: Annotated[list[str], Meta(description="columns whose values are compared as cohorts of the test rows")] = (
        field(default_factory=list)
    )


BoostViolation = Literal["none", "nondeterminism", "checkpoint_incomplete", "reporting_single_run"]


class CatBoostConfig(RunConfig, frozen=True, kw_only=True, tag="catboost"):
    """Gradient-boosted trees on Bank Marketing, or on a CSV file of the same columns."""

    workload: ClassVar[str] = "catboost"
    data_sets: ClassVar[tuple[str, ...]] = ("bank",)

    data: str = "bank"
    violation: BoostViolation = "none"
    train: BoostTrain = BoostTrain()
    model: BoostModel = BoostModel()
    optimizer: BoostOptimizer = BoostOptimizer()
    features: Features = Features()
    runtime: BoostRuntime = BoostRuntime()
    checkpoint: Snapshot = Snapshot()
    drift: Drift = Drift()


# --- fake -------------------------------------------------------------------------------------------------------------


class FakeTrain(Section, frozen=True, kw_only=True):
    epochs: Count = 2
    steps: Annotated[int, Meta(ge=1, description="steps an epoch")] = 50


class Script(Section, frozen=True, kw_only=True):
    """What the scripted run does, and at which global step (counted from 1; none: never)."""

    step_seconds: Annotated[NonNegative, Meta(description="time that a step takes")] = 0.0
    metrics: Annotated[int, Meta(ge=1, description="metrics a step")] = 2
    nan_at: Annotated[Count | None, Meta(description="a loss that is not a number")] = None
    nan_steps: Annotated[int, Meta(ge=1, description="for so many steps, unless a remedy ends it")] = 1
    crash_at: Annotated[Count | None, Meta(description="raise an exception")] = None
    kill_at: Annotated[Count | None, Meta(description="end by SIGKILL, as the kernel does when memory is out")] = None
    hang_at: Annotated[Count | None, Meta(description="stop making progress, heeding nothing")] = None
    log_storm_at: Count | None = None
    log_storm_lines: Count = 10_000


class FakeConfig(RunConfig, frozen=True, kw_only=True, tag="fake"):
    """A scripted, torch-free run through the real process boundary, for tests."""

    workload: ClassVar[str] = "fake"
    data_sets: ClassVar[tuple[str, ...]] = ("none",)

    data: str = "none"
    violation: Literal["none"] = "none"
    train: FakeTrain = FakeTrain()
    script: Script = Script()


AnyConfig = VitConfig | CatBoostConfig | FakeConfig
WORKLOADS: dict[str, type[VitConfig] | type[CatBoostConfig] | type[FakeConfig]] = {
    "vit": VitConfig,
    "catboost": CatBoostConfig,
    "fake": FakeConfig,
}
