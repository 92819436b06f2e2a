"""Normalises a decoded photograph's pixels: 8-bit sRGB without alpha, not much larger than needed."""

import io

import numpy as np
from PIL import Image, ImageCms

# Grey levels between the lightest and the darkest pixel of a channel. One colour saved as JPEG keeps 0 at any quality;
# the calmest of 43 patches of plain skin (PAD-UFES-20) spreads over 28, the calmest of 750 lesion photographs over 47.
FLAT_SPREAD = 8
# A thousand pixels show of almost every photograph that it is not flat.
_FEW_SIDE = 32
# A 16-bit sample fills 0 to 65535 and 65535 / 257 = 255.
_LEVELS_16_BIT_PER_8_BIT = 257

# Rows of the reduced picture that are processed at a time: a few megabytes, whatever the photograph's size.
_STRIP_ROWS = 64
# Marks a colour profile that chains processing elements. 400 kB can hold 50,000 of them, at a cost of 45 s (lcms runs
# the chain for each point of a grid). No camera writes one.
_CHAINED_PROFILE = b"mpet"


def reduce_photograph(image: Image.Image, min_side: int) -> Image.Image:
    """Return the image averaged over whole blocks, 8 bit and without alpha: mode L, RGB or CMYK.

    Works in strips, since each step makes a copy, and even one copy of a large photograph is costly.
    """
    factor = max(1, min(image.size) // min_side)
    if factor == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image  # most JPEGs: their decoder has reduced them, and each copy costs as much as a small resize
    rows = _STRIP_ROWS * factor
    strips = [
        _on_white(_eight_bit(image.crop((0, top, image.width, min(top + rows, image.height)))).reduce(factor))
        for top in range(0, image.height, rows)
    ]
    reduced = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    for index, strip in enumerate(strips):
        reduced.paste(strip, (0, index * _STRIP_ROWS))
    return reduced


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image in a mode that can be reduced: L, RGB, RGBA or CMYK."""
    if image.mode.startswith("I"):  # 16-bit grey; `convert` would clip it to white
        return Image.fromarray((np.asarray(image) // _LEVELS_16_BIT_PER_8_BIT).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB") if image.mode == "P" else image


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the image in sRGB; without a profile, or with one that does not fit, its values are taken as sRGB."""
    if profile and _CHAINED_PROFILE not in profile:
        try:
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
        except ImageCms.PyCMSError:
            pass
    return image.convert("RGB")


def is_flat(image: Image.Image) -> bool:
    """Tell whether every channel is uniform, apart from the noise that compression adds to one colour."""
    few = image.resize((_FEW_SIDE, _FEW_SIDE), Image.Resampling.NEAREST)
    return _spreads_little(few) and _spreads_little(image)


def _spreads_little(image: Image.Image) -> bool:
    return all(high - low <= FLAT_SPREAD for low, high in image.getextrema())
