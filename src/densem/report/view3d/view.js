// What a reader does with a 3D view: turn it, switch classes on and off, choose an object. Drawing: drawing.js.

const TURN = 0.008; // radians for a pixel of dragging
const STILL = 5, DOUBLE = 350; // a click moves less (pixels); two within this time (ms) are a double click
const KEYS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};

class View {
  constructor(figure) {
    this.figure = figure;
    this.find = (name) => figure.querySelector(`[data-part="${name}"]`);
    this.canvas = this.find("canvas");
    this.record = JSON.parse(this.find("scene").textContent);
    this.classes = this.record.classes.map((c) => ({
      ...c, shown: true, rgb: [1, 3, 5].map((at) => parseInt(c.color.slice(at, at + 2), 16)),
    }));
    this.scene = unpack(this.record, this.find("surfaces").textContent);
    this.byId = new Map(this.scene.objects.filter((o) => o.id).map((o) => [o.id, o]));
    this.chosen = this.alone = null;
    this.opacity = 0.3;
    this.painter = new Painter(this.canvas, this.scene, this.classes);
    if (!this.painter.gl) throw new Error("this browser offers no WebGL 2");
    this.camera = new Camera(cornersOf(this.record.box));
    this.listen();
    this.find("message").hidden = true;
    this.find("controls").hidden = false;
    this.figure.classList.add("ready");
    new ResizeObserver(() => this.fit()).observe(this.canvas);
    this.fit();
    this.camera.reset();
    this.readColors();
    this.choose(null);
  }

  // ---- showing -------------------------------------------------------------------------------

  fit() { // the canvas to its place in the page
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width < 2 || height < 2) return; // not shown, as on paper
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const before = Math.min(this.camera.width, this.camera.height);
    if (before > 1) this.camera.zoom *= Math.min(width, height) / before;
    [this.camera.width, this.camera.height] = [width, height];
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.colors) this.draw();
  }

  readColors() { // of the page, which may be dark
    const style = getComputedStyle(this.figure);
    const color = (name) => style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((v) => parseInt(v, 16));
    this.colors = { ground: color("--stage"), ink: color("--stage-ink"), line: color("--stage-line") };
    this.dress();
  }

  dress() {
    this.painter.dress((o) => this.isShown(o), this.chosen, this.colors.line);
    this.redraw();
  }

  isShown(o) {
    return this.classes[o.kind].shown && (this.alone === null || this.outermost(o) === this.alone);
  }

  outermost(o) { // the object that holds it, such as its cell
    for (let up = o; up; up = this.byId.get(up.parent)) o = up;
    return o;
  }

  redraw() { // once for all that happens until the next frame
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.waiting);
    this.waiting = undefined;
    if (this.painter.gl.isContextLost()) return;
    this.painter.draw(this.camera, this.colors, this.opacity);
    const bar = scaleBar(this.camera.width * 0.25, this.camera.zoom / this.record.step_nm);
    this.find("bar").style.width = `${bar.pixels}px`;
    this.find("length").textContent = bar.label;
    ["x", "y", "z"].forEach((axis, n) => {
      const [right, down] = [this.camera.turn[0][n] * 26, this.camera.turn[1][n] * 26];
      const arrow = this.find(`axis-${axis}`);
      arrow.querySelector("line").setAttribute("x2", right);
      arrow.querySelector("line").setAttribute("y2", down);
      arrow.querySelector("text").setAttribute("x", right * 1.32);
      arrow.querySelector("text").setAttribute("y", down * 1.32);
    });
  }

  picture() { // as a data URI, scale bar included
    this.draw();
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [this.canvas.width, this.canvas.height];
    const pen = copy.getContext("2d"), ratio = copy.width / this.camera.width;
    pen.drawImage(this.canvas, 0, 0);
    pen.scale(ratio, ratio);
    pen.fillStyle = `rgb(${this.colors.ink})`;
    const bar = scaleBar(this.camera.width * 0.25, this.camera.zoom / this.record.step_nm);
    pen.fillRect(16, this.camera.height - 20, bar.pixels, 4);
    pen.font = "600 14px sans-serif";
    pen.fillText(bar.label, 16, this.camera.height - 27);
    return copy.toDataURL("image/png");
  }

  // ---- choosing ------------------------------------------------------------------------------

  choose(object) {
    this.chosen = object;
    if (!object) this.alone = null;
    this.find("alone").disabled = !object;
    this.find("id").value = object && object.id ? object.id : "";
    this.tell();
    this.dress();
  }

  tell() {
    const o = this.chosen, said = this.find("chosen");
    this.find("alone").setAttribute("aria-pressed", String(this.alone !== null));
    if (!o) {
      said.textContent = "Click an object to see what it is.";
      return;
    }
    const parent = this.byId.get(o.parent);
    const inside = o.parent ? `in ${parent ? this.classes[parent.kind].name : "object"} ${o.parent}` : "";
    const words = [volumeText(o.volume), inside, o.border ? "cut by the border" : ""].filter(Boolean);
    said.textContent = `${this.classes[o.kind].name} ${o.id || ""}: ${words.join(", ")}`.replace(" :", ":");
  }

  findId(text) {
    const object = this.byId.get(Number(text));
    if (object) {
      this.classes[object.kind].shown = true;
      this.find(`class-${object.kind}`).checked = true;
      if (this.alone && this.outermost(object) !== this.alone) this.alone = this.outermost(object);
      this.choose(object);
      this.centreOn(object);
    } else if (text !== "") {
      this.choose(null);
      this.find("chosen").textContent = `Object ${text} is not in this view.`;
    }
  }

  step(by) { // to the next object that is shown
    const shown = this.scene.objects.filter((o) => this.isShown(o));
    if (!shown.length) return;
    const at = shown.indexOf(this.chosen);
    const next = at < 0 ? (by > 0 ? 0 : shown.length - 1) : (at + by + shown.length) % shown.length;
    this.choose(shown[next]);
    this.centreOn(shown[next]);
  }

  centreOn(object) {
    this.camera.centre = [...object.middle];
    this.redraw();
  }

  showAlone() {
    this.alone = this.alone || !this.chosen ? null : this.outermost(this.chosen);
    if (this.alone) this.camera.showBall(this.alone.middle, this.alone.reach);
    else this.camera.showAll();
    this.tell();
    this.dress();
  }

  reset() {
    this.camera.reset();
    this.alone = null;
    this.tell();
    this.dress();
  }

  // ---- hands ---------------------------------------------------------------------------------

  listen() {
    const { canvas, figure } = this;
    this.pointers = new Map();
    canvas.addEventListener("pointerdown", (e) => this.press(e));
    canvas.addEventListener("pointermove", (e) => this.drag(e));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (e) => this.release(e));
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("webglcontextlost", (e) => e.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.painter.prepare();
      this.dress();
    });
    this.classes.forEach((c, n) => this.find(`class-${n}`)?.addEventListener("change", (e) => {
      c.shown = e.target.checked;
      this.dress();
    }));
    this.find("opacity")?.addEventListener("input", (e) => {
      this.opacity = Number(e.target.value) / 100;
      this.redraw();
    });
    this.find("id").addEventListener("change", (e) => this.findId(e.target.value));
    const buttons = {
      previous: () => this.step(-1), next: () => this.step(1), alone: () => this.showAlone(),
      reset: () => this.reset(), save: () => this.save(), whole: () => this.fillScreen(),
    };
    for (const [name, action] of Object.entries(buttons)) this.find(name).addEventListener("click", action);
    window.addEventListener("scroll", () => (this.scrolled = performance.now()), { passive: true });
    const goTo = () => {
      const [, id] = location.hash.match(/^#object-(\d+)$/) || [];
      if (id) {
        this.findId(id);
        figure.scrollIntoView({ block: "nearest" });
      }
    };
    window.addEventListener("hashchange", goTo);
    requestAnimationFrame(goTo);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readColors());
    window.addEventListener("beforeprint", () => this.print());
    window.addEventListener("afterprint", () => this.readColors());
  }

  at(event) { // pixels from the upper left of the canvas
    const frame = this.canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    if (this.pointers.size === 0) this.moved = 0;
    this.pointers.set(event.pointerId, this.at(event));
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [x, y] = this.at(event), dx = x - before[0], dy = y - before[1];
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.pointers.size === 2) this.pinch(event.pointerId, [x, y]);
    else if (event.shiftKey || event.buttons & 6) this.camera.pan(dx, dy);
    else this.camera.rotate(dx * TURN, dy * TURN);
    this.pointers.set(event.pointerId, [x, y]);
    this.redraw();
  }

  pinch(id, now) { // two fingers move and magnify
    const before = this.pointers.get(id);
    const [, other] = [...this.pointers].find(([key]) => key !== id);
    const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    this.camera.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    const middle = [(now[0] + other[0] - this.camera.width) / 2, (now[1] + other[1] - this.camera.height) / 2];
    this.camera.magnify(apart(now) / apart(before), ...middle);
    this.moved += STILL;
  }

  release(event) {
    const [x, y] = this.at(event), now = performance.now();
    const clicked = this.pointers.delete(event.pointerId) && this.moved < STILL && event.type === "pointerup";
    if (!clicked || event.button > 0) return;
    const seen = this.painter.look(this.camera, x, y), last = this.clicked;
    this.clicked = { now, x, y };
    if (last && now - last.now < DOUBLE && Math.hypot(x - last.x, y - last.y) < 2 * STILL) {
      const { width, height, zoom } = this.camera;
      if (seen) this.camera.pan(width / 2 - x, height / 2 - y, -seen.away * zoom);
      this.redraw();
    } else {
      this.choose(seen && seen.object);
    }
  }

  wheel(event) {
    if (performance.now() - (this.scrolled ?? -1000) < 300) return; // the page is being scrolled past the view
    event.preventDefault();
    const [x, y] = this.at(event), pixels = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
    this.camera.magnify(Math.exp(-pixels * 0.0015), x - this.camera.width / 2, y - this.camera.height / 2);
    this.redraw();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const arrow = KEYS[event.key];
    const actions = {
      "+": () => this.camera.magnify(1.2), "=": () => this.camera.magnify(1.2), "-": () => this.camera.magnify(1 / 1.2),
      0: () => this.reset(), Home: () => this.reset(), n: () => this.step(1), p: () => this.step(-1),
      a: () => this.showAlone(), c: () => this.chosen && this.centreOn(this.chosen), Escape: () => this.choose(null),
    };
    if (arrow && event.shiftKey) this.camera.pan(arrow[0] * 30, arrow[1] * 30);
    else if (arrow) this.camera.rotate(arrow[0] * 0.12, arrow[1] * 0.12);
    else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
    this.redraw();
  }

  save() {
    const link = document.createElement("a");
    link.href = this.picture();
    link.download = "objects-3d.png";
    link.click();
  }

  fillScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.figure.requestFullscreen?.();
  }

  print() { // paper is white, and gets a picture instead of the canvas
    this.colors = { ground: [255, 255, 255], ink: [0, 0, 0], line: [150, 150, 150] };
    this.painter.dress((o) => this.isShown(o), null, this.colors.line);
    this.find("print").src = this.picture();
  }
}

// ---- words and lengths -----------------------------------------------------------------------

function cornersOf([low, high]) { // in the order of `edgesFrom`
  return [...Array(8).keys()].map((c) => low.map((v, axis) => ((c >> axis) & 1 ? high[axis] : v)));
}

// The longest round length that takes at most so many pixels.
function scaleBar(most, pixelsPerNm) {
  const longest = most / pixelsPerNm, power = 10 ** Math.floor(Math.log10(longest));
  const length = [5, 2, 1].map((step) => step * power).find((value) => value <= longest);
  const label = length < 1000 ? `${+length.toPrecision(1)} nm` : `${+(length / 1000).toPrecision(1)} µm`;
  return { pixels: length * pixelsPerNm, label };
}

function volumeText(nm3) {
  if (nm3 < 1e5) return `${Math.round(nm3).toLocaleString("en")} nm³`;
  const value = nm3 / 1e9;
  return `${value < 1000 ? +value.toPrecision(3) : Math.round(value).toLocaleString("en")} µm³`;
}

for (const figure of document.querySelectorAll(".view3d")) {
  try {
    new View(figure);
  } catch (error) {
    const message = figure.querySelector('[data-part="message"]');
    message.textContent = `The 3D view cannot be shown: ${error.message}. ` +
      "The figures and tables of this page are complete without it; another browser, or one with its graphics card switched on, may show it.";
  }
}
