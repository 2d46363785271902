"""The phantom: synthetic volume EM of platelets with known truth in all seven classes."""

from densem.datasets.phantom.config import PhantomConfig
from densem.datasets.phantom.export import PhantomFiles, write_phantom
from densem.datasets.phantom.phantom import Phantom, PhantomBlock

__all__ = ["Phantom", "PhantomBlock", "PhantomConfig", "PhantomFiles", "write_phantom"]
