// Moves through what the report already holds: no network, no storage, no libraries.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const count = data.names.length;
  const stage = at("stage");
  const slider = at("slider");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const state = { slice: data.start, sequence: "FLAIR" };

  // Pictures are decoded once and kept; a picture is shown only when decoded, so nothing flickers.
  const kept = new Map();
  function picture(kind, index) {
    const key = kind + index;
    if (!kept.has(key)) {
      const coded = kind === "heat" ? data.heat[index] : data.sequences[kind][index];
      const image = new Image();
      image.src = (kind === "heat" ? "data:image/png;base64," : "data:image/jpeg;base64,") + coded;
      kept.set(key, image);
    }
    return kept.get(key);
  }

  function showPicture() {
    const { slice, sequence } = state;
    const image = picture(sequence, slice);
    const show = () => {
      if (state.slice !== slice || state.sequence !== sequence) return;
      at("picture").src = image.src;
    };
    image.decode().then(show, show);
    at("picture").alt = `${sequence}, slice ${slice}`;
    const heat = at("heat");
    if (heat) {
      const wanted = at("heat-on").checked && data.heat[slice] !== null;
      if (wanted) heat.src = picture("heat", slice).src;
      heat.hidden = !wanted;
      at("scale").hidden = !at("heat-on").checked;
    }
    const path = at("outline-on").checked ? data.outlines[slice] : "";
    for (const one of at("outline").children) one.setAttribute("d", path);
    const interval = at("interval");
    if (interval) {
      const on = at("interval-on").checked;
      const paths = on ? [data.inner[slice], data.outer[slice]] : ["", ""];
      [...interval.children].forEach((one, k) => one.setAttribute("d", paths[k >> 1]));
      at("legend").hidden = !on;
    }
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

  let writingHash = 0;
  function go(wanted, { focusBar = false } = {}) {
    const slice = Math.max(0, Math.min(count - 1, Math.round(wanted)));
    state.slice = slice;
    slider.value = slice;
    slider.setAttribute("aria-valuetext", `Slice ${slice}, probability ${data.probabilities[slice]}`);
    at("now").textContent = slice;
    at("corner-slice").textContent = slice;
    at("corner-sequence").textContent = state.sequence;
    at("name").textContent = data.names[slice];
    at("name").title = data.names[slice];
    at("place-row").hidden = !data.places;
    if (data.places) at("place").textContent = data.places[slice];
    at("probability").textContent = data.probabilities[slice];
    at("area").textContent = data.areas[slice];
    at("finding").textContent = data.findings[slice].join(", ") || "none";
    showPicture();
    mark(at("areas"), slice);
    const bar = mark(at("bars"), slice);
    if (focusBar) bar.focus({ preventScroll: true });
    for (const row of document.querySelectorAll("tr[data-slice]")) {
      row.classList.toggle("here", data.findings[slice].includes(Number(row.querySelector("a").textContent)));
    }
    clearTimeout(writingHash);
    writingHash = setTimeout(() => {
      try {
        history.replaceState(null, "", `#slice=${slice}`);
      } catch {
        // Some browsers refuse this for local files, or when it is done often: the link is a comfort.
      }
    }, 400);
    // The neighbours next, so that scrolling finds them decoded.
    for (let step = 1; step <= 4; step += 1) {
      for (const one of [slice + step, slice - step]) {
        if (one >= 0 && one < count) picture(state.sequence, one).decode().catch(() => {});
      }
    }
  }

  function choose(sequence) {
    if (!(sequence in data.sequences)) return;
    state.sequence = sequence;
    document.querySelector(`input[name="sequence"][value="${sequence}"]`).checked = true;
    go(state.slice);
  }

  function jump(slice) {
    go(slice);
    const box = stage.getBoundingClientRect();
    if (box.top < 0 || box.bottom > innerHeight) {
      at("viewer").scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
    }
    stage.focus({ preventScroll: true });
  }

  // Keys. Sequence and overlay keys work unless something else is typed into or in focus.
  const page = Math.max(5, Math.round(count / 10));
  const moves = {
    ArrowLeft: (k) => k - 1, ArrowUp: (k) => k - 1, ArrowRight: (k) => k + 1, ArrowDown: (k) => k + 1,
    PageUp: (k) => k - page, PageDown: (k) => k + page, Home: () => 0, End: () => count - 1,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const focus = document.activeElement;
    const inside = at("viewer").contains(focus);
    if (!inside && focus !== document.body) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "o") return toggle("outline-on", event);
    if (key === "i" && at("interval-on")) return toggle("interval-on", event);
    if (key === "p" && at("heat-on")) return toggle("heat-on", event);
    const onBar = at("bars").contains(focus);
    if (!onBar && focus !== stage) return;
    if (key in moves) {
      event.preventDefault();
      go(moves[key](state.slice), { focusBar: onBar });
    } else if (onBar && (key === "Enter" || key === " ")) {
      event.preventDefault();
      go(Number(focus.dataset.slice));
    }
  });
  function toggle(id, event) {
    event.preventDefault();
    at(id).checked = !at(id).checked;
    showPicture();
  }

  // Wheel: one notch is one slice. A page that is just scrolling past goes on scrolling, and so does
  // one whose first or last slice is reached.
  let scrolledAt = -1000;
  let rest = 0;
  addEventListener("scroll", () => { scrolledAt = performance.now(); }, { passive: true });
  stage.addEventListener("wheel", (event) => {
    if (event.ctrlKey || performance.now() - scrolledAt < 250) return;
    const way = Math.sign(event.deltaY);
    const next = state.slice + way;
    if (way === 0 || next < 0 || next >= count) return;
    event.preventDefault();
    rest = Math.sign(rest) === way ? rest + event.deltaY : event.deltaY;
    if (event.deltaMode === 0 && Math.abs(rest) < 30) return;
    rest = 0;
    go(next);
  }, { passive: false });

  // Drag sideways, by finger or mouse; up and down stays the page's.
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button === 0) drag = { x: event.clientX, slice: state.slice };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag || !(event.buttons & 1)) return;
    if (!stage.hasPointerCapture(event.pointerId)) stage.setPointerCapture(event.pointerId);
    const perSlice = Math.max(6, Math.min(24, stage.clientWidth / count));
    const wanted = drag.slice + (event.clientX - drag.x) / perSlice;
    if (Math.round(wanted) !== state.slice) go(wanted);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });

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

  slider.addEventListener("input", () => go(Number(slider.value)));
  for (const one of document.querySelectorAll('input[name="sequence"]')) {
    one.addEventListener("change", () => choose(one.value));
  }
  for (const id of ["outline-on", "interval-on", "heat-on"]) at(id)?.addEventListener("change", showPicture);

  for (const row of document.querySelectorAll("tr[data-slice]")) {
    row.addEventListener("click", (event) => {
      if (getSelection().toString() !== "") return; // someone copies a number
      event.preventDefault();
      jump(Number(row.dataset.slice));
    });
  }
  function fromHash() {
    const found = /^#slice=(\d+)$/.exec(location.hash);
    return found ? Number(found[1]) : null;
  }
  for (const link of document.querySelectorAll('.remark a[href^="#slice="]')) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      jump(Number(link.hash.slice(7)));
    });
  }
  addEventListener("hashchange", () => {
    const wanted = fromHash();
    if (wanted !== null && wanted !== state.slice) jump(wanted);
  });

  // Paper shows everything that is folded on the screen.
  const folded = [...document.querySelectorAll("details")];
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = folded.filter((one) => !one.open);
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });

  go(fromHash() ?? data.start);
})();
