"""The 3D view as HTML: a canvas, what steers it, and the scene in scripts that hold data.

Controls are hidden until the script has started; until then, and where it cannot start, a message stands in
the place of the picture.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from html import escape
from importlib.resources import files

from densem.report.view3d.scene import Scene

MESSAGE = (
    "The 3D view needs JavaScript and WebGL 2, and has not started. The figures and tables of this page are "
    "complete without it."
)
KEYS = (
    "Drag to turn, wheel or two fingers to zoom, Shift and drag to move, double-click to centre a point. "
    "Keys: arrows, + and -, n and p for the next and previous object, c centre, a alone, 0 reset."
)
_AXIS = '<g data-part="axis-{0}"><line x1="0" y1="0" x2="0" y2="0"></line><text>{0}</text></g>'


@cache
def script() -> str:
    """The program of the view."""
    parts = [_text(name) for name in ("drawing.js", "view.js")]
    return "(() => {\n" + "\n".join(parts) + "\n})();"


@cache
def style() -> str:
    """Its look."""
    return _text("view.css")


def _text(name: str) -> str:
    return files("densem.report.view3d").joinpath(name).read_text(encoding="utf-8")


def view_html(scene: Scene, caption: str) -> str:
    """The figure with its caption, which is HTML already."""
    label = f"3D view of {scene.count:,} objects. {KEYS}"
    compass = "".join(_AXIS.format(axis) for axis in "xyz")
    return f"""<figure class="view3d">
<div class="stage">
<canvas data-part="canvas" tabindex="0" role="application" aria-label="{escape(label)}"></canvas>
<p class="message" data-part="message">{escape(MESSAGE)}</p>
<div class="scale" aria-hidden="true"><span data-part="length"></span><i data-part="bar"></i></div>
<svg class="compass" aria-hidden="true" width="84" height="84" viewBox="-42 -42 84 84">{compass}</svg>
<img class="paper" data-part="print" alt="The objects, seen as when the page was printed">
</div>
<div class="controls" data-part="controls" hidden>
{_classes(scene)}
{_opacity(scene)}
<output data-part="chosen" aria-live="polite"></output>
<div class="buttons">
<label>Object <input type="number" min="1" data-part="id" aria-label="Id of the chosen object"></label>
<button type="button" data-part="previous" aria-label="Previous object" title="Previous object">‹</button>
<button type="button" data-part="next" aria-label="Next object" title="Next object">›</button>
</div>
<div class="buttons">
<button type="button" data-part="alone" aria-pressed="false" disabled>{_alone(scene)}</button>
<button type="button" data-part="reset">Reset</button>
<button type="button" data-part="save">Save PNG</button>
<button type="button" data-part="whole">Full screen</button>
</div>
<p class="keys">{escape(KEYS)}</p>
</div>
<figcaption>{caption}</figcaption>
<script type="application/json" data-part="scene">{_safe(scene.description())}</script>
<script type="text/plain" data-part="surfaces">{scene.payload()}</script>
</figure>"""


def _classes(scene: Scene) -> str:
    number = Counter(o.kind for o in scene.objects if o.id)
    rows = "".join(
        f'<label class="class"><input type="checkbox" checked data-part="class-{n}">'
        f'<span class="swatch" style="background:{escape(c.color)}"></span>'
        f'<span>{escape(c.name)}</span><span class="number">{_count(number[n])}</span></label>'
        for n, c in enumerate(scene.classes)
    )
    return f'<fieldset><legend>Classes</legend><div class="classes">{rows}</div></fieldset>'


def _count(number: int) -> str:
    """Nothing for stuff, which does not come in objects."""
    return f"{number:,}" if number else ""


def _opacity(scene: Scene) -> str:
    names = [c.name for c in scene.classes if c.translucent]
    if not names:
        return ""
    return (
        f'<label class="field">Opacity of {escape(" and ".join(names))}'
        '<input type="range" min="0" max="100" value="30" data-part="opacity"></label>'
    )


def _alone(scene: Scene) -> str:
    return "Its cell alone" if any(c.translucent for c in scene.classes) else "Alone"


def _safe(json: str) -> str:
    """JSON that can stand inside a script element."""
    return json.replace("<", "\\u003c")
