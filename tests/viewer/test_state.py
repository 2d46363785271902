"""State: what Neuroglancer is told, as literals."""

from densem.viewer import Focus, ImageLayer, Scene, SegmentLayer, Source, segment_names, state_of
from densem.viewer.scene import GREY, tint

SIZE = (40.0, 10.0, 12.5)
BASE = "http://127.0.0.1:8000"


def source(key, **facts):
    return Source(key, 3, SIZE, (0.5, 0.5, 0.5), **facts)


def scene(*layers, focus=None):
    return Scene("st eval", SIZE, focus or Focus((400.0, 100.0, 50.0), (800.0, 3600.0, 2600.0)), layers)


def test_dimensions_position_and_zoom():
    state = state_of(scene(), BASE, "T")
    assert state["title"] == "st eval"
    assert list(state["dimensions"].items()) == [
        ("x", [1.25e-8, "m"]),
        ("y", [1e-8, "m"]),
        ("z", [4e-8, "m"]),
    ]
    assert state["position"] == [4.0, 10.0, 10.0]
    assert state["crossSectionScale"] == 1.15  # 3600 nm over 360 pixels, voxels of 10 nm, and some room
    assert state["projectionScale"] == 361.0  # 0.8 times the diagonal of 4512 nm
    assert state["showSlices"] is True
    assert "selection" not in state


def test_image():
    layer = ImageLayer("image", source("image"), GREY, (20.0, 230.0))
    (made,) = state_of(scene(layer), BASE, "T")["layers"]
    assert made == {
        "type": "image",
        "name": "image",
        "source": {
            "url": "http://127.0.0.1:8000/data/T/image/|zarr3:",
            "transform": source("image").transform(),
            "enableDefaultSubsources": False,
            "subsources": {"default": True},
        },
        "shader": GREY,
        "opacity": 1.0,
        "visible": True,
        "shaderControls": {"normalized": {"range": [20.0, 230.0]}},
    }


def test_a_channel():
    layer = ImageLayer("p", source("p", leading=("c",)), tint((255, 0, 51)), (0.0, 1.0), 4, visible=False)
    (made,) = state_of(scene(layer), BASE, "T")["layers"]
    assert made["localPosition"] == [4.5]
    assert "vec4(1.000, 0.000, 0.200, normalized())" in made["shader"]
    assert made["visible"] is False


def test_segments():
    layer = SegmentLayer(
        "first: cell", source("objects+a.0"), names="objects+a.0", meshes="meshes", shown=(3, 12),
        colors={3: "#0101e0"}, default_color="#01fe01", dimmed=0.15, mesh_alpha=0.25,
    )  # fmt: skip
    focus = Focus((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "first: cell", 12)
    state = state_of(scene(layer, focus=focus), BASE, "T")
    (made,) = state["layers"]
    made["source"][0] = made["source"][0]["url"]
    assert made == {
        "type": "segmentation",
        "name": "first: cell",
        "source": [
            "http://127.0.0.1:8000/data/T/objects%2Ba.0/|zarr3:",
            "http://127.0.0.1:8000/names/T/objects%2Ba.0/|neuroglancer-precomputed:",
            {
                "url": "http://127.0.0.1:8000/data/T/meshes/|neuroglancer-precomputed:",
                "enableDefaultSubsources": False,
                "subsources": {"default": True},
            },
        ],
        "tab": "segments",
        "segments": ["3", "12"],
        "ignoreNullVisibleSet": True,
        "segmentColors": {"3": "#0101e0"},
        "segmentDefaultColor": "#01fe01",
        "hideSegmentZero": True,
        "selectedAlpha": 0.4,
        "notSelectedAlpha": 0.15,
        "objectAlpha": 0.25,
        "visible": True,
    }
    assert state["selectedLayer"] == {"layer": "first: cell", "visible": True}
    assert state["selection"] == {"layers": {"first: cell": {"value": "12"}}}
    assert state["showSlices"] is False


def test_segment_names():
    made = segment_names(
        [3, 12], ["my cell 3", "my cell 12"], ["my cell", "my cell"], {"volume_um3": [1.5, 2.0]}
    )
    assert made == {
        "@type": "neuroglancer_segment_properties",
        "inline": {
            "ids": ["3", "12"],
            "properties": [
                {"id": "label", "type": "label", "values": ["my cell 3", "my cell 12"]},
                {"id": "tags", "type": "tags", "tags": ["my_cell"], "values": [[0], [0]]},
                {"id": "volume_um3", "type": "number", "data_type": "float32", "values": [1.5, 2.0]},
            ],
        },
    }
