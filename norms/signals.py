"""The facts that norms are judged by: one frozen value a moment, free of torch, so that they can be judged again.

Probes turn live objects into signals; detectors read nothing else. Two rules hold for every field. **None is "not
seen"**: nobody looked, it does not apply, or it cannot be told; a detector that needs it stays silent, and never
guesses. An empty tuple is "looked, and found none". **What is declared is left out**: where a person declared
parameters frozen, dropout at evaluation wanted or gradients kept, the probe does not report them.

Names of modules and parameters are dotted, as in ``named_parameters()``. Counts are of items, times are in seconds and
shares from 0 to 1 unless a field says otherwise. Digests are short texts, compared for equality only.
"""

from typing import Literal

from msgspec import Struct

Names = tuple[str, ...]


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A part of a signal."""


class Signal(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """What was seen at one moment."""

    step: int
    """Updates done, counted as in events; at ``Step`` the number of the update that is about to be done."""
    epoch: float | None = None
    """Epochs done, with a fraction within one; None where there are none, as in boosting."""

    @property
    def place(self) -> str:
        """Where in the run: the same norm may be broken in one place and kept in another."""
        return ""


# --- preflight --------------------------------------------------------------------------------------------------------


class Overlap(Fact, frozen=True, kw_only=True):
    """Samples of one split that another split holds as well, by equal hash of the whole source sample."""

    first: str
    second: str
    """The split that loses by it, such as test."""
    count: int
    """Samples of ``second`` that are in ``first``."""
    size: int
    """Samples of ``second``."""
    examples: tuple[int, ...] = ()
    """Indices into ``second`` of some of them."""
    coarse: bool = False
    """Whether distinct samples may well have equal content: a table row without identifier or continuous column."""


class Feature(Fact, frozen=True, kw_only=True):
    """A column that a model on a table learns from."""

    name: str
    auc: float | None = None
    """Area under the ROC curve of the column alone on the training rows, folded to [0.5, 1]."""
    post_outcome: bool = False
    """Whether the data's own description says that it is known only after the outcome."""
    auc_drop: float | None = None
    """Validation AUC of the model with the column, less that without it."""


class Generator(Fact, frozen=True, kw_only=True):
    """A source of random numbers: python, numpy, torch, cuda, loader."""

    name: str
    seeded: bool
    """Whether it was seeded before the run drew from it."""


class Determinism(Fact, frozen=True, kw_only=True):
    """What promises equal results: algorithms and device."""

    promised: bool
    """Whether everything on this device is deterministic as configured (on a CPU: yes, unless an operation is not)."""
    by_design: str = ""
    """Why it cannot be, where the library says so (CatBoost on a GPU)."""
    missing: Names = ()
    """What would have to be set, such as CUBLAS_WORKSPACE_CONFIG."""


class Provenance(Fact, frozen=True, kw_only=True):
    """What is known of where a run comes from; here None is "looked, and not known"."""

    code: str | None = None
    """Commit of the training code, or name and version of the installed package that holds it."""
    patch: str | None = None
    """Digest of the uncommitted changes, "" where there are none."""
    packages: int | None = None
    """Packages whose versions are recorded."""
    data: str | None = None
    """Digest of the data."""
    config: str | None = None
    """Digest of the full configuration."""


class Preflight(Signal, tag="preflight", frozen=True, kw_only=True):
    """Before the first update, and again (with what is known anew) when any of it has changed, as after an action.

    Feed it in as many parts as suits the probes: every field that is None is simply not judged.
    """

    total_steps: int | None = None
    """The budget of updates."""
    uncovered: Names | None = None
    """Trainable parameters that no optimizer group holds (by identity), those declared frozen left out."""
    overlaps: tuple[Overlap, ...] | None = None
    evaluation_random: Names | None = None
    """Random transforms in the pipelines that evaluate, those declared (test-time augmentation) left out."""
    selected_on: Names | None = None
    """Splits that choose: the best checkpoint, early stopping, a threshold, hyper-parameters."""
    reported_on: Names | None = None
    """Splits whose figures are given as the result."""
    features: tuple[Feature, ...] | None = None
    generators: tuple[Generator, ...] | None = None
    """Those that the run draws from."""
    seed: int | None = None
    """The seed that is on record; None as everywhere where none was seen."""
    determinism: Determinism | None = None
    provenance: Provenance | None = None


# --- training ---------------------------------------------------------------------------------------------------------


class LossInput(Fact, frozen=True, kw_only=True):
    """What was handed to a loss function."""

    function: str
    """Its name in torch.nn.functional: cross_entropy, nll_loss, binary_cross_entropy_with_logits, mse_loss, …"""
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    row_sums: tuple[float, float] | None = None
    """Lowest and highest sum of the inputs over the class dimension."""
    lowest: float | None = None
    """Lowest and highest input."""
    highest: float | None = None


class Step(Signal, tag="step", frozen=True, kw_only=True):
    """Before an update is applied: after backward, unscaling and clipping, as far as the loop does these.

    Feed one a training step, whatever number of optimizers share its backward pass. What is costly may be None at most
    steps; what is scalar should be there at every step.
    """

    stream: str = ""
    """Tells alternating updates apart (generator and discriminator, two fits in a row); each has its own statistics."""
    loss: float | None = None
    """As it was differentiated, without the scaler's factor; the sum over accumulated parts."""
    grad_norm: float | None = None
    """Total 2-norm of the gradients, unscaled, before clipping."""
    samples: int | None = None
    """Samples behind this update."""
    lr: float | None = None
    """The largest learning rate of all groups."""
    seconds: float | None = None
    """Since the update before, without other phases than training (evaluation, checkpoint, compilation)."""
    loss_scale: float | None = None
    """The gradient scaler's factor; None where no scaler guards the update."""
    non_finite: Names | None = None
    """Parameters whose gradient holds NaN or infinity, in the order in which backward reached them."""
    batch: tuple[int, ...] | None = None
    """Indices of some of the samples: evidence only, so give them when something else is off."""
    missing_grad: Names | None = None
    """Trainable parameters, of the optimizers about to step, whose gradient is None."""
    stray_leaves: Names | None = None
    """Tensors in the graph that require a gradient and are in no ``parameters()``: "[64, 64] into AddmmBackward0"."""
    root_in_eval: bool | None = None
    """Whether the outermost module was in evaluation mode during the forward pass."""
    in_eval: Names | None = None
    """Modules whose behaviour depends on the mode (dropout, batch norm) that were in evaluation mode in it."""
    stale_gradients: Names | None = None
    """Parameters that still held non-zero gradients from before the last update when this one's backward began."""
    clipped_scaled: bool | None = None
    """Whether gradients were clipped while the scaler's factor was still in them."""
    accumulated_ratio: float | None = None
    """Norm of the accumulated gradient over that of the same samples in one batch; of updates made of several backward
    passes, where their losses tell it."""
    gradient_ratio: float | None = None
    """Gradient rms of the first weight matrix over that of the last; biases left out."""
    small_gradients: float | None = None
    """Share of the first matrix's gradient entries below a thousandth of the last one's rms, zeros included."""
    loss_inputs: tuple[LossInput, ...] | None = None

    @property
    def place(self) -> str:
        return self.stream


class Unchanged(Fact, frozen=True, kw_only=True):
    """A parameter that has a gradient and came out of an update bit-identical."""

    name: str
    lr: float
    """Of its group."""
    grad_max: float
    """Largest magnitude in its gradient, unscaled."""
    weight_max: float
    """Largest magnitude in it."""


class Update(Signal, tag="update", frozen=True, kw_only=True):
    """After an update: what it did to the weights."""

    stream: str = ""
    skipped: bool = False
    """Whether the scaler, or an action, left the update out."""
    unchanged: tuple[Unchanged, ...] | None = None
    """Those of the parameters looked at; a rotating sample will do, as long as one is looked at in successive steps."""
    ratio: float | None = None
    """Median over the weight matrices of norm(change) / norm(weight), those of norm 0 left out; now and then."""
    non_finite: Names | None = None
    """Parameters that hold NaN or infinity."""

    @property
    def place(self) -> str:
        return self.stream


class LayerUnits(Fact, frozen=True, kw_only=True):
    """How many units of an activation with an exact zero (ReLU and its kin) were never active."""

    layer: str
    units: int
    dead: int
    """Zero for every sample of the window."""
    samples: int
    """In the window."""
    zero_input: float | None = None
    """Share of zeros in what goes into the layer before it."""


class EpochEnd(Signal, tag="epoch", frozen=True, kw_only=True):
    """After an epoch of training."""

    updates: int | None = None
    """Done in this epoch, without skipped ones."""
    skipped: int = 0
    scheduler_calls: int | None = None
    """Calls of the scheduler's ``step()`` in this epoch."""
    scheduler_unit: Literal["step", "epoch"] | None = None
    """Its declared unit; None where nothing declares it."""
    order_digest: str | None = None
    """Of the sample indices in the order drawn; None with one batch an epoch, and where the order is declared."""
    worker_draws: Names | None = None
    """For each loader worker (or the one process), a digest of the first random numbers that its transforms drew in
    this epoch; None where draws are cached or repeated by declaration."""
    units: tuple[LayerUnits, ...] | None = None


# --- evaluation and checkpoints ---------------------------------------------------------------------------------------


class MetricCheck(Fact, frozen=True, kw_only=True):
    """A metric as the run reports it, and recomputed from all predictions."""

    name: str
    reported: float
    recomputed: float


class Evaluation(Signal, tag="evaluation", frozen=True, kw_only=True):
    """After a pass over a split that changes no weights."""

    split: str
    loss: float | None = None
    cross_entropy: float | None = None
    """Mean, in nats, without label smoothing; for classification only."""
    accuracy: float | None = None
    auc: float | None = None
    """For two classes."""
    class_shares: tuple[float, ...] | None = None
    """Share of each class among the labels."""
    predicted_shares: tuple[float, ...] | None = None
    """Share of each class among the predictions."""
    samples: int | None = None
    """Counted in the metrics."""
    split_size: int | None = None
    """Samples that the split has; None where a part of it is evaluated by declaration."""
    metrics: tuple[MetricCheck, ...] | None = None
    in_training: Names | None = None
    """Modules (dropout, batch norm) that were in training mode, those declared stochastic (MC dropout) left out."""
    buffers_changed: Names | None = None
    """Buffers that the evaluation changed."""
    repeat_difference: float | None = None
    """Largest relative difference between the outputs of two passes over one and the same batch."""
    random_transforms: Names | None = None
    """Random transforms that the inputs went through, declared ones left out."""
    input_digest: str | None = None
    """Of the inputs as the model got them, whatever their order; None where only a part was drawn."""
    input_digest_again: str | None = None
    """The same for a second drawing of the same samples, where one was made; of as many as ``input_digest``."""

    @property
    def place(self) -> str:
        return self.split


class CheckpointSaved(Signal, tag="checkpoint", frozen=True, kw_only=True):
    """A checkpoint meant to be resumed from is on disk; exported bare weights are none."""

    path: str
    contents: Names | None = None
    """What it holds: model, optimizer, scheduler, scaler, rng_python, rng_numpy, rng_torch, rng_cuda, sampler, step."""
    expected: Names | None = None
    """What of these this run has, and so needs to go on."""
    hash_matches: bool | None = None
    """Whether the file, read back, has the SHA-256 in its manifest."""
    replay_equal: bool | None = None
    """Whether steps after reloading it equal those without, bit for bit."""
    best_is_copy: bool | None = None
    """Whether the weights kept as best are a copy, and not the live tensors."""


class Replay(Signal, tag="replay", frozen=True, kw_only=True):
    """The same steps, done twice from one snapshot."""

    steps: int
    difference: float | None = None
    """Largest relative difference between the two runs' losses; 0 is bit-equal, NaN where only one is NaN."""


# --- operations and the end -------------------------------------------------------------------------------------------


class Resources(Signal, tag="resources", frozen=True, kw_only=True):
    """Every few seconds."""

    training: bool = True
    """Whether the run is within training steps, and not evaluating, compiling or saving."""
    idle_seconds: float | None = None
    """Since the last training step ended, other phases left out."""
    memory_bytes: int | None = None
    """Resident memory of the process and its workers."""
    disk_free_bytes: int | None = None
    """Where checkpoints go."""
    checkpoint_bytes: int | None = None
    """Size of one checkpoint."""
    gpu_busy: float | None = None
    """Share of the time since the last look; None where the run uses no GPU."""


class PhaseTime(Fact, frozen=True, kw_only=True):
    """How long a phase took, over ``count`` times; in milliseconds."""

    phase: str
    count: int
    mean_ms: float
    p95_ms: float
    p99_ms: float


class Timings(Signal, tag="timings", frozen=True, kw_only=True):
    """At the end of each epoch and of the run: the phases that the configuration names for the service level."""

    phases: tuple[PhaseTime, ...] | None = None


class Claim(Fact, frozen=True, kw_only=True):
    """A statement about a result that goes beyond this one run: "B is better than A", "accuracy is 0.95"."""

    text: str
    seeds: int
    """Runs with different seeds behind it."""
    interval: bool
    """Whether it gives an interval."""


class Candidate(Fact, frozen=True, kw_only=True):
    """A model that asks to be promoted."""

    split: str
    accuracy: float
    ece: float
    """Expected calibration error."""


class Cohort(Fact, frozen=True, kw_only=True):
    """A model's quality on one part of the data; a rate is None where it cannot be had."""

    name: str
    rows: int
    accuracy: float | None = None
    precision: float | None = None
    predicted: int | None = None
    """Rows predicted positive: what precision is a share of."""
    recall: float | None = None
    positives: int | None = None
    """Rows that are positive: what recall is a share of."""
    ece: float | None = None


class RunEnd(Signal, tag="end", frozen=True, kw_only=True):
    """At the end of a run, before its verdict."""

    selected_on: Names | None = None
    reported_on: Names | None = None
    """As in Preflight, by what was seen."""
    claims: tuple[Claim, ...] | None = None
    """None where the run, as most do, claims nothing beyond itself."""
    candidate: Candidate | None = None
    cohorts: tuple[Cohort, ...] | None = None
    """The reference first; only where the configuration names cohorts."""


AnySignal = Preflight | Step | Update | EpochEnd | Evaluation | CheckpointSaved | Replay | Resources | Timings | RunEnd
