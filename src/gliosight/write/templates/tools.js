// Pointer, wheel, fingers and keys on the panes.

const ZOOMS = [0.5, 16]; // 1: the head fills the pane
const WHEEL_PIXELS = 30; // of a touchpad's wheel for one slice
const KEY_STEP = 0.05; // of the window, for one press of a key

function zoomAt(pane, factor, x, y) {
  const { plane, canvas } = pane;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const before = fit(plane, width, height);
  const [u, v] = [(x - before.left) / before.scale, (y - before.top) / before.scale];
  state.zoom = Math.max(ZOOMS[0], Math.min(ZOOMS[1], state.zoom * factor));
  const { scale } = fit(plane, width, height);
  setCentre(plane, u + (width / 2 - x) / scale, v + (height / 2 - y) / scale);
}

function zoomBy(factor) {
  const { canvas } = activePane();
  zoomAt(activePane(), factor, canvas.clientWidth / 2, canvas.clientHeight / 2);
}

// The centre stays on the picture. At zoom 1 and below all is seen, in the middle.
function setCentre(plane, u, v) {
  if (Math.abs(state.zoom - 1) < 0.02) state.zoom = 1;
  if (state.zoom <= 1) state.centres.clear();
  else state.centres.set(plane, onPicture(plane, [u, v]));
  draw();
}

function moveBy(pane, x, y) {
  const { plane, canvas } = pane;
  const { scale } = fit(plane, canvas.clientWidth, canvas.clientHeight);
  const [u, v] = centreOf(plane);
  setCentre(plane, u - x / scale, v - y / scale);
}

// Brightness moves the window, contrast makes it narrower; both as parts of the window at first.
function changeGrey(sequence, brighter, contrast) {
  const { black, white } = state.windows[sequence];
  const middle = (black + white) / 2 - brighter * (white - black);
  const half = Math.max(0.01, Math.min(8, (white - black) / 2 * Math.exp(-contrast)));
  state.windows[sequence] = { black: middle - half, white: middle + half };
  go(state.place.k);
}

function placeAt(pane, event) {
  const { plane, canvas } = pane;
  const box = canvas.getBoundingClientRect();
  const { scale, left, top } = fit(plane, box.width, box.height);
  return [(event.clientX - box.left - left) / scale, (event.clientY - box.top - top) / scale];
}

function onPicture(plane, [u, v]) {
  return [Math.max(0, Math.min(plane.width, u)), Math.max(0, Math.min(plane.height, v))];
}

// What dragging does with each tool; a drag begins with `from`, the pointer's place on the plane.
const tools = {
  slices(pane, event, drag) {
    if (state.layout === "planes") return aim(pane, event);
    const perSlice = Math.max(6, Math.min(24, pane.canvas.clientWidth / count));
    const wanted = drag.k + (event.clientX - drag.x) / perSlice;
    if (Math.round(wanted) !== state.place.k) go(wanted);
  },
  grey(pane, event, drag) {
    const { clientWidth, clientHeight } = pane.canvas;
    changeGrey(
      pane.sequence,
      2 * (drag.lastY - event.clientY) / clientHeight,
      2 * (event.clientX - drag.lastX) / clientWidth,
    );
  },
  move(pane, event, drag) {
    moveBy(pane, event.clientX - drag.lastX, event.clientY - drag.lastY);
  },
  measure(pane, event, drag) {
    const line = [onPicture(pane.plane, drag.from), onPicture(pane.plane, placeAt(pane, event))];
    setLine(pane, line);
  },
};

// The crosshair, and with it all planes, go where the pointer is.
function aim(pane, event) {
  const [u, v] = onPicture(pane.plane, placeAt(pane, event));
  const place = { ...state.place, ...fromPlane(pane.plane, u, v) };
  for (const axis of ["x", "y", "k"]) {
    if (axis !== pane.plane.through) state.place[axis] = Math.min(size[axis] - 1, Math.floor(place[axis]));
  }
  go(state.place.k);
}

function lineKey(plane, index) {
  return `${plane.plane} ${index}`;
}
function setLine(pane, line) {
  const key = lineKey(pane.plane, indexOf(pane.plane));
  if (line) state.lines.set(key, line);
  else state.lines.delete(key);
  at("said").textContent = line ? `. Distance ${lengthWords(line)}` : "";
  draw();
}
function lineOn(pane) {
  return state.lines.get(lineKey(pane.plane, indexOf(pane.plane)));
}
// A line to begin with where there is no pointer: across the middle of what is seen.
function startLine(pane) {
  const { plane } = pane;
  const [u, v] = centreOf(plane);
  const half = plane.width / 8 / state.zoom;
  setLine(pane, [[u - half, v], [u + half, v]]);
}

function listenToPane(pane) {
  const { box: element } = pane;
  const fingers = new Map();
  let drag = null;

  element.addEventListener("pointerdown", (event) => {
    state.active = pane.number;
    fingers.set(event.pointerId, event);
    if (fingers.size > 1) {
      drag = null;
      return;
    }
    const tool = { 0: state.tool, 1: "move", 2: "grey" }[event.button];
    if (!tool) return;
    if (event.button === 1) event.preventDefault(); // no automatic scrolling
    drag = {
      tool, moved: false, x: event.clientX, y: event.clientY, lastX: event.clientX, lastY: event.clientY,
      k: state.place.k, from: placeAt(pane, event),
    };
  });
  element.addEventListener("pointermove", (event) => {
    if (fingers.has(event.pointerId) && fingers.size === 2) {
      pinch(pane, fingers, event);
      return;
    }
    if (!drag) return;
    if (!drag.moved && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 3) return;
    drag.moved = true;
    if (!element.hasPointerCapture(event.pointerId)) element.setPointerCapture(event.pointerId);
    tools[drag.tool](pane, event, drag);
    drag.lastX = event.clientX;
    drag.lastY = event.clientY;
  });
  element.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved && drag.tool === "slices" && state.layout === "planes") aim(pane, event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      drag = null;
    });
  }
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("dblclick", (event) => {
    const box = pane.canvas.getBoundingClientRect();
    if (state.tool === "measure") return;
    zoomAt(pane, state.zoom === 1 ? 2.5 : 1 / state.zoom, event.clientX - box.left, event.clientY - box.top);
  });
  // Two fingers are the viewer's, one finger that goes up or down is the page's.
  element.addEventListener("touchmove", (event) => {
    if (event.touches.length > 1) event.preventDefault();
  }, { passive: false });
  element.addEventListener("wheel", (event) => turnWheel(pane, event), { passive: false });
  element.addEventListener("focus", () => { state.active = pane.number; });
}

// Two fingers: their distance enlarges, their middle moves.
function pinch(pane, fingers, event) {
  const [one, other] = fingers.values();
  const box = pane.canvas.getBoundingClientRect();
  const seen = (a, b) => ({
    x: (a.clientX + b.clientX) / 2 - box.left, y: (a.clientY + b.clientY) / 2 - box.top,
    apart: Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)),
  });
  const before = seen(one, other);
  fingers.set(event.pointerId, event);
  const after = seen(...fingers.values());
  zoomAt(pane, after.apart / before.apart, before.x, before.y);
  moveBy(pane, after.x - before.x, after.y - before.y);
}

// Wheel: one notch is one slice, with Ctrl (as touchpads report two fingers) it enlarges. A page that is
// just scrolling past goes on scrolling, and so does one whose first or last slice is reached.
let scrolledAt = -1000;
let rest = 0;
addEventListener("scroll", () => { scrolledAt = performance.now(); }, { passive: true });
function turnWheel(pane, event) {
  if (event.ctrlKey) {
    event.preventDefault();
    const box = pane.canvas.getBoundingClientRect();
    const lines = event.deltaMode === 0 ? event.deltaY / 100 : event.deltaY / 3;
    const factor = Math.exp(-0.25 * Math.max(-4, Math.min(4, lines)));
    zoomAt(pane, factor, event.clientX - box.left, event.clientY - box.top);
    return;
  }
  const way = Math.sign(event.deltaY);
  const next = indexOf(pane.plane) + way;
  if (way === 0 || performance.now() - scrolledAt < 250) return;
  if (next < 0 || next >= size[pane.plane.through]) return;
  event.preventDefault();
  rest = Math.sign(rest) === way ? rest + event.deltaY : event.deltaY;
  if (event.deltaMode === 0 && Math.abs(rest) < WHEEL_PIXELS) return;
  rest = 0;
  step(pane.plane, next);
}

// Keys. Those of the tools work unless something else is in focus; arrows do what dragging does.
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const commands = {
  s: () => chooseTool("slices"),
  b: () => chooseTool("grey"),
  g: () => chooseTool("move"),
  m: () => {
    chooseTool("measure");
    if (document.activeElement === activePane().box && !lineOn(activePane())) startLine(activePane());
  },
  o: () => toggle("outline-on"),
  i: () => toggle("interval-on"),
  p: () => toggle("heat-on"),
  l: () => nextLayout(),
  r: () => reset(),
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  Escape: () => setLine(activePane(), null),
};
Object.keys(data.sequences).forEach((sequence, k) => {
  commands[k + 1] = () => choose(sequence);
});

function pressArrow([right, down], event) {
  const pane = activePane();
  const line = lineOn(pane);
  if (state.tool === "measure" && line) {
    const end = event.shiftKey ? 0 : 1;
    const moved = [line[end][0] + right * spacing[pane.plane.across], line[end][1] + down * spacing[pane.plane.down]];
    setLine(pane, line.map((place, k) => (k === end ? onPicture(pane.plane, moved) : place)));
  } else if (event.shiftKey || state.tool === "grey") {
    changeGrey(pane.sequence, -down * KEY_STEP, right * 2 * KEY_STEP);
  } else if (state.tool === "move" && state.zoom > 1) {
    moveBy(pane, -right * 30, -down * 30);
  } else {
    step(pane.plane, indexOf(pane.plane) + right + down);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const focus = document.activeElement;
  if (!at("viewer").contains(focus) && focus !== document.body) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in commands) {
    event.preventDefault();
    commands[key]();
    return;
  }
  const onBar = at("bars").contains(focus);
  const { plane } = activePane();
  const last = size[onBar ? "k" : plane.through] - 1;
  const here = onBar ? state.place.k : indexOf(plane);
  const page = Math.max(5, Math.round(last / 10));
  const jumps = { PageUp: here - page, PageDown: here + page, Home: 0, End: last };
  if (onBar && key in arrows) {
    event.preventDefault();
    go(here + arrows[key][0] + arrows[key][1], { focusBar: true });
  } else if (onBar && (key === "Enter" || key === " ")) {
    event.preventDefault();
    go(Number(focus.dataset.slice));
  } else if (key in jumps && (onBar || focus === activePane().box)) {
    event.preventDefault();
    if (onBar) go(jumps[key], { focusBar: true });
    else step(plane, jumps[key]);
  } else if (key in arrows && focus === activePane().box) {
    event.preventDefault();
    pressArrow(arrows[key], event);
  }
});
