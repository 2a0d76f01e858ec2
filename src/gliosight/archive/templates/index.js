// The page of a cohort: sorts, filters and walks through the rows that stand in the table.

const at = (id) => document.getElementById(id);
const keys = JSON.parse(at("data").textContent);
const body = at("rows");
const heads = [...document.querySelectorAll("th[data-column]")];
const rows = [...body.rows].map((element, position) => {
  const words = (name) => element.querySelector(`.${name}`)?.textContent ?? "";
  const codes = words("codes");
  return {
    element,
    position,
    kind: element.className,
    text: [words("study"), words("source"), codes, words("failure")].join("\n").toLowerCase(),
    warned: codes !== "",
    shown: true,
  };
});
// What the page shows: all of it stands in its address, too.
const first = { sort: "rank", down: false, text: "", verdict: "", warned: false };
const state = { ...first };
// Numbers of which the largest come first.
const largest = ["probability", "volume", "findings", "warnings", "time"];
let order = rows;
let current = null;

function compare(one, other) {
  const [a, b] = [keys[state.sort][one.position], keys[state.sort][other.position]];
  const known = a !== null && b !== null;
  const order = known ? (a - b) * (state.down ? -1 : 1) : (a === null) - (b === null); // unknown: always last
  return order || one.position - other.position;
}

function sortRows() {
  order = [...rows].sort(compare);
  const focused = document.activeElement;
  body.append(...order.map((row) => row.element));
  if (body.contains(focused)) focused.focus(); // moved rows lose it
  for (const head of heads) {
    if (head.dataset.column === state.sort) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

function filterRows() {
  const wanted = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    row.shown = (!state.verdict || row.kind === state.verdict) && (!state.warned || row.warned)
      && wanted.every((word) => row.text.includes(word));
    if (row.element.hidden === row.shown) row.element.hidden = !row.shown;
    count += row.shown;
  }
  const all = `${rows.length.toLocaleString("en")} ${rows.length === 1 ? "study" : "studies"}`;
  at("shown").textContent = count === rows.length ? all : `${count.toLocaleString("en")} of ${all}`;
  at("none").hidden = count > 0;
  at("clear").hidden = !state.text && !state.verdict && !state.warned;
  if (current && !current.shown) setCurrent(null);
}

function showControls() {
  if (at("text").value !== state.text) at("text").value = state.text;
  at("verdict").value = state.verdict;
  at("warned").checked = state.warned;
  for (const button of document.querySelectorAll("button[data-verdict]")) {
    button.setAttribute("aria-pressed", button.dataset.verdict === state.verdict);
  }
}

function change(wanted, { remember = true } = {}) {
  const sorted = state.sort !== (wanted.sort ?? state.sort) || state.down !== (wanted.down ?? state.down);
  Object.assign(state, wanted);
  if (sorted) sortRows();
  filterRows();
  showControls();
  if (remember) rememberSoon();
}

// The address, written when typing has stopped.
let writing = 0;
function rememberSoon() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const parts = new URLSearchParams();
    if (state.sort !== first.sort || state.down) parts.set("sort", (state.down ? "-" : "") + state.sort);
    if (state.verdict) parts.set("verdict", state.verdict);
    if (state.warned) parts.set("warned", "1");
    if (state.text) parts.set("text", state.text);
    try {
      history.replaceState(null, "", `#${parts}`);
    } catch {
      // Some browsers refuse this for local files: the link is a comfort.
    }
  }, 250);
}
function fromAddress() {
  if (/^#study-\d+$/.test(location.hash)) {
    jump(location.hash);
    return;
  }
  const parts = new URLSearchParams(location.hash.slice(1));
  const sort = (parts.get("sort") ?? first.sort).replace(/^-/, "");
  const verdict = parts.get("verdict") ?? "";
  change({
    sort: heads.some((head) => head.dataset.column === sort) ? sort : first.sort,
    down: (parts.get("sort") ?? "").startsWith("-"),
    verdict: [...at("verdict").options].some((option) => option.value === verdict) ? verdict : "",
    warned: parts.get("warned") === "1",
    text: parts.get("text") ?? "",
  }, { remember: false });
}

// One row is the current one: the tabulator key stops there, and keys mean it. It is read out as a whole.
function setCurrent(row, { focus = false } = {}) {
  if (current !== row) {
    current?.element.removeAttribute("tabindex");
    current?.element.classList.remove("here");
    current = row;
    if (row) {
      const cells = [...row.element.cells].map((cell) => cell.textContent.trim().replace(/\s+/g, " "));
      row.element.setAttribute("aria-label", cells.filter(Boolean).join(", "));
      row.element.setAttribute("tabindex", "0");
      row.element.classList.add("here");
    }
  }
  if (row && focus) row.element.focus();
}
function step(by) {
  const shown = order.filter((row) => row.shown);
  const from = shown.indexOf(current);
  const next = from < 0 ? 0 : Math.max(0, Math.min(shown.length - 1, from + by));
  if (shown.length) setCurrent(shown[next], { focus: true });
}
function jump(hash) {
  const row = rows.find((one) => `#${one.element.id}` === hash);
  if (!row) return;
  if (!row.shown) change({ text: "", verdict: "", warned: false });
  setCurrent(row, { focus: true });
}
function clear() {
  change({ text: "", verdict: "", warned: false });
}
function chooseVerdict(kind) {
  change({ verdict: kind === state.verdict ? "" : kind });
}
function chooseSort(sort) {
  change({ sort, down: sort === state.sort ? !state.down : largest.includes(sort) });
}

// A thumbnail is decoded when its row comes near the screen.
function draw(row) {
  const holder = row.querySelector("noscript");
  const source = /src="([^"]+)"/.exec(holder?.textContent ?? "");
  if (!source) return;
  const picture = new Image(72, 72);
  picture.alt = "";
  picture.src = source[1];
  holder.replaceWith(picture);
}
const watcher = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    draw(target);
  }
}, { rootMargin: "600px" });
for (const row of body.rows) watcher.observe(row);

for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
for (const head of heads) {
  head.firstElementChild.addEventListener("click", () => chooseSort(head.dataset.column));
}
for (const button of document.querySelectorAll("button[data-verdict]")) {
  button.addEventListener("click", () => chooseVerdict(button.dataset.verdict));
}
at("text").addEventListener("input", () => change({ text: at("text").value }));
at("verdict").addEventListener("change", () => change({ verdict: at("verdict").value }));
at("warned").addEventListener("change", () => change({ warned: at("warned").checked }));
at("clear").addEventListener("click", () => {
  clear();
  at("text").focus();
});
at("help").addEventListener("click", () => at("keys").showModal());
at("close").addEventListener("click", () => at("keys").close());
body.addEventListener("focusin", (event) => {
  setCurrent(rows.find((row) => row.element === event.target.closest("tr")));
});
body.addEventListener("mousedown", (event) => {
  const row = rows.find((one) => one.element === event.target.closest("tr"));
  if (row && event.button === 0) setCurrent(row);
});
for (const link of document.querySelectorAll('.failures a[href^="#study-"]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    jump(link.hash);
  });
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("keys").open) return;
  const field = event.target.closest?.("input, select");
  if (field === at("text")) {
    if (event.key === "Escape") {
      if (state.text || state.verdict || state.warned) clear();
      else field.blur();
    } else if (event.key === "ArrowDown") {
      setCurrent(null);
      step(0);
    } else return;
  } else if (event.key === "/") {
    at("text").focus();
    at("text").select();
  } else if (event.key === "?") at("keys").showModal();
  else if (field) return;
  else if (event.key === "ArrowDown" || event.key === "j") step(1);
  else if (event.key === "ArrowUp" || event.key === "k") step(-1);
  else if (event.key === "Enter" && event.target === current?.element) {
    current.element.querySelector(".study a")?.click();
  } else return;
  event.preventDefault();
});

// Paper shows everything: the pictures that were not yet seen, and what is folded.
addEventListener("beforeprint", () => {
  for (const row of body.rows) draw(row);
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
addEventListener("hashchange", fromAddress);
fromAddress();
