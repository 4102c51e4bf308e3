// The JSW explorer. Layers are absorbed light, L = 1 - exp(-a): transmissions multiply, so the radiograph is
// 1 - (1 - soft)(1 - lower)(1 - upper). `mount` serves a page without a kernel, `render` (anywidget) a live one.

const REST = { delta_mm: 0, lower_slide_mm: 0, upper_slide_mm: 0, lower_degrees: 0, upper_degrees: 0, share: 0.5,
  shown: [true, true, true] };
const GRIP = 0.02; // a bone's layer is at least so bright where it can be taken hold of

// ---- where things are

// One layer, from base64 of zlib of 8- or 16-bit levels, as values from 0 to `scale`: exact, unlike a PNG in a canvas,
// which browsers may change for the sake of colours. Every machine that runs a browser is little-endian.
async function decode(text, bits, scale) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const levels = bits === 8 ? new Uint8Array(buffer) : new Uint16Array(buffer);
  return Float32Array.from(levels, (level) => level * scale / (2 ** bits - 1));
}

// Where the pixel (x, y, 1) of the frame comes from in each continued layer, two rows of three each: `source_matrix` of
// Python. The soft tissue stays.
export function sources(joint, state) {
  const lower = source(joint, (state.share - 1) * state.delta_mm, state.lower_slide_mm, state.lower_degrees);
  const upper = source(joint, state.share * state.delta_mm, state.upper_slide_mm, state.upper_degrees);
  return [[1, 0, 0, 0, 1, joint.margin], lower, upper];
}

function source(joint, along, across, degrees) {
  const [ax, ay] = joint.axis, [cx, cy] = joint.middle;
  const x = cx + (along * ax - across * ay) / joint.spacing_mm;
  const y = cy + (along * ay + across * ax) / joint.spacing_mm;
  const cos = Math.cos(degrees * Math.PI / 180), sin = Math.sin(degrees * Math.PI / 180);
  return [cos, -sin, cx - cos * x + sin * y, sin, cos, cy - sin * x - cos * y + joint.margin];
}

// A layer between its pixels; beyond its edge, the edge.
function sample(layer, width, rows, x, y) {
  x = x < 0 ? 0 : x > width - 1 ? width - 1 : x;
  y = y < 0 ? 0 : y > rows - 1 ? rows - 1 : y;
  const left = Math.floor(x), top = Math.floor(y), u = x - left, v = y - top;
  const at = top * width + left, right = left < width - 1 ? 1 : 0, down = top < rows - 1 ? width : 0;
  const above = layer[at] + u * (layer[at + right] - layer[at]);
  const below = layer[at + down] + u * (layer[at + down + right] - layer[at + down]);
  return above + v * (below - above);
}

// The bone (1 lower, 2 upper) that is seen best at (x, y) of the frame, or 0.
function boneAt(joint, layers, state, x, y) {
  const rows = joint.height + 2 * joint.margin;
  const seen = sources(joint, state).map((m, i) => i && state.shown[i]
    ? sample(layers[i], joint.width, rows, m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]) : 0);
  const bone = seen[2] > seen[1] ? 2 : 1;
  return seen[bone] > GRIP ? bone : 0;
}

// ---- drawing: two renderers with the same pixels, each on a canvas of its own, which keeps its first context

function newCanvas(joint) {
  const canvas = Object.assign(document.createElement("canvas"), { width: joint.width, height: joint.height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", joint.label);
  return canvas;
}

const TRIANGLE = `#version 300 es
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1); }`; // covers the canvas

const COMPOSE = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D soft, lower, upper;
uniform vec3 rows[6], shown;
uniform float height;
out vec4 colour;
float seen(sampler2D layer, vec3 column, vec3 row, vec3 pixel) {
  ivec2 last = textureSize(layer, 0) - 1;
  vec2 at = clamp(vec2(dot(column, pixel), dot(row, pixel)), vec2(0), vec2(last));
  ivec2 low = ivec2(at), high = min(low + 1, last);
  vec2 part = at - vec2(low);
  float above = mix(texelFetch(layer, low, 0).r, texelFetch(layer, ivec2(high.x, low.y), 0).r, part.x);
  float below = mix(texelFetch(layer, ivec2(low.x, high.y), 0).r, texelFetch(layer, high, 0).r, part.x);
  return mix(above, below, part.y);
}
void main() {
  vec3 pixel = vec3(gl_FragCoord.x - 0.5, height - 0.5 - gl_FragCoord.y, 1);
  vec3 light = 1.0 - shown * vec3(seen(soft, rows[0], rows[1], pixel), seen(lower, rows[2], rows[3], pixel),
    seen(upper, rows[4], rows[5], pixel));
  colour = vec4(vec3(floor(255.0 * (1.0 - light.x * light.y * light.z) + 0.5) / 255.0), 1);
}`;

function buildProgram(gl) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, TRIANGLE], [gl.FRAGMENT_SHADER, COMPOSE]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  return program;
}

// Floats that are read without the filter of the hardware, whose fractions have 8 bits only.
function upload(gl, place, layer, width) {
  gl.activeTexture(gl.TEXTURE0 + place);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, width, layer.length / width, 0, gl.RED, gl.FLOAT, layer);
}

function webgl2(joint, layers) {
  const canvas = newCanvas(joint), { width, height } = joint;
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
  const program = buildProgram(gl), place = (name) => gl.getUniformLocation(program, name);
  layers.forEach((layer, i) => upload(gl, i, layer, width));
  ["soft", "lower", "upper"].forEach((name, i) => gl.uniform1i(place(name), i));
  gl.uniform1f(place("height"), height);
  const rows = place("rows"), shown = place("shown");
  const draw = (state) => {
    gl.uniform3fv(rows, sources(joint, state).flat());
    gl.uniform3fv(shown, state.shown.map(Number));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.flush();
  };
  const levels = () => {
    const rgba = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba); // its first row is the lowest
    const at = (i) => 4 * ((height - 1 - Math.floor(i / width)) * width + i % width);
    return Uint8Array.from({ length: width * height }, (_, i) => rgba[at(i)]);
  };
  if (gl.getError()) throw new Error("WebGL2 did not take the layers");
  return { name: "webgl2", canvas, draw, levels, free: () => gl.getExtension("WEBGL_lose_context")?.loseContext() };
}

// Let `layer`, read through the matrix `m`, absorb from `light`.
function absorb(light, layer, m, width, height) {
  const rows = layer.length / width;
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      const x = m[0] * column + m[1] * row + m[2], y = m[3] * column + m[4] * row + m[5];
      light[at] *= 1 - sample(layer, width, rows, x, y);
    }
  }
}

function canvas2d(joint, layers) {
  const canvas = newCanvas(joint), context = canvas.getContext("2d"), { width, height } = joint;
  const image = context.createImageData(width, height), light = new Float32Array(width * height);
  const rgba = new Uint32Array(image.data.buffer);
  const draw = (state) => {
    light.fill(1);
    sources(joint, state).forEach((m, i) => state.shown[i] && absorb(light, layers[i], m, width, height));
    for (let i = 0; i < light.length; i++) rgba[i] = 0xff000000 | Math.round(255 * (1 - light[i])) * 0x010101;
    context.putImageData(image, 0, 0);
  };
  const levels = () => Uint8Array.from(rgba, (pixel) => pixel & 255);
  return { name: "2d", canvas, draw, levels, free: () => {} };
}

// `data-renderer="2d"` on a figure before it is mounted forces the fallback.
function newRenderer(figure, joint, layers) {
  if (figure.dataset.renderer === "2d") return canvas2d(joint, layers);
  try {
    return webgl2(joint, layers);
  } catch {
    return canvas2d(joint, layers); // no WebGL2 here, or not of the kind that is needed
  }
}

// ---- controls

// "−0.50 mm": a number with its unit, with a sign before what is more than nothing where `plus` says so.
function say(value, digits, unit, plus) {
  const text = Math.abs(value).toFixed(digits);
  return (Number(text) === 0 ? "" : value < 0 ? "\u2212" : plus) + text + unit;
}

// "1.25 mm (−0.50 mm), SvdH-like class 2", or the change alone where the JSW is not known.
function readOut(joint, delta) {
  if (joint.jsw_mm === null) return say(delta, 2, " mm", "+");
  const jsw = joint.jsw_mm + delta, grade = joint.svdh_mm.filter((least) => jsw < least).length;
  return `${say(jsw, 2, " mm", "")} (${say(delta, 2, " mm", "+")}), SvdH-like class ${grade}`;
}

const limitOf = (joint, name) => joint.limits[name.replace(/^(lower|upper)_/, "")]; // [most, step]
const OWN_KEYS = 'data-lm-suppress-shortcuts="true"'; // or JupyterLab takes the arrow keys for itself

function slider(joint, name, short, label, tail) {
  const [most, step] = limitOf(joint, name);
  return `<div class="lsn-slide"><label><span>${short}</span> <input type="range" name="${name}" aria-label="${label}"
    min="${-most}" max="${most}" step="${step}" value="0" ${OWN_KEYS}></label> ${tail}</div>`;
}

function controls(joint) {
  const output = '<output aria-live="polite"></output>', value = '<span class="lsn-value" aria-hidden="true"></span>';
  const each = ["upper", "lower"].flatMap((name) => [
    slider(joint, `${name}_slide_mm`, `${name} slide`, `Slide of the ${name} bone to the right in mm`, value),
    slider(joint, `${name}_degrees`, `${name} turn`, `Turn of the ${name} bone to the left in degrees`, value),
  ]);
  const boxes = ["soft tissue", "lower bone", "upper bone"].map((name, i) =>
    `<label><input type="checkbox" value="${i}" checked ${OWN_KEYS}> ${name}</label>`);
  const short = joint.jsw_mm === null ? "JSW change" : "JSW";
  const label = joint.jsw_mm === null ? "Change of the joint space width" : "Joint space width";
  return `<div class="lsn-view"></div>
    ${slider(joint, "delta_mm", short, `${label} in millimetres`, output)}
    <details><summary>Each bone</summary>${each.join("")}</details>
    <fieldset aria-label="Layers shown">${boxes.join(" ")} <button type="button" ${OWN_KEYS}>Reset</button></fieldset>`;
}

// Let the controls and their texts say what `state` is.
function tell(figure, joint, state) {
  for (const input of figure.querySelectorAll("input[type=range]")) {
    const unit = input.name.endsWith("degrees") ? "\u00b0" : " mm", value = state[input.name];
    const text = input.name === "delta_mm" ? readOut(joint, value) : say(value, unit === " mm" ? 2 : 1, unit, "+");
    input.value = value;
    input.setAttribute("aria-valuetext", text);
    const shown = input.closest(".lsn-slide").querySelector("output, .lsn-value");
    if (shown.textContent !== text) shown.textContent = text; // or a screen reader says it again
  }
  figure.querySelectorAll("input[type=checkbox]").forEach((box, i) => { box.checked = state.shown[i]; });
}

// The bone under the pointer follows it: along the axis by the joint space, across it by the bone's own slide.
function drag(joint, bone, start, right, down) {
  const [ax, ay] = joint.axis, name = bone === 1 ? "lower_slide_mm" : "upper_slide_mm";
  const along = (right * ax + down * ay) * joint.spacing_mm, across = (down * ax - right * ay) * joint.spacing_mm;
  const moves = bone === 1 ? start.share - 1 : start.share; // the share of the change that this bone makes
  const change = moves ? { delta_mm: start.delta_mm + along / moves } : {};
  return { ...change, [name]: start[name] + across };
}

function letDrag(view, explorer) {
  const { joint, bone, state, set } = explorer;
  const place = (event) => {
    const box = view.firstElementChild.getBoundingClientRect(), scale = joint.width / box.width;
    return [(event.clientX - box.left) * scale - 0.5, (event.clientY - box.top) * scale - 0.5];
  };
  let grip = null;
  view.addEventListener("pointerdown", (event) => {
    const held = event.isPrimary && event.button === 0 ? bone(...place(event)) : 0;
    if (!held) return;
    view.setPointerCapture(event.pointerId);
    grip = { bone: held, from: place(event), start: { ...state } };
  });
  view.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    view.style.cursor = grip ? "grabbing" : bone(x, y) ? "grab" : "";
    if (grip && event.isPrimary) set(drag(joint, grip.bone, grip.start, x - grip.from[0], y - grip.from[1]));
  });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, () => { grip = null; });
  // A finger that lands on a bone moves it; one that lands beside the bones scrolls the page, and two fingers zoom it.
  // `touch-action` could not tell these apart, and a picture as wide as a phone must not be where scrolling ends.
  view.addEventListener("touchstart", (event) => {
    if (event.touches.length === 1 && bone(...place(event.touches[0]))) event.preventDefault();
  }, { passive: false });
}

// ---- putting it together

// `changed(state)` is called after each change by the user; `set(changes, true)` is a change from elsewhere.
function newExplorer(figure, joint, layers, changed) {
  const state = structuredClone(REST);
  let renderer, waiting = 0;
  const frame = () => { cancelAnimationFrame(waiting); waiting = 0; renderer.draw(state); };
  const levels = () => { frame(); return renderer.levels(); };
  const set = (changes, quiet) => {
    for (const [name, value] of Object.entries(changes)) {
      const most = limitOf(joint, name)?.[0];
      state[name] = most ? Math.min(Math.max(value, -most), most) : value;
    }
    tell(figure, joint, state);
    waiting ||= requestAnimationFrame(frame);
    if (!quiet) changed(state);
  };
  const start = () => {
    renderer = newRenderer(figure, joint, layers);
    figure.dataset.renderer = renderer.name;
    figure.querySelector(".lsn-view").replaceChildren(renderer.canvas);
    renderer.canvas.addEventListener("webglcontextlost", fallBack);
    frame();
  };
  const fallBack = () => { figure.dataset.renderer = "2d"; start(); };
  start();
  tell(figure, joint, state);
  const free = () => {
    cancelAnimationFrame(waiting);
    renderer.canvas.removeEventListener("webglcontextlost", fallBack);
    renderer.free();
  };
  return { joint, state, set, frame, levels, free, bone: (x, y) => boneAt(joint, layers, state, x, y) };
}

function listen(figure, explorer) {
  figure.addEventListener("input", ({ target }) => {
    const boxes = [...figure.querySelectorAll("input[type=checkbox]")];
    const shown = { shown: boxes.map((box) => box.checked) };
    explorer.set(target.type === "range" ? { [target.name]: Number(target.value) } : shown);
  });
  const { share, ...rest } = REST; // whose share it is belongs to the joint, not to where its bones are
  figure.querySelector("button").addEventListener("click", () => explorer.set(structuredClone(rest)));
  letDrag(figure.querySelector(".lsn-view"), explorer);
}

// Make a figure that holds the still image into an explorer of `joint`, by default of the JSON inside the figure.
export async function mount(figure, joint, changed = () => {}) {
  joint ??= JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  try {
    const layers = await Promise.all(joint.layers.map((text, i) => decode(text, joint.bits, joint.scales[i])));
    figure.insertAdjacentHTML("beforeend", controls(joint));
    figure.explorer = newExplorer(figure, joint, layers, changed);
    listen(figure, figure.explorer);
    figure.dataset.state = "ready"; // hides the still image
  } catch (error) {
    figure.dataset.state = "error";
    figure.append(Object.assign(document.createElement("p"), { textContent: `The bones cannot be moved: ${error}` }));
  }
  return figure.explorer;
}

function newFigure({ still, label }) {
  const figure = Object.assign(document.createElement("figure"), { className: "lsn-jsw" });
  figure.dataset.state = "loading";
  figure.append(Object.assign(document.createElement("img"), { src: `data:image/png;base64,${still}`, alt: label }));
  return figure;
}

// The live widget: the traits of the model and the state of the explorer have the same names and follow each other.
async function render({ model, el }) {
  const joint = model.get("joint"), figure = newFigure(joint);
  el.append(figure);
  const explorer = await mount(figure, joint, (state) => {
    for (const name of Object.keys(REST)) model.set(name, structuredClone(state[name]));
    model.save_changes();
  });
  if (!explorer) return undefined;
  // One by one: a trait that was just set tells so before the others are set.
  const follow = (name) => explorer.set({ [name]: structuredClone(model.get(name)) }, true);
  const events = Object.keys(REST).map((name) => [`change:${name}`, () => follow(name)]);
  events.forEach(([event, tell]) => model.on(event, tell));
  Object.keys(REST).forEach(follow);
  return () => { events.forEach(([event, tell]) => model.off(event, tell)); explorer.free(); };
}

export default { render };
