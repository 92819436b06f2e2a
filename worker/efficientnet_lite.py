"""EfficientNet-Lite0's feature maps: light enough for a phone, which can compute all of it in integers."""

from torch import Tensor, nn
from torch.nn import functional

_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Per stage: number of blocks, kernel side, the first block's stride, expansion ratio, output channels."""

_STEM_MAPS = 32
_LAST_STRIDE = 11
"""The block that halves the side for the last time."""

_EPSILON = 1e-3


class EfficientNetLite0(nn.Module):
    """EfficientNet (Tan and Le 2019, arXiv 1905.11946) without squeeze-and-excitation and with ReLU6: "Lite" 0.

    Matches TensorFlow, where its ImageNet weights come from: SAME padding, a batch-normalisation epsilon of 1e-3,
    inputs (x - 127) / 128 for x in [0, 255].
    """

    n_maps = 1280

    def __init__(self):
        super().__init__()
        self.conv_stem = _SamePadded(3, _STEM_MAPS, 3, stride=2, bias=False)
        self.bn0 = nn.BatchNorm2d(_STEM_MAPS, eps=_EPSILON)
        blocks, maps = [], _STEM_MAPS
        for n_blocks, side, stride, widening, maps_out in _STAGES:
            for number in range(n_blocks):
                blocks.append(_Block(maps, maps_out, side, stride if number == 0 else 1, widening))
                maps = maps_out
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = nn.Conv2d(maps, self.n_maps, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.n_maps, eps=_EPSILON)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return feature maps (N, 1280, side/32, side/32) of normalised pixels (N, 3, side, side), 32 dividing side."""
        return self.stages(pixels)[-1]

    def stages(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the widened maps before the last stride, (N, 672, side/16, side/16), and the last of all."""
        maps = self.blocks[:_LAST_STRIDE](functional.relu6(self.bn0(self.conv_stem(pixels))))
        halving = self.blocks[_LAST_STRIDE]
        wide = halving.widen(maps)
        last = self.blocks[_LAST_STRIDE + 1 :](halving.narrow(wide))
        return wide, functional.relu6(self.bn1(self.conv_head(last)))

    @staticmethod
    def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ImageNet weights under our key names: EfficientNet-PyTorch's begin with an underscore."""
        ours = {key.replace("._", ".").removeprefix("_"): value for key, value in weights.items()}
        return {key: value for key, value in ours.items() if not key.startswith("fc.")}


class _Block(nn.Module):
    """An inverted residual block: 1×1 expansion, depthwise, 1×1 projection; a skip connection where shapes match."""

    def __init__(self, maps: int, maps_out: int, side: int, stride: int, widening: int):
        super().__init__()
        wide = maps * widening
        self.widens, self.adds = widening > 1, stride == 1 and maps == maps_out
        if self.widens:
            self.expand_conv = nn.Conv2d(maps, wide, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self.depthwise_conv = _SamePadded(wide, wide, side, stride=stride, groups=wide, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self.project_conv = nn.Conv2d(wide, maps_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps_out, eps=_EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        narrow = self.narrow(self.widen(maps))
        return maps + narrow if self.adds else narrow

    def widen(self, maps: Tensor) -> Tensor:
        return functional.relu6(self.bn0(self.expand_conv(maps))) if self.widens else maps

    def narrow(self, wide: Tensor) -> Tensor:
        return self.bn2(self.project_conv(functional.relu6(self.bn1(self.depthwise_conv(wide)))))


class _SamePadded(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding of an even side: at stride 2, one more px below and on the right."""

    def forward(self, maps: Tensor) -> Tensor:
        before, uneven = divmod(self.kernel_size[0] - self.stride[0], 2)
        if uneven:
            maps = functional.pad(maps, [before, before + 1] * 2)
        return functional.conv2d(maps, self.weight, None, self.stride, 0 if uneven else before, 1, self.groups)
