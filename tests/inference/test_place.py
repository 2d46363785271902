import numpy as np
import pytest
from tiny_models import EXACT, make_model, make_volume

from densem.blocks import Box
from densem.errors import InputError
from densem.inference.labeller import Labeller
from densem.inference.place import Place
from densem.volumes import Volume

OPTIONS = EXACT.model_copy(update={"core": (4, 16, 24)})


def labeller(array):
    record = make_volume().attributes
    return Labeller.of(make_model("planar"), Volume(array, (40.0, 10.0, 8.0), attributes=record), OPTIONS)


def test_the_middle_where_there_is_an_image():
    found = Place.find(labeller(make_volume((12, 80, 120)).read()))
    assert (found.core, found.looked, found.constant) == (Box((4, 32, 48), (8, 48, 72)), 1, False)


def test_elsewhere_where_the_middle_is_empty():
    array = make_volume((12, 80, 120)).read().copy()
    array[:, 8:72, 24:96] = 0
    found = Place.find(labeller(array))
    assert not found.constant
    assert found.looked > 1
    assert found.core == Place.find(labeller(array)).core


def test_the_middle_where_all_is_empty():
    found = Place.find(labeller(np.full((12, 80, 120), 9, np.uint8)))
    assert (found.core.start, found.constant) == ((4, 32, 48), True)
    assert found.looked > 5


def test_a_crop_has_these_voxels_and_no_others():
    made = labeller(make_volume((12, 80, 120)).read())
    place = Place.find(made)
    crop = place.crop(made.volume)
    assert crop.shape == (12, 80, 120)
    np.testing.assert_array_equal(crop.read(place.core), made.volume.read(place.core))
    part = Box(place.core.start, (5, 40, 60))
    np.testing.assert_array_equal(crop.read(part), made.volume.read(part))
    with pytest.raises(InputError):
        crop.read(Box((0, 0, 0), (1, 1, 1)))
