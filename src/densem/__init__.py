"""densem: dense 3D semantic segmentation of volume electron microscopy."""

__version__ = "0.1.0"
