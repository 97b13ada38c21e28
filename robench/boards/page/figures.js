"use strict";
// What the figures amount to at another weight. core/statistics.py has the same in Python.

const Z_95 = 1.959963984540054;

/** W-Robust for the weight pi of robust accuracy; the printed one where only that is printed. */
function wRobust(row, pi) {
  if (!row.weighed) return null;
  if (row.clean === null || row.robust === null) return pi === 0.5 ? row.w_printed : null;
  return (1 - pi) * row.clean + pi * row.robust;
}

/** Its 95 % interval: of n images, clean_n score 1 - pi and robust_n of those pi more. */
function wInterval(row, pi) {
  if (row.robust_n === null || !row.n) return null;
  const n = row.n;
  const mean = wRobust(row, pi);
  const lost = row.clean_n - row.robust_n;
  const squares =
    row.robust_n * (1 - mean) ** 2 + lost * (1 - pi - mean) ** 2 + (n - row.clean_n) * mean ** 2;
  const half = n > 1 ? Z_95 * Math.sqrt(squares / (n - 1) / n) : Infinity;
  return [Math.max(0, mean - half), Math.min(1, mean + half)];
}

/** Sets w, w_interval, rank and the field's size. Equal figures share a rank, the next is skipped. */
function weigh(rows, pi) {
  const fields = new Map();
  for (const row of rows) {
    row.w = wRobust(row, pi);
    row.w_interval = wInterval(row, pi);
    row.rank = null;
    row.rank_of = null;
    if (row.field === null || row.w === null) continue;
    const key = JSON.stringify([row.field, row.ground, row.attack]);
    if (!fields.has(key)) fields.set(key, []);
    fields.get(key).push(row);
  }
  for (const field of fields.values()) {
    // Shares summed in another order are still a tie, so 12 digits decide.
    const figures = field.map((row) => Math.round(row.w * 1e12)).sort((a, b) => b - a);
    for (const row of field) {
      row.rank = figures.indexOf(Math.round(row.w * 1e12)) + 1;
      row.rank_of = field.length;
    }
  }
}

/** The rows that no other dominates in clean and robust accuracy, by falling clean accuracy. */
function paretoFront(rows) {
  const sorted = [...rows].sort((a, b) => b.clean - a.clean || b.robust - a.robust);
  const front = [];
  for (const row of sorted) {
    const last = front.at(-1);
    const same = last && last.clean === row.clean && last.robust === row.robust;
    if (!last || same || row.robust > last.robust) front.push(row);
  }
  return front;
}

function percent(share) {
  return share === null ? "-" : (100 * share).toFixed(2);
}

function bounds(interval) {
  return interval ? `[${interval.map((bound) => (100 * bound).toFixed(1)).join(", ")}]` : "";
}

/** A row in one sentence, for the scatter and for screen readers. */
function describe(row) {
  const figure = (name, share, interval) =>
    share === null ? "" : `, ${name} ${percent(share)} ${bounds(interval)}`.trimEnd();
  const source = row.source === "measured" ? "measured" : `published, ${row.where}`;
  return (
    `${row.name} (${source}; ${row.architecture})` +
    figure("clean", row.clean, row.clean_interval) +
    figure("robust", row.robust, row.robust_interval) +
    figure("W-Robust", row.w, row.w_interval) +
    (row.rank === null ? ", not ranked" : `, rank ${row.rank} of ${row.rank_of} among ${row.field}`)
  );
}
