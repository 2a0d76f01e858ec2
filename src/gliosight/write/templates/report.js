// The page: what is shown now, and the controls, bars and rows that change it.

const slider = at("slider");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const state = {
  sequence: "FLAIR",
  layout: "one", // or "sequences", "planes"
  tool: "slices", // or "grey", "move", "measure"
  place: { x: middleOfHead("x"), y: middleOfHead("y"), k: data.start }, // slice and crosshair
  windows: {},
  zoom: 1,
  centres: new Map(), // of each plane that was moved
  lines: new Map(), // measured distances, by plane and slice
  active: 0, // the pane that keys mean
};
const panes = [0, 1, 2].map((number) => {
  const box = at(`pane-${number}`);
  return { number, box, canvas: box.firstElementChild, sequence: "FLAIR", plane: own };
});

function middleOfHead(axis) {
  const [from, to] = data.geometry.head[axis];
  return Math.floor((from + to) / 2);
}
function indexOf(plane) {
  return state.place[plane.through];
}
function middleOf(place) {
  return { x: place.x + 0.5, y: place.y + 0.5, k: place.k + 0.5 };
}
function isOn(id) {
  return at(id)?.checked ?? false;
}
function shownPanes() {
  if (state.layout === "planes") {
    return planes.map((plane, number) => Object.assign(panes[number], { plane, sequence: state.sequence }));
  }
  const shown = state.layout === "sequences" ? Object.keys(data.sequences) : [state.sequence];
  return shown.map((sequence, number) => Object.assign(panes[number], { plane: own, sequence }));
}
function activePane() {
  return panes[Math.min(state.active, shownPanes().length - 1)];
}

// A pane in words, for screen readers and saved pictures.
function describe({ sequence, plane }) {
  const index = indexOf(plane);
  if (plane !== own) return `${sequence}, ${plane.words} plane ${index + 1} of ${size[plane.through]}`;
  return `${sequence}, ${plane.words ? `${plane.words} ` : ""}slice ${index + 1} of ${count}`;
}

// Drawing waits for the screen's next picture, and comes again when what it needs is decoded.
let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const shown = shownPanes();
    for (const pane of panes) pane.box.hidden = !shown.includes(pane);
    for (const pane of shown) drawShown(pane);
    at("stage").dataset.layout = state.layout;
    at("stage").dataset.tool = state.tool;
    at("stage").dataset.panes = shown.length;
  });
}
function drawShown(pane) {
  const { canvas, box, sequence, plane } = pane;
  const words = describe(pane);
  const found = plane === own && isOn("outline-on") ? data.outlines[state.place.k].map((one) => one.finding) : [];
  box.setAttribute("aria-label", words);
  canvas.setAttribute("aria-label", found.length ? `${words}, with the outline of ${found.join(", ")}` : words);
  const { clientWidth: width, clientHeight: height } = box;
  if (!width || !height) return;
  const sharp = devicePixelRatio || 1;
  const [across, down] = [Math.round(width * sharp), Math.round(height * sharp)];
  const ready = plane === own ? decoded(sequence, state.place.k) : levelsOf(sequence, plane, indexOf(plane));
  if (!ready) {
    const needed = plane === own ? decode(sequence, state.place.k) : decodeAll(sequence);
    needed.then(draw, () => {});
    return;
  }
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
  }
  const context = canvas.getContext("2d");
  context.setTransform(sharp, 0, 0, sharp, 0, 0);
  drawPane(context, width, height, pane);
  box.dataset.drawn = `${sequence} ${plane.plane} ${indexOf(plane)}`;
}

function mark(chart, slice) {
  for (const old of chart.querySelectorAll("[aria-current]")) {
    old.removeAttribute("aria-current");
    if (old.hasAttribute("tabindex")) old.setAttribute("tabindex", "-1");
  }
  const now = chart.querySelector(`[data-slice="${slice}"]`);
  now.setAttribute("aria-current", "true");
  if (now.hasAttribute("tabindex")) now.setAttribute("tabindex", "0");
  return now;
}

// To a slice, counted from 0: all that the page says of it follows.
let writingHash = 0;
function go(wanted, { focusBar = false } = {}) {
  const slice = Math.max(0, Math.min(count - 1, Math.round(wanted)));
  state.place.k = slice;
  slider.value = slice + 1;
  slider.setAttribute("aria-valuetext", `Slice ${slice + 1}, probability ${data.probabilities[slice]}`);
  at("now").textContent = slice + 1;
  at("name").textContent = data.names[slice];
  at("place-row").hidden = !data.places;
  if (data.places) at("place").textContent = data.places[slice];
  at("probability").textContent = data.probabilities[slice];
  at("area").textContent = data.areas[slice];
  at("finding").textContent = data.findings[slice].join(", ") || "none";
  at("grey").textContent = greyWords(activePane().sequence);
  at("said").textContent = "";
  draw();
  mark(at("areas"), slice);
  const bar = mark(at("bars"), slice);
  if (focusBar) bar.focus({ preventScroll: true });
  for (const row of document.querySelectorAll("tr[data-slice]")) {
    row.classList.toggle("here", data.findings[slice].includes(Number(row.dataset.finding)));
  }
  clearTimeout(writingHash);
  writingHash = setTimeout(() => {
    try {
      history.replaceState(null, "", `#slice=${slice + 1}`);
    } catch {
      // Some browsers refuse this for local files, or when it is done often: the link is a comfort.
    }
  }, 400);
  // The neighbours next, so that scrolling finds them decoded.
  for (const pane of shownPanes()) {
    for (let away = 1; away <= 4; away += 1) {
      for (const one of [slice + away, slice - away]) {
        if (one >= 0 && one < count) decode(pane.sequence, one).catch(() => {});
      }
    }
  }
}

// Along the axis through a plane: for the study's own plane that is to another slice.
function step(plane, wanted) {
  const last = size[plane.through] - 1;
  state.place[plane.through] = Math.max(0, Math.min(last, Math.round(wanted)));
  go(state.place.k);
}

// Black and white of the window in the values of the input.
function greyWords(sequence) {
  const { low, high } = data.windows[sequence];
  const { black, white } = state.windows[sequence];
  const digits = high - low < 20 ? 2 : 0;
  return [black, white].map((part) => (low + part * (high - low)).toFixed(digits)).join(" to ");
}

function check(name, value) {
  const input = document.querySelector(`input[name="${name}"][value="${value}"]`);
  if (input) input.checked = true;
}
function choose(sequence) {
  state.sequence = sequence;
  if (state.layout === "sequences") state.layout = "one";
  check("layout", state.layout);
  check("sequence", sequence);
  go(state.place.k);
}
function chooseTool(tool) {
  state.tool = tool;
  check("tool", tool);
  draw();
}
function chooseLayout(layout) {
  state.layout = layout;
  check("layout", layout);
  // The crosshair begins in the middle of the finding on this slice.
  const [first] = data.outlines[state.place.k];
  if (layout === "planes" && first) {
    state.place.x = Math.floor((first.box[0] + first.box[2]) / 2);
    state.place.y = Math.floor((first.box[1] + first.box[3]) / 2);
  }
  go(state.place.k);
}
function nextLayout() {
  const all = [...document.querySelectorAll('input[name="layout"]')].map((one) => one.value);
  if (all.length) chooseLayout(all[(all.indexOf(state.layout) + 1) % all.length]);
}
function toggle(id) {
  const box = at(id);
  if (!box) return;
  box.checked = !box.checked;
  showLegends();
}
function showLegends() {
  if (at("legend")) at("legend").hidden = !isOn("interval-on");
  if (at("scale")) at("scale").hidden = !isOn("heat-on");
  draw();
}
function reset() {
  for (const sequence of Object.keys(data.sequences)) state.windows[sequence] = { black: 0, white: 1 };
  state.zoom = 1;
  state.centres.clear();
  state.lines.clear();
  go(state.place.k);
}

// To a slice from elsewhere on the page: the viewer comes into sight.
function jump(slice) {
  go(slice);
  const box = at("stage").getBoundingClientRect();
  if (box.top < 0 || box.bottom > innerHeight) {
    at("viewer").scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
  }
  panes[0].box.focus({ preventScroll: true });
}

for (const pane of panes) listenToPane(pane);
new ResizeObserver(draw).observe(at("stage"));

// Bars: click, or drag along them.
for (const chart of [at("bars"), at("areas")]) {
  const pick = (event) => {
    const box = chart.getBoundingClientRect();
    go(Math.floor((event.clientX - box.left) / box.width * count));
  };
  chart.addEventListener("pointerdown", pick);
  chart.addEventListener("pointermove", (event) => { if (event.buttons & 1) pick(event); });
}
// Screen readers press a bar by a click without a pointer.
at("bars").addEventListener("click", (event) => {
  const bar = event.target.closest("[data-slice]");
  if (bar && event.detail === 0) go(Number(bar.dataset.slice));
});

slider.addEventListener("input", () => go(Number(slider.value) - 1));
for (const [name, change] of [["sequence", choose], ["layout", chooseLayout], ["tool", chooseTool]]) {
  for (const one of document.querySelectorAll(`input[name="${name}"]`)) {
    one.addEventListener("change", () => change(one.value));
  }
}
for (const id of ["outline-on", "interval-on", "heat-on"]) at(id)?.addEventListener("change", showLegends);
at("smaller").addEventListener("click", () => zoomBy(0.8));
at("larger").addEventListener("click", () => zoomBy(1.25));
at("reset").addEventListener("click", reset);
at("save").addEventListener("click", () => savePane(activePane()));

for (const row of document.querySelectorAll("tr[data-slice]")) {
  row.addEventListener("click", (event) => {
    if (event.target.closest("button") || getSelection().toString() !== "") return; // someone copies
    event.preventDefault();
    jump(Number(row.dataset.slice));
  });
}
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const { finding } = button.dataset;
    await copy(data.texts[finding]);
    at("copied").textContent = `Number ${finding} copied as text.`;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
// Some browsers have no clipboard for local files: there the text is selected and copied.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

function fromHash() {
  const found = /^#slice=(\d+)$/.exec(location.hash);
  return found ? Number(found[1]) - 1 : null;
}
for (const link of document.querySelectorAll('.remark a[href^="#slice="]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    jump(Number(link.hash.slice(7)) - 1);
  });
}
addEventListener("hashchange", () => {
  const wanted = fromHash();
  if (wanted !== null && wanted !== state.place.k) jump(wanted);
});

// Paper shows everything that is folded on the screen, but for the keys.
const folded = [...document.querySelectorAll("details:not(.help)")];
let opened = [];
addEventListener("beforeprint", () => {
  opened = folded.filter((one) => !one.open);
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => { for (const one of opened) one.open = false; });

for (const sequence of Object.keys(data.sequences)) state.windows[sequence] = { black: 0, white: 1 };
go(fromHash() ?? data.start);
