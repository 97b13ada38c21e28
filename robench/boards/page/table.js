// The table: columns, cells, order.

/** An element. Children that are text stay text: nothing from the data is ever read as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const lower = (text) => text.toLowerCase();
const grouped = (number) => (number === null ? "-" : number.toLocaleString("en"));

// value: what a column is sorted by, null for missing. show: what its cell holds.
const COLUMNS = [
  { key: "rank", title: "Rank in source", value: (row) => row.rank, show: rankCell, number: true, rising: true },
  { key: "name", title: "Defense", value: (row) => lower(row.name), show: nameCell, rising: true },
  { key: "source", title: "Source", value: (row) => lower(sourceText(row)), show: (row) => [sourceText(row)], rising: true },
  { key: "ground", title: "Data set and threat", value: (row) => lower(row.ground), show: (row) => [row.ground], rising: true },
  { key: "attack", title: "Attack", value: (row) => lower(row.attack), show: (row) => [row.attack], rising: true },
  { key: "clean", title: "Clean", value: (row) => row.clean, show: (row) => figureCell(row.clean, row.clean_interval), number: true },
  { key: "robust", title: "Robust", value: (row) => row.robust, show: robustCell, number: true },
  { key: "w", title: "W-Robust", value: (row) => row.w, show: (row) => figureCell(row.w, row.w_interval), number: true },
  { key: "worst", title: "Worst class", value: (row) => row.worst, show: worstCell, number: true },
  { key: "best_known", title: "Best known", value: (row) => row.best_known, show: (row) => [percent(row.best_known)], number: true },
  { key: "architecture", title: "Network", value: (row) => lower(row.architecture), show: (row) => [row.architecture], rising: true },
  { key: "parameters", title: "Parameters", value: (row) => row.parameters, show: (row) => [grouped(row.parameters)], number: true },
  { key: "n", title: "Images", value: (row) => row.n, show: (row) => [grouped(row.n)], number: true },
  { key: "notes", title: "Remarks", show: notesCell },
];
const LIVE = new Set(["rank", "w"]);

function sourceText(row) {
  return row.source === "measured" ? "measured" : `published: ${row.where}`;
}

function rankCell(row) {
  return row.rank === null ? ["-"] : [`${row.rank} of ${row.rank_of}`];
}

function nameCell(row) {
  const mark = element("i", { class: `mark ${row.source}`, "aria-hidden": "true" });
  return [mark, element("a", { href: `#${row.id}` }, row.name)];
}

function figureCell(share, interval) {
  if (!interval || share === null) return [percent(share)];
  return [percent(share), element("span", { class: "interval" }, bounds(interval))];
}

function robustCell(row) {
  const status = row.status ? [element("span", { class: "note" }, row.status)] : [];
  return [...figureCell(row.robust, row.robust_interval), ...status];
}

function worstCell(row) {
  if (row.worst === null) return ["-"];
  return [percent(row.worst), element("span", { class: "interval" }, `class ${row.worst_class}`)];
}

function notesCell(row) {
  return row.notes.map((note) => element("span", { class: `note ${note.level}` }, note.text));
}

/** The head of the table; `choose(key)` is called when a column is asked for. */
function makeHead(head, choose) {
  const cells = COLUMNS.map((column) => {
    const cell = element("th", { scope: "col", "data-key": column.key });
    if (column.number) cell.className = "number";
    if (!column.value) {
      cell.append(column.title);
      return cell;
    }
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => choose(column.key));
    cell.append(button);
    return cell;
  });
  head.replaceChildren(element("tr", {}, ...cells));
}

/** The line of a row, made once. */
function lineOf(row) {
  if (row.line) return row.line;
  const cells = COLUMNS.map((column) => {
    const cell = element(column.key === "name" ? "th" : "td", { "data-key": column.key });
    if (column.key === "name") cell.setAttribute("scope", "row");
    if (column.number) cell.className = "number";
    if (column.key === "notes") cell.className = "long";
    if (!LIVE.has(column.key)) cell.append(...column.show(row));
    return cell;
  });
  row.line = element("tr", { class: row.source }, ...cells);
  return row.line;
}

/** Writes what depends on the weight. */
function refresh(row) {
  const cells = lineOf(row).children;
  COLUMNS.forEach((column, i) => {
    if (LIVE.has(column.key)) cells[i].replaceChildren(...column.show(row));
  });
}

/** The rows in order; a missing value comes last whichever way. Equal ones keep the data's order. */
function ordered(rows, key, rising) {
  const value = COLUMNS.find((column) => column.key === key).value;
  return [...rows].sort((a, b) => {
    const [one, other] = [value(a), value(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    const order = one < other ? -1 : Number(one > other);
    return rising ? order : -order;
  });
}

/** Shows the rows in this order, and in the head what they are ordered by. */
function showRows(table, rows, sort) {
  for (const cell of table.tHead.rows[0].cells) {
    if (cell.dataset.key === sort.key) {
      cell.setAttribute("aria-sort", sort.rising ? "ascending" : "descending");
    } else {
      cell.removeAttribute("aria-sort");
    }
  }
  table.tBodies[0].replaceChildren(...ordered(rows, sort.key, sort.rising).map(lineOf));
}

/** Hides the columns that say the same in every row. */
function showColumns(table, hidden) {
  for (const key of ["ground", "attack", "worst", "best_known"]) {
    table.classList.toggle(`without-${key}`, hidden.has(key));
  }
}
