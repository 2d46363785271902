"""OpenGL: whether this machine can draw at all, found out before anything is drawn.

VTK draws without a display through EGL or OSMesa, with one through X. Where it finds none of them it ends in
a segmentation fault, so it is tried in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec

from densem.errors import ConfigError, ResourceError

_TRIAL = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
window = vtkRenderWindow()
window.SetOffScreenRendering(True)
window.SetSize(16, 16)
window.AddRenderer(vtkRenderer())
window.Render()
print(window.GetClassName() if window.SupportsOpenGL() else "", flush=True)
"""
_PATIENCE_S = 120.0


def check_installed(*modules: str) -> None:
    """Refuse to begin without parts of the `render` extra.

    Raises:
        ConfigError: with the command that installs them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"densem render: expected {' and '.join(missing)}, not installed here; "
            "pip install 'densem[render]'"
        )


def check_opengl() -> None:
    """Refuse to begin where nothing can be drawn.

    Raises:
        ResourceError: with what to install.
    """
    if not has_opengl():
        display = os.environ.get("DISPLAY")
        raise ResourceError(
            "densem render: no OpenGL on this machine, with which pictures are drawn "
            f"({f'display {display}' if display else 'no display'}, EGL and OSMesa tried). "
            "Install Mesa's software renderer, which needs no display and no graphics card: "
            "apt install libegl1 libgl1-mesa-dri (Debian, Ubuntu), dnf install mesa-libEGL mesa-dri-drivers "
            "(Fedora, Rocky), or conda install -c conda-forge mesalib; or run it under xvfb-run"
        )


@lru_cache(maxsize=1)
def has_opengl() -> bool:
    """Whether VTK can draw here, with or without a display."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and bool(done.stdout.strip())
