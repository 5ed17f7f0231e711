"""Augmentation of whole batches on the device, with fresh random numbers for every image and no loop over images.

The random numbers come from torch's global generator of the device, whose state a checkpoint holds. Whatever is drawn,
the same kernels run over the same shapes: nothing waits for the device, and nothing forbids a deterministic run.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import Augment

RANDAUGMENT_OPERATIONS = 2
"""Operations applied to each image, drawn with replacement (Cubuk et al. 2020)."""
OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
HIGHEST_MAGNITUDE = 10
_SHEAR, _TRANSLATE, _ROTATE, _BLEND, _BITS = 0.3, 150 / 331, math.radians(30), 0.9, 4
"""What the highest magnitude does, as in torchvision's RandAugment; translation as a share of the side."""
_GREY = (0.2989, 0.587, 0.114)


class Augmenter:
    """Turns rows of the training images into a batch: crop, flip, RandAugment, normalisation, mixup.

    Args:
        options: What to do.
        images: uint8 [n, height, width, channels], on the device.
        labels: int64 [n], on the device.
        classes: Number of classes.
    """

    def __init__(self, options: Augment, images: Tensor, labels: Tensor, classes: int) -> None:
        self._options = options
        self._targets = torch.eye(classes, device=images.device)[labels]
        self._side = images.shape[1:3]
        self.mean, self.std = channel_statistics(images)
        margin = options.crop
        self._padded = F.pad(images, (0, 0, margin, margin, margin, margin)) if margin else images

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images, float32 [n, height, width, channels], and class probabilities, float32 [n, classes]."""
        n = len(rows)
        spread = 2 * self._options.crop + 1
        top, left = torch.randint(spread, (2, n), device=rows.device)
        flip = torch.rand(n, device=rows.device) < (0.5 if self._options.flip else 0.0)
        x = crop(self._padded, rows, top, left, flip, *self._side)
        if self._options.randaugment:
            x = rand_augment(x, self._options.randaugment)
        images = normalised(x, self.mean, self.std)
        targets = self._targets[rows]
        return mixup(images, targets, self._options.mixup) if self._options.mixup else (images, targets)


class RandomCrop:
    """Moves every image by up to ``margin`` pixels, as the Augmenter does in training."""

    def __init__(self, margin: int) -> None:
        self._margin = margin

    def __call__(self, images: Tensor) -> Tensor:
        """Return uint8 [n, height, width, channels], as it came."""
        n, height, width, _ = images.shape
        padded = F.pad(images, (0, 0, *[self._margin] * 4))
        top, left = torch.randint(2 * self._margin + 1, (2, n), device=images.device)
        straight = torch.zeros(n, dtype=torch.bool, device=images.device)
        return crop(padded, torch.arange(n, device=images.device), top, left, straight, height, width)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [channels] of uint8 images [n, height, width, channels]."""
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.cpu().unbind(-1)]).double()
    values = torch.arange(256, dtype=torch.float64)
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values
    std = ((values - mean[:, None]) ** 2 * share).sum(1).sqrt().clamp(min=1.0)
    return mean.float().to(images.device), std.float().to(images.device)


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return images [n, height, width, channels] as float32 of mean 0 and deviation 1 in every channel."""
    return (images.float() - mean) / std


def crop(padded: Tensor, rows: Tensor, top: Tensor, left: Tensor, flip: Tensor, height: int, width: int) -> Tensor:
    """Gather ``rows`` of padded [n, h, w, channels], each from its own corner, and mirror those of ``flip``: [rows, …].

    One gather does all three, which is what makes it cheap.
    """
    y = top[:, None] + torch.arange(height, device=rows.device)
    along = torch.arange(width, device=rows.device)
    x = left[:, None] + torch.where(flip[:, None], along.flip(0), along)
    return padded[rows[:, None, None], y[:, :, None], x[:, None, :]]


def mixup(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend each image and its target with its neighbour's, by a share of its own (Zhang et al. 2018)."""
    concentration = torch.full((), alpha, device=images.device)
    # Validated, the distribution would wait for the device to say that its parameters are positive.
    share = torch.distributions.Beta(concentration, concentration, validate_args=False).sample((len(images),))
    return (
        torch.lerp(images.roll(1, 0), images, share[:, None, None, None]),
        torch.lerp(targets.roll(1, 0), targets, share[:, None]),
    )


# --- RandAugment ------------------------------------------------------------------------------------------------------


def rand_augment(images: Tensor, magnitude: int) -> Tensor:
    """Return uint8 [n, height, width, channels], each image changed by operations of its own."""
    x = images.permute(0, 3, 1, 2).float()
    for _ in range(RANDAUGMENT_OPERATIONS):
        chosen = torch.randint(len(OPERATIONS), (len(x),), device=x.device)
        sign = torch.randint(2, (len(x),), device=x.device) * 2.0 - 1
        x = operate(x, chosen, sign * magnitude / HIGHEST_MAGNITUDE)
    return x.to(torch.uint8).permute(0, 2, 3, 1)


def operate(x: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    """Apply to each image the operation ``chosen`` for it.

    Every operation runs over the whole batch, neutral for the images that it was not chosen for.

    Args:
        x: Whole numbers from 0 to 255 as floats, [n, channels, height, width].
        chosen: Positions in OPERATIONS, [n].
        strength: From -1 to 1, [n]; posterize and solarize take its size alone.
    """

    def strength_of(name: str) -> Tensor:
        return strength * (chosen == OPERATIONS.index(name))

    x = _warp(x, strength_of)
    for name, reference in (("brightness", _black), ("color", _grey), ("contrast", _mean_grey), ("sharpness", _smooth)):
        factor = 1 + _BLEND * strength_of(name)[:, None, None, None]
        x = torch.where(factor == 1, x, torch.lerp(reference(x), x, factor).clamp(0, 255).floor())
    step = torch.exp2((_BITS * strength_of("posterize").abs()).round())[:, None, None, None]
    x = (x / step).floor() * step
    threshold = 256 * (1 - strength_of("solarize").abs())[:, None, None, None]
    x = torch.where(x >= threshold, 255 - x, x)
    for name, operation in (("autocontrast", autocontrast), ("equalize", equalize)):
        x = torch.where((chosen == OPERATIONS.index(name))[:, None, None, None], operation(x), x)
    return x


def _warp(x: Tensor, strength_of: Callable[[str], Tensor]) -> Tensor:
    """Rotate, shear and translate about the centre, by nearest pixel, black from outside."""
    height, width = x.shape[2:]
    angle = _ROTATE * strength_of("rotate")
    shear_x, shear_y = _SHEAR * strength_of("shear_x"), _SHEAR * strength_of("shear_y")
    shift_x = -(_TRANSLATE * width * strength_of("translate_x")).round() * 2 / width
    shift_y = -(_TRANSLATE * height * strength_of("translate_y")).round() * 2 / height
    cosine, sine = angle.cos(), angle.sin()
    # From where in the old image, [-1, 1] over each side, a pixel of the new one comes; at most one part is at work.
    across = torch.stack([cosine, (shear_x - sine) * height / width, shift_x], 1)
    down = torch.stack([(shear_y + sine) * width / height, cosine, shift_y], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="nearest", align_corners=False)


def _black(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).floor()[:, None].expand_as(x)


def _mean_grey(x: Tensor) -> Tensor:
    return _grey(x).mean((1, 2, 3), keepdim=True).expand_as(x)


def _smooth(x: Tensor) -> Tensor:
    """Blur by a 3x3 kernel; the border stays as it is."""
    if min(x.shape[2:]) < 3:
        return x
    kernel = torch.ones(3, 3, device=x.device)
    kernel[1, 1] = 5
    inner = F.conv2d(x.flatten(0, 1)[:, None], kernel[None, None] / 13).view(*x.shape[:2], x.shape[2] - 2, -1)
    blurred = x.clone()
    blurred[:, :, 1:-1, 1:-1] = inner.round()
    return blurred


def autocontrast(x: Tensor) -> Tensor:
    """Stretch every channel of every image to the whole range; one of a single value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, ((x - low) * (255 / span.clamp(min=1))).floor(), x)


def equalize(x: Tensor) -> Tensor:
    """Give every channel of every image a flat histogram, as PIL does."""
    n, channels, height, width = x.shape
    flat = x.reshape(n * channels, -1)
    levels = torch.arange(256, device=x.device, dtype=x.dtype).expand(len(flat), -1)
    # How many pixels are at or below each level, by sorting: adding into bins is not deterministic on a GPU.
    below = torch.searchsorted(flat.sort(1).values, levels.contiguous(), right=True)
    brightest = flat.amax(1, keepdim=True).long()
    count_of_brightest = height * width - torch.where(
        brightest > 0, below.gather(1, (brightest - 1).clamp(min=0)), torch.zeros_like(brightest)
    )
    step = (height * width - count_of_brightest) // 255
    table = ((F.pad(below, (1, 0))[:, :-1] + step // 2) // step.clamp(min=1)).clamp(0, 255)
    equalized = torch.where(step > 0, table.gather(1, flat.long()).to(x.dtype), flat)
    return equalized.view(n, channels, height, width)
