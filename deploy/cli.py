"""`dermqueue`: the command line."""

import errno
import os
from functools import partial

import click
from sqlalchemy.exc import ArgumentError, DBAPIError

from deploy.commands import (
    access,
    backup,
    demo,
    evaluation,
    gate,
    models,
    oversight,
    photographs,
    portable,
    queue,
    serve,
    training,
)
from deploy.logs import set_up_logging
from shared.errors import DermQueueError, Unavailable, first_line

_OF_EXTRAS = {
    *("onnx", "onnxruntime", "safetensors", "scipy", "torch", "torchvision"),
    *("matplotlib", "sklearn", "tensorboard"),
}
"""Packages of optional extras, which a machine that only runs the API does not need."""

_TRAINING = {"bundle", "cross-validate", "evaluate", "gate", "train"}


class _Group(click.Group):
    """Reports our own errors, the database's, missing packages and unusable files in one sentence.

    Anything else is a bug and keeps its traceback.
    """

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except DermQueueError as error:
            reason = f": {error.reason}" if isinstance(error, Unavailable) and error.reason else ""
            raise click.ClickException(f"{error.detail} [{error.code}]{reason}") from error
        except (ArgumentError, DBAPIError) as error:  # what no retry cures, such as a permission that is missing
            raise click.ClickException(f"The database refuses: {first_line(error)}") from error
        except OSError as error:
            if error.filename is None and error.errno != errno.ENOSPC:
                raise
            raise click.ClickException(": ".join(filter(None, (error.filename, error.strerror)))) from error
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in _OF_EXTRAS:
                raise
            command = ctx.invoked_subcommand
            extra = "train" if command in _TRAINING else "worker"
            raise click.ClickException(
                f"`dermqueue {command}` needs {missing}, which is not installed: pip install 'dermqueue[{extra}]'"
            ) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="dermqueue")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    show_envvar=True,  # also in the sentence that refuses a value
    envvar="DERMQUEUE_LOG_LEVEL",
    help="The least severe level to log; the variable also applies to the programs that `up` starts.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"], case_sensitive=False),
    default="text",
    show_default=True,
    show_envvar=True,
    envvar="DERMQUEUE_LOG_FORMAT",
    help="Lines for people, or one JSON object per line; the variable also applies to what `up` starts.",
)
def main(log_level: str, log_format: str) -> None:
    """DermQueue: skin-lesion triage for telemedicine.

    Clinics submit photographs, workers analyse them with a ResNet and Grad-CAM, clinics and reviewers fetch results
    and heatmaps. Every result is a decision aid for clinicians, not a diagnosis.

    \b
    First steps:
      dermqueue demo                        analyse a few sample photographs, start to finish
      dermqueue up                          run everything on this machine
      dermqueue submit photo.jpg --wait     send a photograph and wait for its result

    DERMQUEUE_DATABASE_URL, DERMQUEUE_BROKER_URL and DERMQUEUE_S3_* name the servers to use; `up` and `demo` start an
    embedded server for each that is not named.
    """
    # Photographs, results, keys, logs: only our own user may read what we and our programs write.
    click.get_current_context().call_on_close(partial(os.umask, os.umask(0o077)))
    set_up_logging(log_level, log_format)


_MODULES = (
    *(demo, serve, photographs, backup, access, oversight, queue),
    *(training, evaluation, gate, models, portable),
)
for _module in _MODULES:
    for _command in _module.COMMANDS:
        main.add_command(_command)


if __name__ == "__main__":
    main()
