"""ResNet-50's feature maps: the server's network."""

from torch import Tensor, nn
from torchvision.models import resnet50

_STAGES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class ResNet50V1(nn.Sequential):
    """ResNet-50 v1 (He et al. 2016, arXiv 1512.03385) up to its last block, (N, 2048, side/32, side/32).

    v1 has its stride 2 in the first 1×1 convolution of a stage, where torchvision has it in the 3×3 one; the
    ImageNet weights that training starts from are v1's, and the wrong variant costs 6 points of top-1 accuracy.
    """

    n_maps = 2048

    def __init__(self):
        resnet = resnet50()
        for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        super().__init__(*(getattr(resnet, name) for name in _STAGES))

    def stages(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of the last two stages, (N, 1024, side/16, side/16) and (N, 2048, side/32, side/32)."""
        *parts, last = self
        maps = pixels
        for part in parts:
            maps = part(maps)
        return maps, last(maps)

    @staticmethod
    def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ImageNet weights, given under torchvision's key names, under ours, which are numbers."""
        by_stage = {name: str(position) for position, name in enumerate(_STAGES)}
        parts = ((key.partition("."), value) for key, value in weights.items())
        return {f"{by_stage[stage]}.{rest}": value for (stage, _, rest), value in parts if stage in by_stage}
