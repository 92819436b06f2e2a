"""The command that takes a bundle out of the house, for a phone or a browser."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from deploy.commands.demo import SAMPLES
from shared.bundle import find_bundle, read_manifest
from shared.errors import InputUnusable
from shared.photograph import decode_photograph


@click.command()
@click.option("--bundle", required=True, help="What is exported: a shipped bundle's name, or a bundle's folder.")
@click.option("--format", "file_format", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option(
    "--int8", is_flag=True, help="Store weights as whole numbers and in half precision: 6 MB for a light network."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file, such as portable.onnx.")
@click.option(
    "--web",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder with the file and a page that reads photographs by it, in the browser: for any file server.",
)
def export(bundle, file_format, int8, out, web) -> None:
    """Write a bundle as one file that ONNX Runtime runs with nothing of ours.

    Its input is the photograph's pixels, its outputs are the probabilities of a result and the class activation maps.
    Labels, preprocessing, operating points, heatmap scales, licence and the bundle's digest are in its metadata.
    The file is held against torch on the sample photographs first, and not written if it disagrees.

    \b
    Examples:
      dermqueue export --bundle open --format onnx --out open.onnx
      dermqueue export --bundle bundles/portable --int8 --out portable.onnx
      dermqueue export --bundle bundles/portable --int8 --web portable/
    """
    if not out and not web:
        raise click.UsageError("Say where: --out FILE, --web FOLDER or both.")
    if web and read_manifest(find_bundle(bundle)).preprocessing.retouches:
        raise InputUnusable(
            "web_unfit",
            "This bundle has hairs painted over or dim photographs brightened, which the page does not do. Export one"
            " whose recipe sets neither `cleaned` nor `least_light`, such as portable, or write it to --out alone.",
        )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        _write_checked(find_bundle(bundle), file, int8)
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        if out:
            shutil.copyfile(file, out)
            click.echo(f"{out} has {size} and answers as torch does. It is no diagnosis.")
        if web:
            from api.pages.portable import write_folder  # as is Flask

            write_folder(web, file)
            click.echo(f"{web} is a page with a model of {size} that answers as torch does. It is no diagnosis.")


def _write_checked(bundle: Path, file: Path, int8: bool) -> None:
    import numpy as np

    from worker.frame import DECODED_SIDE, squash  # torch is loaded only where it is used
    from worker.onnx_export import write_onnx

    preprocessing = read_manifest(bundle).preprocessing
    samples = (decode_photograph(sample.read_bytes(), DECODED_SIDE) for sample in sorted(SAMPLES.glob("*.jpg")))
    write_onnx(bundle, file, np.stack([squash(sample, preprocessing) for sample in samples]), int8=int8)


COMMANDS = (export,)
