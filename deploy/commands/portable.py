"""The command that takes a bundle out of the house, for a phone or a browser."""

from pathlib import Path

import click

from deploy.commands.demo import SAMPLES
from shared.bundle import find_bundle, read_manifest
from shared.photograph import decode_photograph, squash


@click.command()
@click.option("--bundle", required=True, help="What is exported: a shipped bundle's name, or a bundle's folder.")
@click.option("--format", "file_format", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option(
    "--int8", is_flag=True, help="Store weights as whole numbers and in half precision: 6 MB for a light network."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file, such as portable.onnx."
)
def export(bundle, file_format, int8, out) -> None:
    """Write a bundle as one file that ONNX Runtime runs with nothing of ours.

    Its input is the photograph's pixels, its outputs are the probabilities of a result and the class activation maps.
    Labels, preprocessing, operating points, heatmap scales, licence and the bundle's digest are in its metadata.
    The file is held against torch on the sample photographs first, and not written if it disagrees.

    \b
    Examples:
      dermqueue export --bundle portable --format onnx --int8 --out portable.onnx
      dermqueue export --bundle open --out open.onnx
    """
    import numpy as np

    from worker.portable import write_onnx  # torch is loaded only where it is used

    folder = find_bundle(bundle)
    side = read_manifest(folder).preprocessing.input_side
    samples = (decode_photograph(file.read_bytes(), min_side=2 * side) for file in sorted(SAMPLES.glob("*.jpg")))
    write_onnx(folder, out, np.stack([squash(sample, side) for sample in samples]), int8=int8)
    click.echo(f"{out} has {out.stat().st_size / 1e6:.1f} MB and answers as torch does. It is no diagnosis.")


COMMANDS = (export,)
