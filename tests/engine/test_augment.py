"""Augmentation of batches, beside torchvision's of single images."""

import math
from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

from configs.schema import Augment
from engine.workloads.vit import augment

IMAGES = torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def operated(name: str, strength: float) -> Tensor:
    """[n, channels, height, width], uint8, after one operation on every image."""
    x = IMAGES.permute(0, 3, 1, 2).float()
    chosen = torch.full((len(x),), augment.OPERATIONS.index(name))
    out = augment.operate(x, chosen, torch.full((len(x),), strength))
    assert torch.equal(out, out.floor())
    assert out.min() >= 0
    assert out.max() <= 255
    return out.to(torch.uint8)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("identity", lambda x, s: x),
        ("brightness", lambda x, s: tv.adjust_brightness(x, 1 + 0.9 * s)),
        ("color", lambda x, s: tv.adjust_saturation(x, 1 + 0.9 * s)),
        ("contrast", lambda x, s: tv.adjust_contrast(x, 1 + 0.9 * s)),
        ("sharpness", lambda x, s: tv.adjust_sharpness(x, 1 + 0.9 * s)),
        ("posterize", lambda x, s: tv.posterize(x, 8 - round(4 * abs(s)))),
        ("solarize", lambda x, s: tv.solarize(x, 256 * (1 - abs(s)))),
        ("autocontrast", lambda x, s: tv.autocontrast(x)),
        ("equalize", lambda x, s: tv.equalize(x)),
        ("rotate", lambda x, s: tv.rotate(x, 30 * s)),
        ("translate_x", lambda x, s: tv.affine(x, 0, [round(150 / 331 * 16 * s), 0], 1, [0, 0])),
        ("translate_y", lambda x, s: tv.affine(x, 0, [0, round(150 / 331 * 16 * s)], 1, [0, 0])),
        ("shear_x", lambda x, s: tv.affine(x, 0, [0, 0], 1, [math.degrees(math.atan(0.3 * s)), 0])),
        ("shear_y", lambda x, s: tv.affine(x, 0, [0, 0], 1, [0, math.degrees(math.atan(0.3 * s))])),
    ],
)
@pytest.mark.parametrize("strength", [-0.9, -0.3, 0.4, 1.0])
def test_an_operation_does_what_torchvisions_does(
    name: str, reference: Callable[[Tensor, float], Tensor], strength: float
) -> None:
    ours = operated(name, strength).int()
    theirs = torch.stack([reference(image, strength) for image in IMAGES.permute(0, 3, 1, 2)]).int()
    off = (ours - theirs).abs() > 1
    # Where a nearest neighbour is a tie, or a value lies on the brink, the two may fall on different sides.
    assert off.float().mean() < 0.03


def test_each_image_gets_the_operation_chosen_for_it() -> None:
    x = IMAGES.permute(0, 3, 1, 2).float()
    names = ["identity", "equalize", "rotate", "posterize", "solarize", "color"]
    strength = torch.full((6,), 0.8)
    together = augment.operate(x, torch.tensor([augment.OPERATIONS.index(name) for name in names]), strength)
    for number, name in enumerate(names):
        assert torch.equal(together[number].to(torch.uint8), operated(name, 0.8)[number]), name
    assert torch.equal(together[0], x[0])


def test_images_of_one_value_survive_every_operation() -> None:
    for value in (0, 128, 255):
        x = torch.full((len(augment.OPERATIONS), 1, 4, 4), float(value))
        out = augment.operate(x, torch.arange(len(augment.OPERATIONS)), torch.full((len(x),), 0.5))
        assert out.isfinite().all()
        assert out[augment.OPERATIONS.index("equalize")].unique().tolist() == [value]
        assert out[augment.OPERATIONS.index("autocontrast")].unique().tolist() == [value]


def test_rand_augment_changes_images_differently_and_keeps_their_form() -> None:
    torch.manual_seed(0)
    same = IMAGES[:1].expand(64, -1, -1, -1)
    out = augment.rand_augment(same, 9)
    assert (out.shape, out.dtype) == (same.shape, torch.uint8)
    assert len({image.numpy().tobytes() for image in out}) > 40


def test_a_crop_takes_every_image_from_its_own_corner_and_mirrors_its_own() -> None:
    rows = torch.tensor([4, 0, 4])
    top, left, flip = torch.tensor([0, 2, 3]), torch.tensor([1, 0, 4]), torch.tensor([False, True, True])
    out = augment.crop(IMAGES, rows, top, left, flip, 10, 12)
    assert torch.equal(out[0], IMAGES[4, 0:10, 1:13])
    assert torch.equal(out[1], IMAGES[0, 2:12, 0:12].flip(1))
    assert torch.equal(out[2], IMAGES[4, 3:13, 4:16].flip(1))


def augmenter(**options: float) -> augment.Augmenter:
    chosen = {"crop": 0, "flip": False, "randaugment": 0, "mixup": 0.0} | options
    return augment.Augmenter(Augment(**chosen), IMAGES, torch.tensor([0, 1, 2, 0, 1, 2]), 3)  # type: ignore[arg-type]


def test_without_augmentation_the_images_are_normalised_and_no_more() -> None:
    x, targets = augmenter()(torch.arange(6))
    assert x.mean((0, 1, 2)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert x.std((0, 1, 2), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert targets.tolist() == torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])].tolist()
    plain = augmenter()
    back = x * plain.std + plain.mean
    assert torch.equal(back.round().to(torch.uint8), IMAGES)


def test_crops_shift_by_up_to_the_padding_and_fill_with_black() -> None:
    torch.manual_seed(0)
    shifted = augmenter(crop=2)
    rows = torch.zeros(300, dtype=torch.int64)
    x = (shifted(rows)[0] * shifted.std + shifted.mean).round().to(torch.uint8)
    padded = torch.nn.functional.pad(IMAGES[0], (0, 0, 2, 2, 2, 2))
    possible = {padded[y : y + 16, x : x + 16].numpy().tobytes() for y in range(5) for x in range(5)}
    assert {image.numpy().tobytes() for image in x} == possible


def test_about_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    plain, mirrored = augmenter(), augmenter(flip=True)
    rows = torch.zeros(400, dtype=torch.int64)
    same = (mirrored(rows)[0] == plain(rows)[0]).flatten(1).all(1)
    assert 150 < same.sum() < 250


def test_mixup_blends_images_and_targets_by_the_same_share_each_its_own() -> None:
    torch.manual_seed(0)
    images, targets = augmenter()(torch.arange(6))
    x, mixed = augment.mixup(images, targets, 0.8)
    shares = []
    for number in range(6):
        share = mixed[number, targets[number].argmax()].item()
        expected = share * images[number] + (1 - share) * images[number - 1]
        assert torch.allclose(x[number], expected, atol=1e-5)
        shares.append(share)
    assert len(set(shares)) == 6
    assert mixed.sum(1).tolist() == pytest.approx([1] * 6)


def test_a_channel_of_one_value_is_not_divided_by_zero() -> None:
    mean, std = augment.channel_statistics(torch.full((2, 4, 4, 1), 7, dtype=torch.uint8))
    assert (mean.tolist(), std.tolist()) == ([7.0], [1.0])
