// Robust accuracy of every defense under every attack of one data set and threat.

/** Lines of the map: the rows of one defense, one for each attack. Two printings stay two lines. */
function heatLines(rows) {
  const lines = new Map();
  for (const row of rows) {
    const name = row.source === "measured" ? row.id : [row.source, row.name, row.architecture];
    for (let copy = 0; ; copy += 1) {
      const key = JSON.stringify([name, copy]);
      if (!lines.has(key)) lines.set(key, { first: row, cells: new Map() });
      const { cells } = lines.get(key);
      if (cells.has(row.attack)) continue;
      cells.set(row.attack, row);
      break;
    }
  }
  return [...lines.values()];
}

function heatCell(row) {
  if (!row || row.robust === null) return element("td", {}, "-");
  const cell = element("td", { class: "share" }, percent(row.robust));
  cell.style.setProperty("--share", row.robust.toFixed(3));
  if (row.status) cell.append(element("small", {}, row.status));
  return cell;
}

/** attack: the lines are ordered by it, those without it come last. */
function drawHeat(table, rows, attacks, attack) {
  const figure = (line) => line.cells.get(attack)?.robust ?? -1;
  const lines = heatLines(rows).sort((a, b) => figure(b) - figure(a));
  const used = attacks.filter((name) => lines.some((line) => line.cells.has(name)));
  const head = ["Defense", ...used].map((name, i) =>
    element("th", { scope: "col", class: i ? "number" : "" }, name),
  );
  const body = lines.map(({ first, cells }) =>
    element(
      "tr",
      {},
      element(
        "th",
        { scope: "row" },
        ...nameCell(first),
        element("small", {}, `${sourceText(first).split(":")[0]}, ${first.architecture}`),
      ),
      ...used.map((name) => heatCell(cells.get(name))),
    ),
  );
  table.replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}
