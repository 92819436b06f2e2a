"""What is no JPEG, PNG or WebP at all, whatever its name says."""

import io
import struct
import zipfile

from tests.broken_images.fates import UNSUPPORTED
from tests.images import encode, lesion


def strangers() -> dict[str, tuple[bytes, str]]:
    """Return the files by name, each with its fate."""
    files = _pictures() | _videos() | _documents()
    unsupported = {name: (data, UNSUPPORTED) for name, data in files.items()}
    return unsupported | {"no byte": (b"", "intake image_empty")}


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _pictures() -> dict[str, bytes]:
    def wrapped(brand: bytes) -> bytes:
        return _box(b"ftyp", brand + bytes(4) + b"mif1" + brand) + _box(b"meta", bytes(40)) + _box(b"mdat", bytes(400))

    return {
        "HEIC": wrapped(b"heic"),
        "HEIF sequence": wrapped(b"msf1"),
        "AVIF": encode(lesion(96, 64), "AVIF"),
        "TIFF": encode(lesion(96, 64), "TIFF"),
        "big-endian TIFF, as raw pictures are": b"MM\0*" + struct.pack(">IH", 8, 1) + bytes(16),
        "BigTIFF": b"II+\0\x08\0\0\0" + bytes(40),
        "GIF": encode(lesion(96, 64), "GIF"),
        "BMP": encode(lesion(96, 64), "BMP"),
        "ICO": encode(lesion(64, 64), "ICO"),
        "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 240, 320, 8, 3),
        "JPEG 2000": encode(lesion(96, 64), "JPEG2000"),
        "JPEG 2000 codestream": encode(lesion(96, 64), "JPEG2000", no_jp2=True),
        "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
        "JPEG XL codestream": b"\xff\x0a" + bytes(40),
        "PPM": encode(lesion(96, 64), "PPM"),
        "TGA": encode(lesion(96, 64), "TGA"),
        "EPS": encode(lesion(96, 64), "EPS"),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    }


def _videos() -> dict[str, bytes]:
    return {
        "MP4": _box(b"ftyp", b"isom\0\0\2\0isomiso2mp41") + _box(b"moov", bytes(100)),
        "Matroska": b"\x1aE\xdf\xa3" + bytes(40),
        "AVI": b"RIFF" + struct.pack("<I", 44) + b"AVI LIST" + bytes(36),
        "sound in a RIFF": b"RIFF" + struct.pack("<I", 44) + b"WAVEfmt " + bytes(36),
    }


def _documents() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("lesion.jpg", encode(lesion(96, 64), "JPEG"))
    return {
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
        "DICOM": bytes(128) + b"DICM" + bytes(40),
        "ZIP": archive.getvalue(),
        "HTML": b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
        "JSON": b'{"error": "not found"}',
        "text": "Sehr geehrte Frau Doktor, anbei das Foto meines Muttermals.\n".encode("utf-16"),
        "JPEG in base64": b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYF",
        "a data address": b"data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/",
        "one byte": b"\xff",
        "two bytes of a JPEG": b"\xff\xd8",
        "zeros": bytes(100_000),
        "0xFF throughout": b"\xff" * 100_000,
        "a program": b"\x7fELF\2\1\1" + bytes(57),
    }
