"""A plain vision transformer, trained from scratch on small images (train.py holds model and loop)."""

from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.schema import VitConfig
from engine.datasets import images
from engine.environment import gpus
from engine.workloads import Plan

if TYPE_CHECKING:
    from engine.watch import Watch


def plan(config: VitConfig) -> Plan:
    """Return the updates in all epochs; what does not fill a batch waits for the next epoch's shuffle."""
    rows, _ = images.split(images.outline(config.data).train_labels, config.train.val_fraction, config.seed)
    return Plan(config.train.epochs * (len(rows) // config.train.batch_size), config.train.epochs)


def preflight(config: VitConfig) -> None:
    """Refuse a device that is not there, images that cannot be read, and a model or batch that does not fit them.

    Raises:
        ConfigError: ``runtime.device``, ``model.patch``, ``augment.crop`` or ``train.batch_size`` cannot be had.
        DataError: The data is missing, damaged or too small.
    """
    device, _, number = config.runtime.device.partition(":")
    if device == "cuda" and int(number or 0) >= (found := len(gpus())):
        raise ConfigError(f"runtime.device={config.runtime.device}: this machine has {found} CUDA devices; use cpu")
    outline = images.outline(config.data)
    height, width, _ = outline.shape
    if height % config.model.patch or width % config.model.patch:
        raise ConfigError(
            f"model.patch={config.model.patch} must divide both sides of the images, {height} and {width} pixels"
        )
    rows, _ = images.split(outline.train_labels, config.train.val_fraction, config.seed)
    if len(rows) < config.train.batch_size:
        raise ConfigError(f"train.batch_size={config.train.batch_size} is more than the {len(rows)} training images")


def run(config: VitConfig, watch: "Watch") -> dict[str, Any]:
    """Train, and test the model of the best epoch.

    Raises:
        RunStopped: The run was asked to stop; a checkpoint was saved.
        Restart: It is to be called again, from the beginning.
        NoraError: What went wrong, where, and what to do.
    """
    from engine import injections
    from engine.workloads.vit.train import train

    if watch.seeds is None:
        injections.begin(config)
        watch.sees_seeds()
    return train(config, watch)
