"""Resizes a photograph's whole frame for the network and for its overlay.

What the network reads is resized by Pillow, bit for bit as in the browser and in training: one level of 255 in a few
pixels, put through JPEG, moves a probability by up to 0.014. Overlays are only looked at, and torch takes a quarter of
the time.
"""

import io

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch.nn import functional

from shared.bundle import Preprocessing
from shared.heatmap import fit_overlay
from worker.cleaning import clean_frame

# The training images' side (px) and JPEG quality (4:2:0), read from their size and quantisation tables.
TRAINING_SIDE = 256
TRAINING_QUALITY = 75
DECODED_SIDE = 2 * TRAINING_SIDE
"""Least px of the shorter side to which a large photograph is decoded: twice what it is then resized to."""
_LEVELS = np.arange(256.0)
_NORM = 6


def squash(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Return what the network reads of a photograph: uint8 (side, side, 3), 0 to 255."""
    return prepare_frame(squash_frame(image), preprocessing)


def squash_frame(image: Image.Image) -> np.ndarray:
    """Return the whole frame as the training images are stored: uint8 (256, 256, 3), 0 to 255.

    Those are whole frames squashed to 256 × 256 px, whatever their aspect ratio, and saved as JPEG. A network learns
    the traces of that. For 24 photographs available in both forms, the full-resolution one got a melanoma probability
    0.041 higher (mean; 0.26 at most) than its copy among the training images. Put through the same JPEG first, it gets
    one 0.004 lower (0.07 at most), so thresholds calibrated on small images hold for what clinics send.
    """
    small = io.BytesIO()
    image.resize((TRAINING_SIDE, TRAINING_SIDE), Image.Resampling.BICUBIC).save(small, "JPEG", quality=TRAINING_QUALITY)
    small.seek(0)
    return np.array(JpegImageFile(small))


def prepare_frame(frame: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return what the network reads of a squashed frame: uint8 (side, side, 3), 0 to 255."""
    return shrink_frame(retouch_frame(frame, preprocessing), preprocessing.input_side)


def retouch_frame(frame: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return a squashed frame as the preprocessing says: hairs and reflections painted over, brightened if dark."""
    if preprocessing.cleaned:
        frame = clean_frame(frame)
    return brighten(frame, preprocessing.least_light) if preprocessing.least_light else frame


def brighten(frame: np.ndarray, least: float) -> np.ndarray:
    """Return a frame, uint8 (h, w, 3), whose `light` is at least `least`: unchanged, or scaled by one factor."""
    found = light(frame)
    if found >= least:
        return frame
    brightened = np.minimum(_LEVELS * least / max(found, 1), 255).round().astype(np.uint8)
    return brightened[frame]


def light(frame: np.ndarray) -> float:
    """Return how bright the skin in a frame, uint8 (h, w, 3), is, 0 to 255: a mean dominated by bright values.

    Shades of gray (Finlayson and Trezzi 2004), over all channels: a dark lesion in the middle hardly lowers it.
    """
    counts = np.bincount(frame.ravel(), minlength=len(_LEVELS))
    return float((counts @ _LEVELS**_NORM / frame.size) ** (1 / _NORM))


def shrink_frame(frame: np.ndarray, side: int) -> np.ndarray:
    """Return a squashed frame resized to uint8 (side, side, 3)."""
    return np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR))


def shrink_for_overlay(photograph: Image.Image) -> Image.Image:
    """Return the photograph (RGB) at its overlay's size; torch is within one level of Pillow's bilinear filter."""
    planes = torch.from_numpy(np.array(photograph))[None].permute(0, 3, 1, 2)
    size = fit_overlay(photograph.size)
    small = functional.interpolate(planes, size[::-1], mode="bilinear", antialias=True)
    return Image.fromarray(small.permute(0, 2, 3, 1)[0].contiguous().numpy())
