// What the report holds, decoded: pictures as grey levels, the stack they make, planes and outlines in it.
// No network, no storage, no libraries.
//
// The stack's axes are x (across a displayed slice), y (down) and k (from slice to slice). A plane has an
// axis across, one down, and one through it, along which it is moved. Places are counted in displayed pixels
// and slices from the stack's corner; `spacing` makes millimetres of them.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const count = data.names.length;
const { spacing, planes } = data.geometry;
const size = { x: data.geometry.columns, y: data.geometry.rows, k: count };
for (const plane of planes) {
  plane.through = ["x", "y", "k"].find((axis) => axis !== plane.across && axis !== plane.down);
  plane.width = size[plane.across] * spacing[plane.across];
  plane.height = size[plane.down] * spacing[plane.down];
  // The head's box on it, which is what one looks at first.
  const along = (axis, flip) => data.geometry.head[axis]
    .map((place) => (flip ? size[axis] - place : place) * spacing[axis]).sort((a, b) => a - b);
  const [[left, right], [top, bottom]] = [along(plane.across, plane.flip_across), along(plane.down, plane.flip_down)];
  plane.head = { width: right - left, height: bottom - top, middle: [(left + right) / 2, (top + bottom) / 2] };
}
const own = planes[0];

// A place on a plane, in its millimetres from its upper left corner, and back.
function onPlane(plane, place) {
  const along = (axis, flip) => (flip ? size[axis] - place[axis] : place[axis]) * spacing[axis];
  return [along(plane.across, plane.flip_across), along(plane.down, plane.flip_down)];
}
function fromPlane(plane, u, v) {
  const back = (axis, flip, length) => {
    const place = Math.max(0, Math.min(size[axis], length / spacing[axis]));
    return flip ? size[axis] - place : place;
  };
  return {
    [plane.across]: back(plane.across, plane.flip_across, u),
    [plane.down]: back(plane.down, plane.flip_down, v),
  };
}

// Pictures are decoded once, to one byte a pixel, and kept.
const slices = new Map();
const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function decoded(sequence, index) {
  return slices.get(sequence + index);
}
const decoding = new Map();
function decode(sequence, index) {
  const key = sequence + index;
  if (!decoding.has(key)) decoding.set(key, decodeNow(sequence, index, key));
  return decoding.get(key);
}
async function decodeNow(sequence, index, key) {
  const image = new Image();
  image.src = "data:image/jpeg;base64," + data.sequences[sequence][index];
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  scratch.canvas.width = width;
  scratch.canvas.height = height;
  scratch.drawImage(image, 0, 0);
  const colours = scratch.getImageData(0, 0, width, height).data;
  const levels = new Uint8Array(width * height);
  for (let pixel = 0; pixel < levels.length; pixel += 1) levels[pixel] = colours[4 * pixel];
  slices.set(key, { width, height, levels });
}
function decodeAll(sequence) {
  return Promise.all(data.names.map((_, index) => decode(sequence, index)));
}

const heats = new Map();
function heatOf(index) {
  if (data.heat[index] === null) return null;
  if (!heats.has(index)) {
    const image = new Image();
    image.src = "data:image/png;base64," + data.heat[index];
    heats.set(index, image);
  }
  return heats.get(index);
}

// All slices of a sequence as one volume, x running fastest; null while they are not decoded.
const stacks = new Map();
function stackOf(sequence) {
  if (!stacks.has(sequence)) {
    const pictures = data.names.map((_, k) => decoded(sequence, k));
    if (pictures.includes(undefined)) return null;
    const { width, height } = pictures[0]; // may be smaller than the matrix
    const volume = new Uint8Array(width * height * count);
    pictures.forEach(({ levels }, k) => volume.set(levels, k * width * height));
    stacks.set(sequence, { volume, cells: { x: width, y: height, k: count } });
  }
  return stacks.get(sequence);
}

// The values of a volume on a plane, as it is looked at.
function cutThrough(volume, cells, plane, index) {
  const strides = { x: 1, y: cells.x, k: cells.x * cells.y };
  const [width, height] = [cells[plane.across], cells[plane.down]];
  const right = plane.flip_across ? -strides[plane.across] : strides[plane.across];
  const down = plane.flip_down ? -strides[plane.down] : strides[plane.down];
  let corner = index * strides[plane.through];
  if (plane.flip_across) corner += (width - 1) * strides[plane.across];
  if (plane.flip_down) corner += (height - 1) * strides[plane.down];
  const values = new volume.constructor(width * height);
  for (let v = 0; v < height; v += 1) {
    for (let u = 0; u < width; u += 1) values[v * width + u] = volume[corner + v * down + u * right];
  }
  return { width, height, values };
}

// The levels of any plane at an index along the axis through it; null while they are not decoded.
function levelsOf(sequence, plane, index) {
  if (plane === own) return decoded(sequence, index) ?? null;
  const stack = stackOf(sequence);
  if (!stack) return null;
  const { volume, cells } = stack;
  const cell = Math.floor((index + 0.5) / size[plane.through] * cells[plane.through]);
  const { width, height, values } = cutThrough(volume, cells, plane, cell);
  return { width, height, levels: values };
}

// The number of the finding in each voxel of the displayed stack: the outlines, filled again.
let labelled = null;
function labels() {
  if (labelled) return labelled;
  const plane = size.x * size.y;
  labelled = new Uint16Array(plane * count);
  scratch.canvas.width = size.x;
  scratch.canvas.height = size.y;
  data.outlines.forEach((outlines, k) => {
    for (const { finding, path } of outlines) {
      scratch.clearRect(0, 0, size.x, size.y);
      scratch.fill(new Path2D(path), "evenodd");
      const alphas = scratch.getImageData(0, 0, size.x, size.y).data;
      for (let pixel = 0; pixel < plane; pixel += 1) {
        if (alphas[4 * pixel + 3] > 127) labelled[k * plane + pixel] = finding;
      }
    }
  });
  return labelled;
}

// Outlines on a plane, as paths in its pixels with the box round each: those of the slices are ready, those
// of other planes run along the borders of voxels, and the last few are kept.
const outlined = new Map();
function outlinesOf(plane, index) {
  if (plane === own) {
    return data.outlines[index].map((one) => ({ ...one, path: new Path2D(one.path) }));
  }
  const key = `${plane.plane} ${index}`;
  if (!outlined.has(key)) {
    if (outlined.size > 12) outlined.delete(outlined.keys().next().value);
    outlined.set(key, outlineAcross(plane, index));
  }
  return outlined.get(key);
}
function outlineAcross(plane, index) {
  const { width, height, values } = cutThrough(labels(), size, plane, index);
  const label = (u, v) => (u < 0 || v < 0 || u >= width || v >= height ? 0 : values[v * width + u]);
  const outlines = new Map();
  const edge = (finding, u, v, across, down) => {
    if (finding === 0) return;
    if (!outlines.has(finding)) {
      outlines.set(finding, { finding, path: new Path2D(), box: [width, height, 0, 0] });
    }
    const { path, box } = outlines.get(finding);
    path.moveTo(u, v);
    path.lineTo(u + across, v + down);
    box[0] = Math.min(box[0], u);
    box[1] = Math.min(box[1], v);
    box[2] = Math.max(box[2], u + across);
    box[3] = Math.max(box[3], v + down);
  };
  for (let v = 0; v <= height; v += 1) {
    for (let u = 0; u <= width; u += 1) {
      const here = label(u, v);
      const left = label(u - 1, v);
      const above = label(u, v - 1);
      if (here !== left) for (const one of [here, left]) edge(one, u, v, 0, 1);
      if (here !== above) for (const one of [here, above]) edge(one, u, v, 1, 0);
    }
  }
  return [...outlines.values()];
}
