"""The training loop: AdamW, warm-up and cosine decay, averaged weights; resumable after every epoch."""

import hashlib
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.errors import InputUnusable, ModelUnusable
from worker.network import LesionNetwork, predict, standardise
from worker.training.augment import augment, draw_hairs
from worker.training.curves import Epoch, write_curves
from worker.training.dataset import LabelledImages, retouch
from worker.training.figures import challenge_figures
from worker.training.gaze import add_lesions, share_off_lesion
from worker.training.loss import cross_entropy, make_targets, mix, weigh_classes
from worker.training.precision import mixed_precision
from worker.training.recipe import Augmentation, Recipe
from worker.training.teacher import Teacher

CHECKPOINT_NAME = "checkpoint.pt"

OnStep = Callable[[int, int, float], None]
"""Called with the steps done, the total steps, and the last step's loss; nan: nothing is being trained."""

log = logging.getLogger(__name__)


class FineTuning:
    """One run of a recipe. Until it has finished, its folder holds `checkpoint.pt`, beside the epochs' figures."""

    def __init__(
        self,
        recipe: Recipe,
        network: LesionNetwork,
        folder: Path,
        train: LabelledImages,
        val: LabelledImages | None = None,
        soft_labels: Tensor | None = None,
        teacher: Teacher | None = None,
    ):
        """Prepare a run on the network's device.

        `soft_labels` are probabilities (n, classes) for `train`; `teacher` reads every image anew, as augmented and
        blended for training.

        Raises:
            InputUnusable: `batch_too_large`, there are fewer images than a batch takes.
        """
        self.recipe, self.folder, self.train, self.val, self.teacher = recipe, folder, train, val, teacher
        self.network = network.to(memory_format=torch.channels_last)
        self.device = network.classifier.weight.device
        self.steps_per_epoch = len(train) // recipe.batch_size
        if not self.steps_per_epoch:
            raise InputUnusable(
                "batch_too_large", f"A batch takes {recipe.batch_size} images, and there are {len(train)}."
            )
        self.ranges, self.hairs = _split_hairs(recipe)
        frames = train.pixels if self.hairs else retouch(train.pixels, recipe.preprocessing)
        self.pixels = add_lesions(frames) if recipe.loss.off_lesion else frames
        # Not a method: the run and all its images would stay in memory after it, in a cycle through itself.
        average = partial(_average, recipe.ema_decay)
        self.averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        self.optimizer = self._make_optimizer()
        self.targets = make_targets(train.labels, len(train.classes), recipe.loss, soft_labels)
        weights = weigh_classes(train.labels, len(train.classes), recipe.loss.class_balance)
        self.class_weights = weights.to(self.device)
        self.history: list[Epoch] = []
        self.identity = self._identify()

    def run(self, on_step: OnStep) -> LesionNetwork:
        """Train to the end, from the last checkpoint if there is one, and return the network with averaged weights.

        Raises:
            InputUnusable: `run_of_another_kind`, the folder holds another recipe's run or one on other data.
            ModelUnusable: `training_diverged`, the loss is no longer a number.
        """
        self._resume()
        for epoch in range(len(self.history), self.recipe.epochs):
            started = time.monotonic()
            loss, accuracy = self._train_epoch(epoch, on_step)
            self.history.append(self._judge(epoch, loss, accuracy, started))
            write_curves(self.history, self.folder)
            self._save()
            log.info("epoch_finished %s", self.history[-1])
        return self.averaged.module

    def refuse_other(self, identity: str) -> None:
        """Raise `run_of_another_kind` unless what the folder holds came from the same recipe, data and weights."""
        if identity != self.identity:
            raise InputUnusable(
                "run_of_another_kind",
                f"{self.folder} holds a run of another recipe, on other data or from other weights."
                " Give this one a folder of its own, or remove that one.",
            )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        rates = {"features": self.recipe.backbone_learning_rate, "classifier": self.recipe.head_learning_rate}
        groups = [
            {"params": list(getattr(self.network, part).parameters()), "lr": rate, "peak": rate}
            for part, rate in rates.items()
        ]
        return torch.optim.AdamW(groups, weight_decay=self.recipe.weight_decay, fused=True)

    def _train_epoch(self, epoch: int, on_step: OnStep) -> tuple[float, float]:
        """Return the mean loss and the accuracy. All randomness comes from the recipe's seed and the epoch."""
        recipe, total = self.recipe, self.recipe.epochs * self.steps_per_epoch
        generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        order = torch.randperm(len(self.train), generator=generator)
        self.network.train()
        losses, correct = [], torch.zeros((), device=self.device)
        for step, chosen in enumerate(order.split(recipe.batch_size)[: self.steps_per_epoch]):
            done = epoch * self.steps_per_epoch + step
            pixels = self._take(chosen, generator).to(self.device, non_blocking=True)
            images = augment(pixels, recipe.input_side, self.ranges, generator)
            targets = self.targets[chosen].to(self.device, non_blocking=True)
            if recipe.loss.mixup_alpha:
                images, targets = mix(images, targets, recipe.loss.mixup_alpha, generator)
            images, lesions = images[:, :3], images[:, 3:]
            if self.teacher:
                targets = targets.lerp(self.teacher.ask(images), recipe.loss.teacher_share)
            loss, logits = self._learn(images, lesions, targets, done / total)
            losses.append(loss)
            correct += (logits.argmax(dim=1) == targets.argmax(dim=1)).sum()
            on_step(done + 1, total, _finite(loss, done + 1))
        return float(torch.stack(losses).mean()), float(correct) / (self.steps_per_epoch * recipe.batch_size)

    def _take(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        pixels = self.pixels[chosen]
        if not self.hairs:
            return pixels
        frames = retouch(draw_hairs(pixels[..., :3], self.hairs, generator), self.recipe.preprocessing)
        return torch.cat([frames, pixels[..., 3:]], dim=3)

    def _learn(self, images: Tensor, lesions: Tensor, targets: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_factor(progress, self.recipe.warmup_share)
        inputs = standardise(images, self.recipe.preprocessing).contiguous(memory_format=torch.channels_last)
        with mixed_precision(self.device, training=self.recipe.network):
            logits, features = self.network(inputs)
        loss = cross_entropy(logits, targets, self.class_weights, self.recipe.loss.focal_gamma)
        if self.recipe.loss.off_lesion:
            outside = share_off_lesion(features, self.network.classifier.weight, lesions)
            loss = loss + self.recipe.loss.off_lesion * outside
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        return loss.detach(), logits.detach()

    def _judge(self, epoch: int, loss: float, accuracy: float, started: float) -> Epoch:
        figures = dict.fromkeys(("val_loss", "val_accuracy", "val_auc_melanoma", "val_auc_mean"))
        if self.val is not None:
            logits = predict(self.averaged.module, self.val.pixels, self.recipe.preprocessing)
            figures = _judge_logits(logits, self.val)
        rate = self.optimizer.param_groups[0]["lr"]
        seconds = time.monotonic() - started
        return Epoch(epoch + 1, rate, loss, accuracy, **figures, seconds=seconds)

    def _parts(self) -> dict:
        return {"network": self.network, "averaged": self.averaged, "optimizer": self.optimizer}

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        unfinished = self.folder / "checkpoint.partial"
        torch.save(state | {"history": [vars(e) for e in self.history], "identity": self.identity}, unfinished)
        unfinished.replace(self.folder / CHECKPOINT_NAME)

    def _resume(self) -> None:
        checkpoint = self.folder / CHECKPOINT_NAME
        if not checkpoint.exists():
            return
        state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        self.refuse_other(state["identity"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.history = [Epoch(**row) for row in state["history"]]
        log.info("training_resumed epoch=%d", len(self.history))

    def _identify(self) -> str:
        taught_by = self.teacher.identity if self.teacher else ""
        digest = hashlib.sha256((self.recipe.model_dump_json() + self.train.digest + taught_by).encode())
        for value in (self.targets, *self.network.state_dict().values()):
            digest.update(value.cpu().contiguous().numpy())
        return digest.hexdigest()


def _average(decay: float, averaged: list[Tensor], current: list[Tensor], n_averaged: Tensor) -> None:
    """Move the average towards the weights; it is short at first, so that it forgets where it started."""
    n = int(n_averaged)
    get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, n)


def _split_hairs(recipe: Recipe) -> tuple[Augmentation, int]:
    """Return the augmentation after retouching, and how many hairs to draw before it, for it to paint over."""
    ranges = recipe.augmentation
    return (ranges.model_copy(update={"hairs": 0}), ranges.hairs) if recipe.cleaned else (ranges, 0)


def rate_factor(progress: float, warmup_share: float) -> float:
    """Return the learning rate as a share of its peak: linear warm-up, then cosine decay to 0."""
    if progress < warmup_share:
        return progress / warmup_share
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_share) / (1 - warmup_share)))


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise ModelUnusable(
            "training_diverged", f"The loss is no longer a number after {step} steps. Try lower learning rates."
        )
    return value


def _judge_logits(logits: Tensor, val: LabelledImages) -> dict[str, float | None]:
    figures = challenge_figures(logits.numpy(), val.labels.numpy(), val.classes)
    return {
        "val_loss": functional.cross_entropy(logits, val.labels).item(),
        "val_accuracy": figures["accuracy"],
        "val_auc_melanoma": figures["AUC melanoma"],
        "val_auc_mean": figures["AUC mean"],
    }
