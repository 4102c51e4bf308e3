// The JSW explorer. Layers are absorbed light, L = 1 - exp(-a): transmissions multiply, so the radiograph is
// 1 - (1 - soft)(1 - lower)(1 - upper). The bones move apart along the joint's axis by half of the change each.

// One 8-bit grayscale PNG (base64) as values from 0 to `scale`.
async function decode(png, scale, width, height) {
  const image = new Image();
  image.src = "data:image/png;base64," + png;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  return Float32Array.from({ length: width * height }, (_, i) => rgba[4 * i] * scale / 255);
}

// Where n pixels come from after a shift: two neighbours and the share of the second. Beyond the frame, its edge.
function taps(n, shift) {
  const low = new Int32Array(n), high = new Int32Array(n), share = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const source = Math.min(Math.max(i - shift, 0), n - 1);
    low[i] = Math.floor(source);
    high[i] = Math.min(low[i] + 1, n - 1);
    share[i] = source - low[i];
  }
  return { low, high, share };
}

// Let `layer`, shifted by (dx, dy) px, absorb from `light`.
function absorb(light, layer, width, height, dx, dy) {
  const x = taps(width, dx), y = taps(height, dy);
  for (let row = 0, at = 0; row < height; row++) {
    const top = y.low[row] * width, bottom = y.high[row] * width, v = y.share[row];
    for (let column = 0; column < width; column++, at++) {
      const left = x.low[column], right = x.high[column], u = x.share[column];
      const above = layer[top + left] + u * (layer[top + right] - layer[top + left]);
      const below = layer[bottom + left] + u * (layer[bottom + right] - layer[bottom + left]);
      light[at] *= 1 - (above + v * (below - above));
    }
  }
}

// The joint with its space wider by `delta` mm, as 8-bit levels; `shown` says which layers take part.
export function compose(joint, layers, delta, shown) {
  const half = delta / joint.spacing_mm / 2;
  const signs = [0, -1, 1]; // soft tissue stays, the lower bone goes against the axis, the upper one along it
  const light = new Float32Array(joint.width * joint.height).fill(1);
  layers.forEach((layer, i) => {
    const by = signs[i] * half;
    if (shown[i]) absorb(light, layer, joint.width, joint.height, by * joint.axis[0], by * joint.axis[1]);
  });
  const levels = new Uint8Array(light.length);
  for (let i = 0; i < light.length; i++) levels[i] = Math.round(255 * (1 - light[i]));
  return levels;
}

// Paint the levels and return their sum.
function paint(canvas, levels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const rgba = image.data.fill(255);
  let sum = 0;
  for (let i = 0; i < levels.length; i++) {
    rgba[4 * i] = rgba[4 * i + 1] = rgba[4 * i + 2] = levels[i];
    sum += levels[i];
  }
  context.putImageData(image, 0, 0);
  return sum;
}

// "1.25 mm (−0.50 mm)": the JSW and its change, or the change alone where the JSW is not known.
function say(joint, delta) {
  const text = (mm, plus) => (mm < -0.004 ? "\u2212" : plus) + Math.abs(mm).toFixed(2) + " mm";
  return joint.jsw_mm === null ? text(delta, "+") : `${text(joint.jsw_mm + delta, "")} (${text(delta, "+")})`;
}

export async function mount(figure) {
  const joint = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const [canvas, range, output] = ["canvas", "input[type=range]", "output"].map((what) => figure.querySelector(what));
  const switches = [...figure.querySelectorAll("input[type=checkbox]")];
  let layers;
  try {
    layers = await Promise.all(joint.layers.map((png, i) => decode(png, joint.scales[i], joint.width, joint.height)));
  } catch (error) {
    figure.dataset.state = "error";
    output.textContent = "the layers could not be read";
    return;
  }
  const show = () => {
    const delta = Number(range.value);
    const levels = compose(joint, layers, delta, switches.map((box) => box.checked));
    figure.dataset.sum = paint(canvas, levels); // for tests
    output.textContent = say(joint, delta);
    range.setAttribute("aria-valuetext", output.textContent);
    figure.dataset.state = "ready";
  };
  figure.addEventListener("input", show);
  show();
}
