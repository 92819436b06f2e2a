"""Random augmentation of place, colour and sharpness, on whole batches and on any device."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.training.recipe import Augmentation

# RGB to brightness and two axes of colour (NTSC's YIQ), and back: rotating the two axes rotates the hue.
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = torch.linalg.inv(_YIQ)
# Where a Gaussian is cut off, in standard deviations: 5% of it lies further out.
_KERNEL_SIGMAS = 2
# A hair's length and how far its middle lies off the straight line, as shares of the side; its brightness.
_HAIR_LENGTH, _HAIR_BEND, _HAIR_SHADE = (0.3, 1.2), 0.08, (0.05, 0.45)


def augment(pixels: Tensor, side: int, ranges: Augmentation, generator: Generator) -> Tensor:
    """Return float32 (N, C, side, side) in [0, 1], each image augmented on its own; `pixels` is uint8 (N, s, s, C).

    Channels beyond red, green and blue describe each place: they move with the image and are otherwise left alone.
    Every draw comes from `generator`, which lives on the CPU: the same seed gives the same changes on any device,
    except for noise, which is drawn on the images' device.
    """
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    grid = functional.affine_grid(
        _random_affine(len(images), ranges, generator).to(images.device),
        [len(images), images.shape[1], side, side],
        align_corners=False,
    )
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    images, others = images[:, :3], images[:, 3:]
    if ranges.hairs:
        images = _random_hairs(images, ranges.hairs, generator)
    images = _random_colour(images, ranges, generator)
    if ranges.blur_px:
        images = _random_focus(images, ranges, generator)
    if ranges.noise:
        images = _random_noise(images, ranges, generator)
    if ranges.cutout:
        images = _random_cutout(images, ranges.cutout, generator)
    return torch.cat([images.clamp_(0, 1), others], dim=1)


def draw_hairs(pixels: Tensor, at_most: int, generator: Generator) -> Tensor:
    """Return images, uint8 (N, s, s, 3), half of them with up to `at_most` hairs drawn over them."""
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    hairy = _random_hairs(images, at_most, generator)
    return hairy.mul_(255).round_().byte().permute(0, 2, 3, 1).contiguous()


def _uniform(n: int, spread: float, generator: Generator) -> Tensor:
    return (torch.rand(n, generator=generator) * 2 - 1) * spread


def _random_affine(n: int, ranges: Augmentation, generator: Generator) -> Tensor:
    angle = _uniform(n, math.radians(ranges.rotation_deg), generator)
    zoom = 1 + _uniform(n, ranges.scale, generator)
    flip = torch.randint(0, 2, (2, n), generator=generator) * 2 - 1
    width, height = (1 + _uniform(n, ranges.stretch, generator)) * flip[0], flip[1]
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    shift = torch.stack([_uniform(n, 2 * ranges.shift, generator) for _ in range(2)], dim=1)
    across = torch.stack([cos * width, -sin * width, shift[:, 0]], dim=1)
    down = torch.stack([sin * height, cos * height, shift[:, 1]], dim=1)
    return torch.stack([across, down], dim=1)


def _random_colour(images: Tensor, ranges: Augmentation, generator: Generator) -> Tensor:
    n = len(images)

    def factor(spread: float) -> Tensor:
        return (1 + _uniform(n, spread, generator)).view(-1, 1, 1, 1).to(images.device)

    images = images * factor(ranges.brightness)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor(ranges.contrast)
    saturation, hue = (
        1 + _uniform(n, ranges.saturation, generator),
        _uniform(n, math.radians(ranges.hue_deg), generator),
    )
    warmth = _uniform(n, ranges.warmth, generator)
    mixing = _colour_matrices(saturation, hue, warmth).to(images.device)
    return torch.einsum("nij,njhw->nihw", mixing, images)


def _colour_matrices(saturation: Tensor, hue: Tensor, warmth: Tensor) -> Tensor:
    """Return (n, 3, 3): rotate the hue by radians, scale the distance from grey, then lift red and lower blue."""
    zero, one = torch.zeros_like(hue), torch.ones_like(hue)
    cos, sin = saturation * hue.cos(), saturation * hue.sin()
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    gains = torch.stack([1 + warmth, one, 1 - warmth], dim=1)
    return gains.unsqueeze(2) * (_RGB @ turn @ _YIQ)


def _random_hairs(images: Tensor, at_most: int, generator: Generator) -> Tensor:
    """Draw up to `at_most` bent hairs over half of the images, in one colour per image, one to three px wide."""
    side = images.shape[2]
    draws = torch.rand(len(images), 4, generator=generator)
    counts = ((2 * draws[:, 0] - 1) * (at_most + 1)).floor()
    covered = _hair_mask(counts, at_most, side, generator)
    wide = functional.max_pool2d(covered, 3, stride=1, padding=1)
    soft = functional.avg_pool2d(covered, 3, stride=1, padding=1).mul_(2).clamp_max_(1)
    width, opacity = draws[:, 1].view(-1, 1, 1, 1), 0.5 + draws[:, 2].view(-1, 1, 1, 1) / 2
    covered = (torch.where(width < 0.5, soft, wide) * opacity).to(images.device)
    low, high = _HAIR_SHADE
    brown = torch.tensor([1.0, 0.8, 0.7]).view(1, 3, 1, 1)
    shade = ((low + (high - low) * draws[:, 3]).view(-1, 1, 1, 1) * brown).to(images.device)
    return images.lerp(shade, covered)


def _hair_mask(counts: Tensor, at_most: int, side: int, generator: Generator) -> Tensor:
    """Return (n, 1, side, side): 1 where a hair, a quadratic Bézier curve, passes; `counts` (n,) hairs per image."""
    n = len(counts)
    angle = torch.rand(n, at_most, 1, generator=generator) * 2 * math.pi
    short, long = _HAIR_LENGTH
    reach = torch.cat([angle.cos(), angle.sin()], dim=2) / 2
    reach = reach * (short + (long - short) * torch.rand(n, at_most, 1, generator=generator))
    middle = torch.rand(n, at_most, 2, generator=generator)
    bend = middle + torch.randn(n, at_most, 2, generator=generator) * _HAIR_BEND
    t = torch.linspace(0, 1, 2 * side).view(-1, 1)
    start, bend, end = (point.unsqueeze(2) for point in (middle - reach, bend, middle + reach))
    points = ((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end).mul(side).long()
    there = torch.arange(at_most).view(1, -1, 1) < counts.view(-1, 1, 1)
    there = there & ((points >= 0) & (points < side)).all(dim=3)
    cells = (points[..., 1] * side + points[..., 0]).where(there, side * side)
    mask = torch.zeros(n, side * side + 1).scatter_(1, cells.flatten(1), 1.0)
    return mask[:, :-1].view(n, 1, side, side)


def _some(n: int, share: float, generator: Generator) -> Tensor:
    """Return 1 for each image that a degradation applies to and 0 for the others."""
    return (torch.rand(n, generator=generator) < share).float()


def _random_focus(images: Tensor, ranges: Augmentation, generator: Generator) -> Tensor:
    """Blur some images and sharpen others: add what a blur removes, from -1 times (all of it) to `sharpen` times."""
    n = len(images)
    sigma = (torch.rand(n, generator=generator) * ranges.blur_px).clamp_min(0.1)
    amount = torch.rand(n, generator=generator) * (1 + ranges.sharpen) - 1
    amount = (amount * _some(n, ranges.degraded_share, generator)).view(-1, 1, 1, 1).to(images.device)
    return images + amount * (images - blur(images, sigma.to(images.device)))


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Return images (N, C, h, w), each blurred by a Gaussian of its own standard deviation `sigma` (N,) in px."""
    n, channels = images.shape[:2]
    radius = max(1, math.ceil(_KERNEL_SIGMAS * float(sigma.max())))
    at = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (at / sigma.unsqueeze(1)) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = functional.pad(images, [radius] * 4, mode="reflect").flatten(0, 1).unsqueeze(0)
    rows = functional.conv2d(padded, kernels.view(-1, 1, 1, len(at)), groups=n * channels)
    return functional.conv2d(rows, kernels.view(-1, 1, len(at), 1), groups=n * channels).view_as(images)


def _random_noise(images: Tensor, ranges: Augmentation, generator: Generator) -> Tensor:
    strength = torch.rand(len(images), generator=generator) * ranges.noise
    strength = (strength * _some(len(images), ranges.degraded_share, generator)).view(-1, 1, 1, 1)
    seed = int(torch.randint(2**62, (), generator=generator))  # drawn on the images' device: there is much of it
    grain = torch.Generator(images.device).manual_seed(seed)
    return images + strength.to(images.device) * torch.randn(images.shape, generator=grain, device=images.device)


def _random_cutout(images: Tensor, area: float, generator: Generator) -> Tensor:
    """Paint a square of up to `area` of each image with its mean colour (DeVries and Taylor 2017, arXiv 1708.04552)."""
    n, side = len(images), images.shape[2]
    draws = torch.rand(n, 3, generator=generator).to(images.device)
    half = (draws[:, 0] * area).sqrt().view(-1, 1) / 2
    at = (torch.arange(side, device=images.device) + 0.5) / side
    across, down = ((at - draws[:, axis].view(-1, 1)).abs() < half for axis in (1, 2))
    covered = (down.unsqueeze(2) & across.unsqueeze(1)).unsqueeze(1)
    return torch.where(covered, images.mean(dim=(2, 3), keepdim=True), images)
