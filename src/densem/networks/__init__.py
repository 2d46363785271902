"""Networks: tensors in, logits out; they know nothing of files or nanometres."""

from densem.networks.architectures import ARCHITECTURES, Architecture, build, mflop_per_voxel, parameters
from densem.networks.geometry import Geometry
from densem.networks.hybrid import Hybrid2D3D, HybridConfig
from densem.networks.normalization import fold_normalization, reestimate_normalization
from densem.networks.published import load_published
from densem.networks.streaming import streams
from densem.networks.unet import AnisotropicUNet, AnisotropicUNetConfig, UNet2D, UNet2DConfig
from densem.networks.widening import widen

__all__ = [
    "ARCHITECTURES",
    "AnisotropicUNet",
    "AnisotropicUNetConfig",
    "Architecture",
    "Geometry",
    "Hybrid2D3D",
    "HybridConfig",
    "UNet2D",
    "UNet2DConfig",
    "build",
    "fold_normalization",
    "load_published",
    "mflop_per_voxel",
    "parameters",
    "reestimate_normalization",
    "streams",
    "widen",
]
