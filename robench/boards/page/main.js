// The page: controls in, table and figures out.

const { rows, start } = JSON.parse(document.getElementById("data").textContent);
const part = (id) => document.getElementById(id);
const table = part("rows");
const sort = { key: "w", rising: false };

function haystack(row) {
  const notes = row.notes.map((note) => note.text);
  return [row.name, row.architecture, row.where, row.source, ...notes].join("\n").toLowerCase();
}
for (const row of rows) row.haystack = haystack(row);

/** What the controls ask for. */
function wanted() {
  const sources = [...document.querySelectorAll("input[name=source]:checked")];
  return {
    ground: part("ground").value,
    attack: part("attack").value,
    words: part("filter").value.toLowerCase().split(/\s+/).filter(Boolean),
    sources: new Set(sources.map((box) => box.value)),
    pi: Number(part("weight").value),
  };
}

function matching({ ground, words, sources }) {
  return rows.filter(
    (row) =>
      (!ground || row.ground === ground) &&
      sources.has(row.source) &&
      words.every((word) => row.haystack.includes(word)),
  );
}

/** Fills the list of attacks with those of the ground; keeps the choice where it can. */
function offerAttacks(choice) {
  const ground = part("ground").value;
  const inside = rows.filter((row) => !ground || row.ground === ground);
  const attacks = [...new Set(inside.map((row) => row.attack))];
  const options = attacks.map((attack) => element("option", { value: attack }, attack));
  part("attack").replaceChildren(...options, element("option", { value: "" }, "all"));
  part("attack").value = choice === "" || attacks.includes(choice) ? choice : attacks[0];
}

function showTable(view, all) {
  const shown = all.filter((row) => !view.attack || row.attack === view.attack);
  const measured = shown.filter((row) => row.source === "measured").length;
  part("count").textContent =
    `${shown.length} of ${rows.length} rows: ${measured} measured, ${shown.length - measured} published.`;
  const hidden = new Set();
  if (view.ground) hidden.add("ground");
  if (view.attack) hidden.add("attack");
  for (const key of ["worst", "best_known"]) if (shown.every((row) => row[key] === null)) hidden.add(key);
  showColumns(table, hidden);
  showRows(table, shown, sort);
  return shown;
}

function showScatter(view, shown) {
  if (view.ground && view.attack) {
    drawScatter(part("scatter"), shown, view.pi, (text) => (part("reading").textContent = text));
  } else {
    part("scatter").replaceChildren(element("p", {}, "Choose one data set and one attack above."));
  }
}

function showHeat(view, all) {
  if (view.ground) {
    const attacks = [...part("attack").options].map((option) => option.value).filter(Boolean);
    drawHeat(part("heat"), all, attacks, view.attack);
  } else {
    const text = "Choose one data set above.";
    part("heat").replaceChildren(element("tbody", {}, element("tr", {}, element("td", {}, text))));
  }
}

function show() {
  const view = wanted();
  const all = matching(view);
  showScatter(view, showTable(view, all));
  showHeat(view, all);
}

/** The same rows in another order: no figure is touched. Its time is kept under "sort". */
function sortBy(key) {
  const begin = performance.now();
  const column = COLUMNS.find((each) => each.key === key);
  sort.rising = sort.key === key ? !sort.rising : Boolean(column.rising);
  sort.key = key;
  const view = wanted();
  showTable(view, matching(view));
  table.getBoundingClientRect(); // layout is part of what a reader waits for
  performance.measure("sort", { start: begin, end: performance.now() });
}

function reweigh() {
  const { pi } = wanted();
  weigh(rows, pi);
  for (const row of rows) refresh(row);
  part("formula").textContent =
    `W-Robust = ${(1 - pi).toFixed(2)} × clean + ${pi.toFixed(2)} × robust accuracy`;
}

/** Opens what a link on this page points to, and goes there. */
function reveal() {
  const target = part(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.localName === "details") at.open = true;
  target.scrollIntoView({ block: "nearest" });
  (target.querySelector("summary") ?? target).focus();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function switchTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
}

function nameTheme() {
  part("theme").textContent = isDark() ? "Switch to light" : "Switch to dark";
}

let frame = 0;
/** At most one drawing for each picture of the screen, however fast the slider moves. */
function soon(draw) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(draw);
}

makeHead(table.tHead, sortBy);
offerAttacks(start.attack);
reweigh();
show();
nameTheme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
part("theme").addEventListener("click", switchTheme);
part("controls").addEventListener("submit", (event) => event.preventDefault());
part("controls").addEventListener("input", (event) => {
  if (event.target.id === "ground") offerAttacks(part("attack").value);
  if (event.target.id === "weight") reweigh();
  soon(show);
});
let width = part("scatter").clientWidth;
new ResizeObserver(() => {
  if (width === part("scatter").clientWidth) return; // only its height: drawn by us
  width = part("scatter").clientWidth;
  soon(show);
}).observe(part("scatter"));
addEventListener("hashchange", reveal);
addEventListener("click", (event) => {
  if (event.target.closest("a[href^='#']")) setTimeout(reveal);
});
reveal();
