"""The command that exports a bundle for a phone or a browser."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from deploy.bundles import BUNDLE_NAMES, opened_bundle
from deploy.commands import data_dir_option
from deploy.commands.demo import SAMPLES
from shared.bundle import read_manifest
from shared.errors import InputUnusable
from shared.photograph import decode_photograph


@click.command()
@click.option("--bundle", required=True, help=f"The bundle to export: {BUNDLE_NAMES}.")
@click.option(
    "--format", "file_format", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="The file's format."
)
@click.option(
    "--int8", is_flag=True, help="Store weights as 8-bit integers and in half precision: 6 MB for a light network."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write, such as portable.onnx."
)
@click.option(
    "--web",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to write, with the file and a page that reads photographs with it in the browser, for any file"
    " server.",
)
@data_dir_option
def export(bundle, file_format, int8, out, web, data_dir) -> None:
    """Export a bundle to ONNX, or as a page for browsers.

    ONNX Runtime can run the file without any of our code. Its input is the photograph's pixels, its outputs are the
    probabilities of a result and the class activation maps. Labels, preprocessing, operating points, heatmap scales,
    licence and the bundle's digest are in its metadata. The file is first compared with torch on the sample
    photographs, and not written if the two disagree.

    \b
    Examples:
      dermqueue export --bundle open --format onnx --out open.onnx
      dermqueue export --bundle bundles/portable --int8 --out portable.onnx
      dermqueue export --bundle bundles/portable --int8 --web portable/
    """
    if not out and not web:
        raise click.UsageError("Give --out FILE, --web FOLDER or both.")
    with opened_bundle(bundle, data_dir) as folder, TemporaryDirectory() as made:
        if web:
            _refuse_retouching(folder)
        file = Path(made) / "model.onnx"
        _write_checked(folder, file, int8)
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        if out:
            shutil.copyfile(file, out)
            click.echo(f"{out} ({size}) agrees with torch on the samples. Its results are not a diagnosis.")
        if web:
            from api.pages.portable import write_folder  # as is Flask

            os.umask(0o022)  # a file server runs as another user; anything else that we write is private
            write_folder(web, file)
            click.echo(
                f"{web} holds a page whose model ({size}) agrees with torch on the samples. Its results are not a"
                " diagnosis."
            )


def _refuse_retouching(bundle: Path) -> None:
    if read_manifest(bundle).preprocessing.retouches:
        raise InputUnusable(
            "web_unfit",
            "This bundle needs hairs painted over or dim photographs brightened, which the page does not do. Export one"
            " whose recipe sets neither `cleaned` nor `least_light`, such as portable, or use --out alone.",
        )


def _write_checked(bundle: Path, file: Path, int8: bool) -> None:
    import numpy as np

    from worker.frame import DECODED_SIDE, squash  # torch is loaded only where it is used
    from worker.onnx_export import write_onnx

    preprocessing = read_manifest(bundle).preprocessing
    samples = (decode_photograph(sample.read_bytes(), DECODED_SIDE) for sample in sorted(SAMPLES.glob("*.jpg")))
    write_onnx(bundle, file, np.stack([squash(sample, preprocessing) for sample in samples]), int8=int8)


COMMANDS = (export,)
