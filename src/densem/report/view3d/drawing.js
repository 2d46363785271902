// What the 3D view of a report page draws, with WebGL 2 and nothing else: the scene, the camera, the painter.
// What the bytes mean: scene.py. What a reader does with it: view.js.
//
// Coordinates are the steps of the scene. Axes of the screen: x right, y down, z away from the eye, so that
// a view along z shows a slice as the image does, never its mirror image. The projection is parallel: one
// scale bar holds for everything in the picture.
//
// A frame: 1. what is opaque, with depth; 2. what is translucent, triangle by triangle from far to near.
"use strict";

const ROW = 1024; // objects in a row of the texture that holds their colours
const HIDDEN = 0, SHOWN = 128, CHOSEN = 255; // its fourth channel
const WIDE = 65536; // objects with more vertices have indices of 32 bits

const VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in uvec4 place;   // x, y, z, number of the object
layout(location = 1) in vec3 normal;
uniform mat3 turn;
uniform vec3 centre, scale;
uniform sampler2D looks;
out vec3 seenNormal;
flat out vec4 look;
flat out uint number;
void main() {
  look = texelFetch(looks, ivec2(int(place.w) % ${ROW}, int(place.w) / ${ROW}), 0);
  number = place.w;
  seenNormal = turn * normal;
  gl_Position = look.a == 0.0 ? vec4(2, 2, 2, 1) : vec4(turn * (vec3(place.xyz) - centre) * scale, 1);
}`;

const LIGHTING = `#version 300 es
precision highp float;
in vec3 seenNormal;
flat in vec4 look;
flat in uint number;
uniform vec3 ground, ink;   // colours of the page
uniform float opacity;      // 1 for what is opaque
out vec4 color;
const vec3 LIGHT = vec3(-0.43, -0.58, -0.69);
void main() {
  if (dot(seenNormal, seenNormal) < 0.1) {  // a line
    color = vec4(look.rgb, 1);
    return;
  }
  vec3 n = normalize(seenNormal);
  n *= n.z > 0.0 ? -1.0 : 1.0;              // both sides are lit
  float rim = pow(1.0 + n.z, 2.5);
  float shine = pow(max(dot(n, normalize(LIGHT + vec3(0, 0, -1))), 0.0), 40.0);
  vec3 lit = look.rgb * (0.62 + 0.38 * dot(n, LIGHT)) + 0.08 + 0.22 * shine;
  bool chosen = look.a > 0.9;
  if (opacity == 1.0) {
    lit = mix(lit, ink, 0.65 * rim);
    lit = mix(lit, ground, 0.28 * gl_FragCoord.z);
    color = vec4(chosen ? mix(lit, vec3(1), 0.55) : lit, 1);
  } else {                                  // glass: thick where it is seen from the side
    float dense = mix(0.5 * opacity, min(1.0, 3.0 * opacity), rim) * (chosen ? 1.8 : 1.0);
    color = vec4(mix(lit, ink, 0.35 * rim), min(dense, 1.0));
  }
}`;

const NUMBERING = `#version 300 es
precision highp float;
in vec3 seenNormal;
flat in vec4 look;
flat in uint number;
out vec4 color;
void main() {   // 1 + the object's number, then the depth, two bytes each
  uint n = number + 1u, depth = uint(gl_FragCoord.z * 65535.0);
  color = vec4(n >> 8, n & 255u, depth >> 8, depth & 255u) / 255.0;
}`;

// ---- the scene -------------------------------------------------------------------------------

// What is in the page as arrays: vertices (4 x uint16, normals 4 x int8) and triangles of each kind.
function unpack(record, text) {
  const packed = atob(text.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const objects = record.id.map((id, n) => ({
    number: n, id, kind: record.kind[n], parent: record.parent[n], volume: record.volume_nm3[n],
    border: record.border[n] === 1, vertices: record.vertices[n], triangles: record.triangles[n],
  }));
  const total = objects.reduce((sum, o) => sum + o.vertices, 0);
  const isWide = (o) => o.vertices > WIDE;
  let wideAt = 0;
  let narrowAt = objects.filter(isWide).reduce((sum, o) => sum + 12 * o.triangles, 0);
  let placeAt = narrowAt + objects.filter((o) => !isWide(o)).reduce((sum, o) => sum + 6 * o.triangles, 0);
  const places = new Uint16Array(4 * (total + 8));
  const faces = { opaque: [], translucent: [] };
  let first = 0;
  for (const o of objects) {
    const local = isWide(o)
      ? new Uint32Array(bytes.buffer, wideAt, 3 * o.triangles)
      : new Uint16Array(bytes.buffer, narrowAt, 3 * o.triangles);
    if (isWide(o)) wideAt += 12 * o.triangles; else narrowAt += 6 * o.triangles;
    const from = new Uint16Array(bytes.buffer, placeAt, 3 * o.vertices);
    placeAt += 6 * o.vertices;
    for (let v = 0; v < o.vertices; v++) {
      places.set([from[3 * v], from[3 * v + 1], from[3 * v + 2], o.number], 4 * (first + v));
    }
    const moved = Uint32Array.from(local, (index) => index + first);
    faces[record.classes[o.kind].translucent ? "translucent" : "opaque"].push(moved);
    [o.middle, o.reach] = extentOf(from);
    first += o.vertices;
  }
  const [low, high] = record.box; // its corners are the last vertices, of an object of their own
  for (let c = 0; c < 8; c++) {
    const corner = [0, 1, 2].map((axis) => ((c >> axis) & 1 ? high : low)[axis]);
    places.set([...corner, objects.length], 4 * (total + c));
  }
  const opaque = joined(faces.opaque), translucent = joined(faces.translucent);
  return { objects, places, opaque, translucent, edges: edgesFrom(total), normals: normalsOf(places, [opaque, translucent]) };
}

function joined(parts) {
  const all = new Uint32Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

// The middle of some points' box, and half its diagonal.
function extentOf(points) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (let i = 0; i < points.length; i++) {
    low[i % 3] = Math.min(low[i % 3], points[i]);
    high[i % 3] = Math.max(high[i % 3], points[i]);
  }
  return [
    low.map((value, axis) => (value + high[axis]) / 2),
    Math.hypot(...low.map((value, axis) => (high[axis] - value) / 2)),
  ];
}

// The 12 edges of a box whose 8 corners are numbered by bits: 1 for x, 2 for y, 4 for z.
function edgesFrom(first) {
  const edges = [];
  for (let a = 0; a < 8; a++) {
    for (const bit of [1, 2, 4]) if (!(a & bit)) edges.push(first + a, first + a + bit);
  }
  return new Uint32Array(edges);
}

// A normal for each vertex, int8 (4 bytes each): the mean of its triangles', weighted by their area.
function normalsOf(places, groups) {
  const sums = new Float32Array((places.length / 4) * 3);
  for (const faces of groups) {
    for (let f = 0; f < faces.length; f += 3) {
      const [a, b, c] = [4 * faces[f], 4 * faces[f + 1], 4 * faces[f + 2]];
      const ux = places[b] - places[a], uy = places[b + 1] - places[a + 1], uz = places[b + 2] - places[a + 2];
      const vx = places[c] - places[a], vy = places[c + 1] - places[a + 1], vz = places[c + 2] - places[a + 2];
      for (let corner = 0; corner < 3; corner++) {
        const v = 3 * faces[f + corner];
        sums[v] += uy * vz - uz * vy;
        sums[v + 1] += uz * vx - ux * vz;
        sums[v + 2] += ux * vy - uy * vx;
      }
    }
  }
  const normals = new Int8Array(places.length);
  for (let v = 0; 3 * v < sums.length; v++) {
    const length = Math.hypot(sums[3 * v], sums[3 * v + 1], sums[3 * v + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) normals[4 * v + axis] = Math.round((127 * sums[3 * v + axis]) / length);
  }
  return normals;
}

// ---- the camera ------------------------------------------------------------------------------

// Where the eye is: `turn` holds the axes of the screen (right, down, away) as rows.
class Camera {
  constructor(corners) {
    this.corners = corners; // of what is fitted into the view
    this.width = this.height = 1;
    this.reset();
  }

  reset() {
    this.turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    this.rotate(0.5, -0.4);
    this.showAll();
  }

  showAll() { // from where it is seen
    this.centre = this.corners[0].map((v, axis) => (v + this.corners[7][axis]) / 2);
    this.radius = Math.hypot(...this.corners[7].map((v, axis) => (v - this.corners[0][axis]) / 2)) || 1;
    const seen = this.corners.map((corner) => this.seen(corner));
    const across = Math.max(...seen.map((p) => Math.abs(p[0]))) || 1;
    const along = Math.max(...seen.map((p) => Math.abs(p[1]))) || 1;
    this.zoom = 0.46 * Math.min(this.width / across, this.height / along); // pixels for a step
  }

  showBall(centre, radius) {
    this.centre = [...centre];
    this.zoom = (0.46 * Math.min(this.width, this.height)) / (radius || 1);
  }

  seen(point) {
    const away = point.map((v, axis) => v - this.centre[axis]);
    return this.turn.map((row) => row[0] * away[0] + row[1] * away[1] + row[2] * away[2]);
  }

  // Angles in radians: what is nearest to the eye moves right, and down.
  rotate(right, down) {
    const mix = (a, s, b, t) => a.map((v, axis) => v * s + b[axis] * t);
    let [x, y, z] = this.turn;
    [x, z] = [mix(x, Math.cos(right), z, -Math.sin(right)), mix(x, Math.sin(right), z, Math.cos(right))];
    [y, z] = [mix(y, Math.cos(down), z, -Math.sin(down)), mix(y, Math.sin(down), z, Math.cos(down))];
    const unit = (a) => a.map((v) => v / Math.hypot(...a));
    z = unit(z);
    x = unit(mix(x, 1, z, -(x[0] * z[0] + x[1] * z[1] + x[2] * z[2])));
    this.turn = [x, [z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]], z];
  }

  pan(x, y, z = 0) { // pixels
    this.centre = this.centre.map(
      (v, axis) => v - (this.turn[0][axis] * x + this.turn[1][axis] * y + this.turn[2][axis] * z) / this.zoom);
  }

  magnify(factor, x = 0, y = 0) { // what lies at x, y (pixels from the middle) stays there
    const zoom = Math.min(Math.max(this.zoom * factor, 1e-4), 100);
    this.pan(x * (zoom / this.zoom - 1) * -1, y * (zoom / this.zoom - 1) * -1);
    this.zoom = zoom;
  }

  get depth() { // half the depth of what is drawn, in steps, wherever the centre was moved to
    return Math.max(...this.corners.map((corner) => Math.abs(this.seen(corner)[2]))) * 1.02 + 1;
  }
}

// ---- drawing ---------------------------------------------------------------------------------

class Painter {
  constructor(canvas, scene, classes) {
    this.canvas = canvas;
    this.scene = scene;
    this.classes = classes;
    this.looks = new Uint8Array(4 * ROW * Math.ceil((scene.objects.length + 1) / ROW));
    this.middles = middlesOf(scene);
    this.sorted = new Uint32Array(scene.translucent.length);
    this.gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
    if (this.gl) this.prepare();
  }

  prepare() {
    const gl = this.gl;
    this.lighting = programOf(gl, LIGHTING);
    this.numbering = programOf(gl, NUMBERING);
    gl.bindVertexArray(gl.createVertexArray());
    fill(gl, gl.ARRAY_BUFFER, this.scene.places);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 4, gl.UNSIGNED_SHORT, 8, 0);
    fill(gl, gl.ARRAY_BUFFER, this.scene.normals);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 3, gl.BYTE, true, 4, 0);
    this.opaque = fill(gl, gl.ELEMENT_ARRAY_BUFFER, this.scene.opaque);
    this.edges = fill(gl, gl.ELEMENT_ARRAY_BUFFER, this.scene.edges);
    this.translucent = fill(gl, gl.ELEMENT_ARRAY_BUFFER, this.sorted, gl.DYNAMIC_DRAW);
    this.order = null; // the direction that the triangles are sorted for
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    this.target = gl.createFramebuffer(); // one pixel, for looking up what lies there
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    for (const [where, format] of [[gl.COLOR_ATTACHMENT0, gl.RGBA8], [gl.DEPTH_ATTACHMENT, gl.DEPTH_COMPONENT24]]) {
      const store = gl.createRenderbuffer();
      gl.bindRenderbuffer(gl.RENDERBUFFER, store);
      gl.renderbufferStorage(gl.RENDERBUFFER, format, 1, 1);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, where, gl.RENDERBUFFER, store);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.enable(gl.DEPTH_TEST);
    gl.polygonOffset(1, 2); // where cell and granule are cut by one plane, the granule is seen
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  }

  // Colours and what is to be seen: `isShown` of an object, the chosen one, the colour of the box.
  dress(isShown, chosen, line) {
    for (const o of this.scene.objects) {
      const state = !isShown(o) ? HIDDEN : o === chosen ? CHOSEN : SHOWN;
      this.looks.set([...this.classes[o.kind].rgb, state], 4 * o.number);
    }
    this.looks.set([...line, SHOWN], 4 * this.scene.objects.length);
    const gl = this.gl;
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, ROW, this.looks.length / 4 / ROW, 0, gl.RGBA, gl.UNSIGNED_BYTE, this.looks);
  }

  draw(camera, colors, opacity) {
    const gl = this.gl;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    this.use(this.lighting, camera, camera.width, camera.height, [0, 0]);
    gl.uniform3fv(gl.getUniformLocation(this.lighting, "ground"), colors.ground.map((v) => v / 255));
    gl.uniform3fv(gl.getUniformLocation(this.lighting, "ink"), colors.ink.map((v) => v / 255));
    const setOpacity = (value) => gl.uniform1f(gl.getUniformLocation(this.lighting, "opacity"), value);
    gl.clearColor(...colors.ground.map((v) => v / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    setOpacity(1);
    this.drawAll(this.opaque, gl.TRIANGLES, this.scene.opaque.length);
    this.drawAll(this.edges, gl.LINES, this.scene.edges.length);
    if (opacity === 0) return;
    gl.enable(gl.POLYGON_OFFSET_FILL);
    if (opacity < 1) {
      setOpacity(opacity);
      gl.enable(gl.BLEND);
      gl.depthMask(false);
    }
    this.drawAll(this.translucent, gl.TRIANGLES, this.sort(camera).length);
    gl.depthMask(true);
    gl.disable(gl.BLEND);
    gl.disable(gl.POLYGON_OFFSET_FILL);
  }

  // What lies at a pixel of the page (from the upper left of the canvas): its object, and how far away.
  // What is opaque is found through what is translucent.
  look(camera, x, y) {
    const gl = this.gl, found = new Uint8Array(4);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.viewport(0, 0, 1, 1);
    this.use(this.numbering, camera, 1, 1, [camera.width / 2 - x, camera.height / 2 - y]);
    gl.clearColor(0, 0, 0, 0);
    for (const [buffer, faces] of [[this.opaque, this.scene.opaque], [this.translucent, this.scene.translucent]]) {
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      this.drawAll(buffer, gl.TRIANGLES, faces.length);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, found);
      if (found[0] || found[1]) break;
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    const number = 256 * found[0] + found[1] - 1;
    if (number < 0) return null;
    const away = ((256 * found[2] + found[3]) / 65535) * 2 - 1;
    return { object: this.scene.objects[number], away: away * camera.depth };
  }

  // A program, for so many pixels of the page around the point that lies `shift` from the middle.
  use(program, camera, width, height, shift) {
    const gl = this.gl, at = (name) => gl.getUniformLocation(program, name);
    const moved = camera.centre.map(
      (v, axis) => v - (camera.turn[0][axis] * shift[0] + camera.turn[1][axis] * shift[1]) / camera.zoom);
    gl.useProgram(program);
    gl.uniformMatrix3fv(at("turn"), true, camera.turn.flat());
    gl.uniform3fv(at("centre"), moved);
    gl.uniform3f(at("scale"), (2 * camera.zoom) / width, (-2 * camera.zoom) / height, 1 / camera.depth);
  }

  drawAll(buffer, form, count) {
    if (count === 0) return;
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, buffer);
    this.gl.drawElements(form, count, this.gl.UNSIGNED_INT, 0);
  }

  // The translucent triangles from far to near, by counting how many lie at each of 65,536 depths.
  sort(camera) {
    const [x, y, z] = camera.turn[2];
    if (this.order && this.order.every((v, axis) => v === camera.turn[2][axis])) return this.sorted;
    this.order = [x, y, z];
    const { keys, counts } = (this.room ??= {
      keys: new Uint16Array(this.sorted.length / 3), counts: new Uint32Array(65537),
    });
    const middles = this.middles, depth = 3 * 65535 * Math.sqrt(3);
    counts.fill(0);
    for (let t = 0; t < keys.length; t++) {
      const away = x * middles[3 * t] + y * middles[3 * t + 1] + z * middles[3 * t + 2];
      keys[t] = 32767 * (1 - away / depth); // far first
      counts[keys[t] + 1]++;
    }
    for (let key = 0; key < 65536; key++) counts[key + 1] += counts[key];
    const faces = this.scene.translucent;
    for (let t = 0; t < keys.length; t++) {
      const at = 3 * counts[keys[t]]++;
      this.sorted[at] = faces[3 * t];
      this.sorted[at + 1] = faces[3 * t + 1];
      this.sorted[at + 2] = faces[3 * t + 2];
    }
    const gl = this.gl;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.translucent);
    gl.bufferSubData(gl.ELEMENT_ARRAY_BUFFER, 0, this.sorted);
    return this.sorted;
  }
}

function middlesOf(scene) { // three times the middle of each translucent triangle
  const { places, translucent: faces } = scene, middles = new Float32Array(faces.length);
  for (let f = 0; f < faces.length; f += 3) {
    for (let axis = 0; axis < 3; axis++) {
      middles[f + axis] = places[4 * faces[f] + axis] + places[4 * faces[f + 1] + axis] + places[4 * faces[f + 2] + axis];
    }
  }
  return middles;
}

function fill(gl, kind, values, use = gl.STATIC_DRAW) {
  const buffer = gl.createBuffer();
  gl.bindBuffer(kind, buffer);
  gl.bufferData(kind, values, use);
  return buffer;
}

function programOf(gl, fragment) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(gl.getProgramInfoLog(program) || "the shaders do not compile");
  }
  return program;
}
