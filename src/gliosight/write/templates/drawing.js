// Draws one pane of the viewer, or a picture to be saved, on a canvas.

// Room round a picture for the letters of its edges, in CSS pixels.
const MARGIN = 26;
const FONT = "system-ui, sans-serif";

// Where a plane lies on a pane: the scale, and the pane's place of the plane's upper left corner. At zoom 1
// the head fills the pane.
function fit(plane, width, height) {
  const room = Math.min(MARGIN, width / 8, height / 8);
  const whole = Math.min((width - 2 * room) / plane.head.width, (height - 2 * room) / plane.head.height);
  const scale = whole * state.zoom;
  const [u, v] = centreOf(plane);
  return { scale, left: width / 2 - u * scale, top: height / 2 - v * scale };
}

function centreOf(plane) {
  return state.centres.get(plane) ?? plane.head.middle;
}

// Grey shown for each level of a coded picture, for the window that the reader chose. In a window black is
// 0 and white is 1 where the report began; levels above the knee are what was brighter than that.
function greysOf(sequence) {
  const { low, high, top } = data.windows[sequence];
  const above = high > low ? (top - low) / (high - low) - 1 : 0;
  const { black, white } = state.windows[sequence];
  const greys = new Uint8ClampedArray(256);
  for (let level = 0; level < 256; level += 1) {
    const value = level <= data.knee ? level / data.knee : 1 + above * (level - data.knee) / (255 - data.knee);
    greys[level] = 255 * (value - black) / (white - black);
  }
  return greys;
}

// The picture of a plane in grey, as a canvas of its own pixels; the last few are kept.
const painted = new Map();
function paintedPlane(sequence, plane, index) {
  const { black, white } = state.windows[sequence];
  const key = [sequence, plane.plane, index, black, white].join();
  if (painted.has(key)) return painted.get(key);
  const picture = levelsOf(sequence, plane, index);
  if (!picture) return null;
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(picture.width, picture.height);
  const opaque = Uint32Array.from(greysOf(sequence), (grey) => 0xff000000 + grey * 0x010101);
  new Uint32Array(pixels.data.buffer).set(Uint32Array.from(picture.levels, (level) => opaque[level]));
  context.putImageData(pixels, 0, 0);
  if (painted.size > 12) painted.delete(painted.keys().next().value);
  painted.set(key, canvas);
  return canvas;
}

// Returns false, and draws nothing, while the plane's pictures are not decoded.
function drawPane(context, width, height, { sequence, plane }) {
  const index = indexOf(plane);
  const picture = paintedPlane(sequence, plane, index);
  if (!picture) return false;
  const { scale, left, top } = fit(plane, width, height);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, plane.width * scale, plane.height * scale);
  if (plane === own && isOn("heat-on")) {
    const heat = heatOf(index);
    if (heat?.complete) context.drawImage(heat, left, top, plane.width * scale, plane.height * scale);
    else heat?.decode().then(draw, () => {});
  }
  const onPane = new DOMMatrix([spacing[plane.across] * scale, 0, 0, spacing[plane.down] * scale, left, top]);
  if (plane === own && isOn("interval-on")) {
    for (const ends of [data.inner[index], data.outer[index]]) {
      const path = new Path2D();
      path.addPath(new Path2D(ends), onPane);
      stroke(context, path, "rgb(0 0 0 / 45%)", 2.6);
      stroke(context, path, "rgb(255 255 255 / 85%)", 1.1, [4, 3.5]);
    }
  }
  if (isOn("outline-on")) {
    const outlines = outlinesOf(plane, index);
    for (const { finding, path: drawn } of outlines) {
      const path = new Path2D();
      path.addPath(drawn, onPane);
      stroke(context, path, "rgb(0 0 0 / 65%)", 4.5);
      stroke(context, path, colourOf(finding), 2);
    }
    for (const { finding, box } of outlines) {
      const corner = onPane.transformPoint({ x: box[2], y: box[1] });
      write(context, finding, corner.x + 4, corner.y - 4, { colour: colourOf(finding), bold: true });
    }
  }
  if (state.layout === "planes") drawCrosshair(context, width, height, plane, { scale, left, top });
  drawMeasure(context, plane, index, { scale, left, top });
  drawLetters(context, width, height, plane);
  const name = plane === own ? "Slice" : capital(plane.words);
  const number = `${index + 1} / ${size[plane.through]}`;
  // Between them there must be room for the letter of the upper edge.
  const words = width < 300 ? number : `${name} ${number}`;
  write(context, sequence, 10, 18, { size: 13, colour: "#c6d0d9" });
  write(context, words, width - 10, 18, { size: 13, colour: "#c6d0d9", align: "right" });
  return true;
}

function stroke(context, path, colour, width, dash = []) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.stroke(path);
  context.setLineDash([]);
}

function write(context, text, x, y, { colour = "#eef3f7", size: points = 15, bold = false, align = "left" } = {}) {
  context.font = `${bold ? 700 : 500} ${points}px ${FONT}`;
  context.textAlign = align;
  context.textBaseline = "alphabetic";
  context.lineJoin = "round";
  context.lineWidth = 3.5;
  context.strokeStyle = "rgb(0 0 0 / 75%)";
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

function drawLetters(context, width, height, plane) {
  write(context, plane.top, width / 2, 18, { bold: true, align: "center" });
  write(context, plane.bottom, width / 2, height - 8, { bold: true, align: "center" });
  write(context, plane.left, 8, height / 2 + 5, { bold: true });
  write(context, plane.right, width - 8, height / 2 + 5, { bold: true, align: "right" });
}

function drawCrosshair(context, width, height, plane, { scale, left, top }) {
  const [u, v] = onPlane(plane, middleOf(state.place));
  const sharp = (place) => Math.round(place) + 0.5; // in the middle of a pixel of the screen
  const [x, y, gap] = [sharp(left + u * scale), sharp(top + v * scale), 9];
  const path = new Path2D(`M0 ${y}H${x - gap}M${x + gap} ${y}H${width}M${x} 0V${y - gap}M${x} ${y + gap}V${height}`);
  stroke(context, path, "rgb(255 255 255 / 55%)", 1);
}

function drawMeasure(context, plane, index, { scale, left, top }) {
  const line = state.lines.get(lineKey(plane, index));
  if (!line) return;
  const [from, to] = line.map(([u, v]) => [left + u * scale, top + v * scale]);
  const path = new Path2D();
  path.moveTo(...from);
  path.lineTo(...to);
  for (const [x, y] of [from, to]) {
    path.moveTo(x + 4, y);
    path.arc(x, y, 4, 0, 2 * Math.PI);
  }
  stroke(context, path, "rgb(0 0 0 / 70%)", 4);
  stroke(context, path, "#fff", 1.6);
  const [far] = [from, to].sort((one, other) => other[0] - one[0]);
  write(context, lengthWords(line), far[0] + 9, far[1] - 6, { bold: true });
}

function lengthWords([from, to]) {
  const { unit } = data.geometry;
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  return `${length.toFixed(unit === "mm" ? 1 : 0)} ${unit}`;
}

function colourOf(finding) {
  return data.colours[(finding - 1) % data.colours.length];
}

function capital(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

// A pane as it is seen, as a picture that stands for itself: what it is and what it is not for is written
// below it.
const SAVED_WIDTH = 1200;
const FOOTER = 44;
function savePane(pane) {
  const { clientWidth: width, clientHeight: height } = pane.box;
  const sharper = Math.max(1, SAVED_WIDTH / width);
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * sharper);
  canvas.height = Math.round((height + FOOTER) * sharper);
  const context = canvas.getContext("2d");
  context.scale(sharper, sharper);
  if (!drawPane(context, width, height, pane)) return;
  context.fillStyle = "#000";
  context.fillRect(0, height, width, FOOTER);
  const size = Math.min(13, width / 40);
  const lines = [`gliosight · ${data.study} · ${describe(pane)}`, data.research];
  lines.forEach((line, k) => write(context, line, 10, height + 16 + 18 * k, { size, colour: "#c6d0d9" }));
  const link = document.createElement("a");
  const plane = pane.plane === own ? "slice" : pane.plane.plane;
  link.download = `${data.study}_${pane.sequence}_${plane}-${indexOf(pane.plane) + 1}.png`.replace(/[^\w.-]+/g, "_");
  link.href = canvas.toDataURL("image/png");
  link.click();
}
