// Clean against robust accuracy as an inline SVG.

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** From data to pixels, both ways round the tens of percent that hold all figures. */
function makeFrame(rows, width, height) {
  const range = (low, high) => [
    Math.max(0, Math.floor(low * 10 - 0.2) / 10),
    Math.min(1, Math.ceil(high * 10 + 0.2) / 10),
  ];
  const of = (key, interval) => {
    const all = rows.flatMap((row) => [row[key], ...(row[interval] ?? [])]);
    return range(Math.min(...all), Math.max(...all));
  };
  const [x, y] = [of("clean", "clean_interval"), of("robust", "robust_interval")];
  const box = { left: 48, right: width - 46, top: 14, bottom: height - 46 };
  return {
    x,
    y,
    box,
    px: (share) => box.left + ((share - x[0]) / (x[1] - x[0])) * (box.right - box.left),
    py: (share) => box.bottom - ((share - y[0]) / (y[1] - y[0])) * (box.bottom - box.top),
  };
}

function tens([low, high]) {
  const found = [];
  for (let ten = Math.round(low * 10); ten <= Math.round(high * 10); ten += 1) found.push(ten / 10);
  return found;
}

function axes({ x, y, box, px, py }) {
  const text = (at, anchor, content) => shape("text", { ...at, "text-anchor": anchor }, content);
  const line = (kind, x1, y1, x2, y2) => shape("line", { class: kind, x1, y1, x2, y2 });
  const middle = (box.top + box.bottom) / 2;
  return [
    ...tens(x).flatMap((v) => [
      line("grid", px(v), box.top, px(v), box.bottom),
      text({ x: px(v), y: box.bottom + 18 }, "middle", (100 * v).toFixed(0)),
    ]),
    ...tens(y).flatMap((v) => [
      line("grid", box.left, py(v), box.right, py(v)),
      text({ x: box.left - 8, y: py(v) + 4 }, "end", (100 * v).toFixed(0)),
    ]),
    line("axis", box.left, box.bottom, box.right, box.bottom),
    line("axis", box.left, box.top, box.left, box.bottom),
    text({ x: (box.left + box.right) / 2, y: box.bottom + 38 }, "middle", "clean accuracy, %"),
    text({ transform: `translate(12 ${middle}) rotate(-90)` }, "middle", "robust accuracy, %"),
  ];
}

/** Where (1 - pi) clean + pi robust = w crosses the frame: two points, or fewer. */
function crossings({ x, y }, pi, w) {
  const points = [];
  const add = (clean, robust) => {
    const inside = clean >= x[0] && clean <= x[1] && robust >= y[0] && robust <= y[1];
    if (inside && !points.some((p) => p[0] === clean && p[1] === robust)) points.push([clean, robust]);
  };
  if (pi > 0) for (const clean of x) add(clean, (w - (1 - pi) * clean) / pi);
  if (pi < 1) for (const robust of y) add((w - pi * robust) / (1 - pi), robust);
  return points.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
}

function isoLines(frame, pi) {
  const made = [];
  for (let ten = 1; ten < 10; ten += 1) {
    const [end, start] = crossings(frame, pi, ten / 10);
    if (!start) continue;
    const [x1, y1, x2, y2] = [frame.px(start[0]), frame.py(start[1]), frame.px(end[0]), frame.py(end[1])];
    if (Math.hypot(x2 - x1, y2 - y1) < 30) continue;
    made.push(shape("line", { class: "iso", x1, y1, x2, y2 }));
    const below = y2 > frame.box.bottom - 10;
    made.push(shape("text", { class: "iso-name", x: x2 + 4, y: y2 + (below ? -6 : 4) }, `W ${10 * ten}`));
  }
  return made;
}

function frontLine(frame, rows, kind) {
  const points = paretoFront(rows).map((row) => `${frame.px(row.clean)},${frame.py(row.robust)}`);
  return points.length > 1 ? [shape("polyline", { class: `front ${kind}`, points: points.join(" ") })] : [];
}

function errorBars(frame, row) {
  const [x, y] = [frame.px(row.clean), frame.py(row.robust)];
  const made = [];
  if (row.clean_interval) {
    const [x1, x2] = row.clean_interval.map(frame.px);
    made.push(shape("line", { class: "error", x1, y1: y, x2, y2: y }));
  }
  if (row.robust_interval) {
    const [y1, y2] = row.robust_interval.map(frame.py);
    made.push(shape("line", { class: "error", x1: x, y1, x2: x, y2 }));
  }
  return made;
}

function point(frame, row) {
  const [x, y] = [frame.px(row.clean), frame.py(row.robust)];
  const mark =
    row.source === "paper"
      ? shape("rect", { class: "shape", x: x - 4.5, y: y - 4.5, width: 9, height: 9 })
      : shape("circle", { class: "shape", cx: x, cy: y, r: 5 });
  const link = shape(
    "a",
    { href: `#${row.id}`, class: row.source, tabindex: -1, "aria-label": describe(row) },
    ...errorBars(frame, row),
    mark,
  );
  link.row = row;
  return link;
}

/** Names of measured points, each where it covers no other text and no measured point. */
function pointNames(frame, rows, texts) {
  const boxes = rows.map((row) => [frame.px(row.clean) - 7, frame.py(row.robust) - 7, 14, 14]);
  for (const text of texts) {
    boxes.push([Number(text.getAttribute("x")), Number(text.getAttribute("y")) - 11, 36, 14]);
  }
  const free = ([x, y, w, h]) =>
    x > frame.box.left && x + w < frame.box.right && y > frame.box.top - 8 && y + h < frame.box.bottom &&
    boxes.every(([a, b, c, d]) => x + w < a || a + c < x || y + h < b || b + d < y);
  return rows.flatMap((row) => {
    const [x, y, width] = [frame.px(row.clean), frame.py(row.robust), 7 * row.name.length];
    const places = [[x + 10, y - 20], [x - 10 - width, y - 20], [x + 10, y + 6], [x - 10 - width, y + 6]];
    const place = places.find(([left, top]) => free([left, top, width, 14]));
    if (!place) return [];
    boxes.push([...place, width, 14]);
    return [shape("text", { class: "name", x: place[0], y: place[1] + 11 }, row.name)];
  });
}

/** One tab stop for all points: arrow keys go on, Home and End to the ends. */
function walk(points, event) {
  const at = points.indexOf(event.target.closest("a"));
  const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: points.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  const next = points[Math.min(Math.max(to, 0), points.length - 1)];
  for (const each of points) each.setAttribute("tabindex", each === next ? 0 : -1);
  next.focus();
}

/** Draws into `host`; `read(text)` is given the point under the pointer or the focus. */
function drawScatter(host, rows, pi, read) {
  const shown = rows.filter((row) => row.clean !== null && row.robust !== null);
  if (!shown.length) {
    host.replaceChildren(element("p", {}, "No row with both accuracies."));
    return;
  }
  const width = Math.max(280, host.clientWidth);
  const height = Math.round(Math.min(560, Math.max(340, width * 0.6)));
  const frame = makeFrame(shown, width, height);
  const measured = shown.filter((row) => row.source === "measured");
  const published = shown.filter((row) => row.source !== "measured");
  const points = [...published, ...measured].map((row) => point(frame, row));
  const walked = [...points].sort((a, b) => a.row.clean - b.row.clean || a.row.robust - b.row.robust);
  walked[0].setAttribute("tabindex", 0);
  const iso = isoLines(frame, pi);
  const label = `Scatter of ${measured.length} measured and ${published.length} published rows`;
  const svg = shape(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label },
    ...axes(frame),
    ...iso,
    ...frontLine(frame, published, "published"),
    ...frontLine(frame, measured, "measured"),
    ...points,
    ...pointNames(
      frame,
      measured,
      iso.filter((each) => each.localName === "text"),
    ),
  );
  svg.addEventListener("keydown", (event) => walk(walked, event));
  for (const kind of ["focusin", "pointerover"]) {
    svg.addEventListener(kind, (event) => {
      const link = event.target.closest("a");
      if (link) read(describe(link.row));
    });
  }
  host.replaceChildren(svg);
}
