"""The training loop: AdamW, a one-cycle learning rate, an average of the weights; resumable after every epoch."""

import csv
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.bundle import Preprocessing
from shared.domain import CLASSES
from worker.gradcam import class_activation_maps
from worker.model import choose_device
from worker.network import LesionNetwork, load_imagenet_weights, normalise, standardise
from worker.training.augment import augment
from worker.training.dataset import LabelledImages
from worker.training.recipe import Recipe

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _preprocessing(side: int) -> Preprocessing:
    return Preprocessing(input_side=side, mean=IMAGENET_MEAN, std=IMAGENET_STD)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; AUCs and accuracy are those of the averaged weights on the validation images."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_auc_melanoma: float
    val_auc_keratosis: float
    seconds: float

    @property
    def mean_auc(self) -> float:
        return (self.val_auc_melanoma + self.val_auc_keratosis) / 2


class FineTuning:
    """One run of a recipe. Its folder holds `checkpoint.pt`, `best.pt` and `history.csv`."""

    def __init__(self, recipe: Recipe, imagenet_weights: Path, folder: Path, n_train: int):
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder, self.device = recipe, folder, choose_device("auto")
        network = LesionNetwork()
        load_imagenet_weights(network, imagenet_weights)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.averaged = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.peak_learning_rate, weight_decay=recipe.weight_decay
        )
        self.steps_per_epoch = n_train // recipe.batch_size
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.peak_learning_rate, recipe.epochs * self.steps_per_epoch
        )
        self.history: list[Epoch] = []
        self.preprocessing = _preprocessing(recipe.input_side)

    def run(self, train: LabelledImages, val: LabelledImages, on_step: Callable[[int, int], None]) -> Path:
        """Train to the end, from the last checkpoint if there is one, and return the best weights' path.

        The best epoch is the one with the highest mean of the two AUCs on the validation images, which are read at the
        recipe's input side. `on_step` is called with the steps done and the steps in all.
        """
        self._resume()
        on_step(len(self.history) * self.steps_per_epoch, self.recipe.epochs * self.steps_per_epoch)
        for epoch in range(len(self.history), self.recipe.epochs):
            started = time.monotonic()
            loss, accuracy = self._train_epoch(epoch, train, on_step)
            self.history.append(self._validate(epoch, loss, accuracy, val, started))
            log.info("epoch_finished %s", self.history[-1])
            if self.history[-1].mean_auc == max(e.mean_auc for e in self.history):
                torch.save(self.averaged.module.state_dict(), self.folder / "best.pt")
            self._save()
        return self.folder / "best.pt"

    def _train_epoch(
        self, epoch: int, train: LabelledImages, on_step: Callable[[int, int], None]
    ) -> tuple[float, float]:
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        order = torch.randperm(len(train), generator=generator)
        self.network.train()
        losses, correct = [], 0
        for step in range(self.steps_per_epoch):
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            labels = train.labels[chosen].to(self.device)
            images = augment(train.pixels[chosen].to(self.device), recipe.input_side, recipe.augmentation, generator)
            loss, logits = self._step(images, labels)
            losses.append(loss)
            correct += int((logits.argmax(dim=1) == labels).sum())
            on_step(epoch * self.steps_per_epoch + step + 1, recipe.epochs * self.steps_per_epoch)
        return float(np.mean(losses)), correct / (self.steps_per_epoch * recipe.batch_size)

    def _step(self, images: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        inputs = standardise(images, self.preprocessing).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits, _ = self.network(inputs)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.averaged.update_parameters(self.network)
        return loss.item(), logits.detach()

    def _validate(self, epoch: int, loss: float, accuracy: float, val: LabelledImages, started: float) -> Epoch:
        logits, _ = predict(self.averaged.module, val)
        probabilities, labels = logits.softmax(dim=1).numpy(), val.labels.numpy()
        auc = {name: roc_auc_score(labels == i, probabilities[:, i]) for i, name in enumerate(CLASSES)}
        return Epoch(
            epoch=epoch + 1,
            train_loss=loss,
            train_accuracy=accuracy,
            val_loss=functional.cross_entropy(logits, val.labels).item(),
            val_accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
            val_auc_melanoma=float(auc["melanoma"]),
            val_auc_keratosis=float(auc["seborrheic_keratosis"]),
            seconds=time.monotonic() - started,
        )

    def _save(self) -> None:
        parts = {
            "network": self.network,
            "averaged": self.averaged,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }
        state = {name: part.state_dict() for name, part in parts.items()}
        partial = self.folder / "checkpoint.partial"
        torch.save(state | {"history": [vars(e) for e in self.history]}, partial)
        partial.replace(self.folder / "checkpoint.pt")
        with (self.folder / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(vars(self.history[0])))
            writer.writeheader()
            writer.writerows(vars(e) for e in self.history)

    def _resume(self) -> None:
        checkpoint = self.folder / "checkpoint.pt"
        if not checkpoint.exists():
            return
        state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        for name in ("network", "averaged", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.history = [Epoch(**row) for row in state["history"]]
        log.info("training_resumed epoch=%d", len(self.history))


@torch.inference_mode()
def predict(network: LesionNetwork, images: LabelledImages) -> tuple[Tensor, Tensor]:
    """Return logits (n, classes) and raw class activation maps (n, classes, h, w) of every image, in float32."""
    network.eval()
    device = network.classifier.weight.device
    logits, maps = [], []
    for pixels in images.pixels.split(32):
        chunk_logits, features = network(normalise(pixels.to(device), _preprocessing(images.pixels.shape[1])))
        logits.append(chunk_logits.float().cpu())
        maps.append(class_activation_maps(features, network.classifier.weight).float().cpu())
    return torch.cat(logits), torch.cat(maps)
