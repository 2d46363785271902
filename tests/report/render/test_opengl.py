"""What is said where nothing can be drawn."""

import sys

import pytest

from densem.errors import ConfigError, ResourceError
from densem.report.render import check_installed, check_opengl, has_opengl


def test_a_missing_package_says_what_to_install():
    with pytest.raises(ConfigError) as caught:
        check_installed("numpy", "no_such_package")
    assert str(caught.value) == (
        "densem render: expected no_such_package, not installed here; pip install 'densem[render]'"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="how libraries are hidden here")
def test_without_opengl_it_is_found_out_before_vtk_crashes(tmp_path, monkeypatch):
    """Libraries that cannot be loaded stand before the real ones."""
    pytest.importorskip("vtkmodules")
    for name in ("libEGL.so.1", "libEGL.so", "libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        (tmp_path / name).touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    has_opengl.cache_clear()
    try:
        with pytest.raises(ResourceError) as caught:
            check_opengl()
    finally:
        has_opengl.cache_clear()
    said = str(caught.value)
    assert "no OpenGL on this machine" in said
    assert "no display, EGL and OSMesa tried" in said
    assert "apt install libegl1 libgl1-mesa-dri" in said
    assert "xvfb-run" in said
