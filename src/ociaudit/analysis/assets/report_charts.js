/* The charts, drawn by uPlot: bars over time and the coverage map. All share one style and one kind of time axis. */

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';
const DAY = 86400;
const DATE_FORMATS = [
  [365 * DAY, "{YYYY}", null, null, null, null, null, null, 1],
  [28 * DAY, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [DAY, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [3600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
];
const DAYS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 30, 60, 90, 180, 365, 730, 1825, 3650, 9125, 18250, 36500];
const TIME_STEPS = [60, 300, 600, 900, 1800, ...[1, 2, 3, 4, 6, 8, 12].map((hours) => hours * 3600), ...DAYS.map((days) => days * DAY)];
const LEFT_GUTTER = 54;
const charts = [];

const readColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const toUtc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
const widthOf = (element) => Math.max(240, Math.floor(element.clientWidth));

/** Redraw all charts in the current colors and at the current width. */
function redrawCharts() {
  for (const chart of charts) chart.draw();
}

function makeTimeAxis(isShown) {
  return {
    show: true, stroke: () => readColor("soft"), font: FONT, size: isShown ? 40 : 0, space: 64, incrs: TIME_STEPS,
    values: isShown ? DATE_FORMATS : () => [],
    grid: { show: false }, ticks: { show: isShown, stroke: () => readColor("line"), size: 4, width: 1 },
  };
}

function makeCountAxis() {
  return {
    stroke: () => readColor("soft"), font: FONT, size: LEFT_GUTTER, space: 32, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6],
    values: (_, splits) => splits.map((value) => (value >= 1e4 ? `${showNumber(value / 1000)}k` : showNumber(value))),
    grid: { stroke: () => readColor("line"), width: 1 }, ticks: { show: false },
  };
}

/** Keep a chart's cursor on whole bins, for pointer and arrow keys, and call `onBin` with the current bin. */
function followCursor(panel, getChart, binOf, timeOf, count, onBin) {
  panel.tabIndex = 0;
  let current = null;
  panel.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Home") current = 0;
    else if (event.key === "End") current = count - 1;
    else if (step) current = Math.max(0, Math.min(count - 1, (current ?? (step > 0 ? -1 : count)) + step));
    else return;
    event.preventDefault();
    const chart = getChart();
    chart.setCursor({ left: chart.valToPos(timeOf(current + 0.5), "x"), top: 10 }, false);
    onBin(current);
  });
  return (chart) => {
    if (chart.cursor.left < 0) return onBin(null);
    current = Math.max(0, Math.min(count - 1, binOf(chart.posToVal(chart.cursor.left, "x"))));
    return onBin(current);
  };
}

/**
 * Draw bars over time, stacked by outcome, in one panel or several, each with its own scale.
 * `marks` are spans drawn behind the bars: {first, last, label, color}, in milliseconds.
 */
function drawBars(container, { series, title, height, marks = [], panels, onZoom }) {
  const count = series.success.length;
  const timeOf = (bin) => series.start + bin * series.step;
  const binOf = (seconds) => Math.floor((seconds - series.start) / series.step);
  const times = Array.from({ length: count }, (_, bin) => timeOf(bin));
  const readout = make("p", "readout");
  readout.setAttribute("aria-live", "polite");
  const status = make("span");
  const reset = makeButton("quiet", "Show the whole range", () => zoom(null));
  reset.hidden = true;
  readout.append(status, reset);
  container.append(readout);

  const showBin = (bin) => {
    if (bin === null) {
      status.textContent = `Each bar covers ${showDuration(series.step)}. Drag across the chart to zoom in.`;
      return;
    }
    const numbers = OUTCOMES.map((name) => `${showNumber(series[name][bin])} ${name}`).join(" · ");
    fillWhole(status, `${showSpan(timeOf(bin) * 1000, timeOf(bin + 1) * 1000)}   ${numbers}`);
  };
  showBin(null);

  const stackOf = (names) => {
    const rows = names.map((name) => series[name]);
    return rows.map((_, from) => times.map((__, bin) => rows.slice(from).reduce((sum, row) => sum + row[bin], 0)));
  };
  const views = panels.map(({ names, label, panelHeight }, index) => {
    if (label) container.append(make("p", "panel-title", label));
    const panel = make("div", "panel");
    panel.setAttribute("role", "application");
    panel.setAttribute("aria-label", `${title}${label ? `, ${label}` : ""}. Arrow keys move from bar to bar.`);
    container.append(panel);
    return { names, panel, panelHeight: panelHeight || height, isLast: index === panels.length - 1, chart: null };
  });

  const drawMarks = (chart) => {
    const { ctx, bbox } = chart;
    ctx.save();
    for (const mark of marks) {
      const from = chart.valToPos(mark.first / 1000, "x", true);
      const to = chart.valToPos(mark.last / 1000, "x", true);
      const ratio = uPlot.pxRatio;
      const width = Math.max(to - from, 3 * ratio);
      if (to < bbox.left || from > bbox.left + bbox.width) continue;
      ctx.fillStyle = readColor(mark.color);
      ctx.globalAlpha = 0.16;
      ctx.fillRect(from - 3 * ratio, bbox.top, width + 6 * ratio, bbox.height);
      ctx.globalAlpha = 1;
      ctx.beginPath();
      ctx.arc(from + width / 2, bbox.top - 11 * ratio, 9 * ratio, 0, 2 * Math.PI);
      ctx.fill();
      ctx.fillStyle = readColor("card");
      ctx.font = `700 ${12 * ratio}px sans-serif`;
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.fillText(mark.label, from + width / 2, bbox.top - 10.5 * ratio);
    }
    ctx.restore();
  };

  const plot = (view, range) => {
    view.chart?.destroy();
    const onCursor = followCursor(view.panel, () => view.chart, binOf, timeOf, count, showBin);
    const options = {
      width: widthOf(container), height: view.panelHeight + (view.isLast ? 40 : 8) + (marks.length ? 14 : 0), legend: { show: false },
      padding: [marks.length ? 22 : 8, 20, view.isLast ? 0 : 8, 0], tzDate: toUtc,
      scales: {
        x: { time: true, range: () => range || [timeOf(0), timeOf(count)] },
        y: { range: (_, __, most) => [0, Math.max(4, Math.ceil((most || 0) * 1.08))] },
      },
      axes: [makeTimeAxis(view.isLast), makeCountAxis()],
      series: [{}, ...view.names.map((name) => ({
        stroke: () => readColor(COLORS[name]), fill: () => readColor(COLORS[name]), width: 0, points: { show: false },
        paths: uPlot.paths.bars({ size: [0.86, 60], align: 1 }),
      }))],
      cursor: {
        y: false, points: { show: false }, drag: { x: true, y: false, setScale: false },
        sync: { key: "time", setSeries: false, scales: ["x", null] },
      },
      hooks: {
        drawClear: [drawMarks],
        setCursor: [onCursor],
        setSelect: [(chart) => {
          const { left, width } = chart.select;
          if (width < 4) return;
          const from = binOf(chart.posToVal(left, "x"));
          const to = Math.ceil((chart.posToVal(left + width, "x") - series.start) / series.step);
          zoom([timeOf(Math.max(0, from)), timeOf(Math.min(count, to))]);
        }],
      },
    };
    view.chart = new uPlot(options, [times, ...stackOf(view.names)], view.panel);
  };
  let shown = null;
  const draw = () => views.forEach((view) => plot(view, shown));
  const zoom = (range) => {
    shown = range;
    reset.hidden = range === null;
    draw();
    if (onZoom) onZoom(range && [range[0] * 1000, range[1] * 1000]);
  };
  charts.push({ draw });
  draw();
  container.append(drawLegend(OUTCOMES.filter((name) => series[name].some(Boolean)).map((name) => [name, name])));
  return { zoom };
}

const COLORS = { success: "good", failure: "bad", unknown: "other" };

function drawLegend(entries) {
  const legend = make("p", "legend");
  for (const [kind, text] of entries) legend.append(make("span", "", null, make("i", `swatch ${kind}`), text));
  return legend;
}

const STATES = {
  c: ["covered", "complete"], p: ["provisional", "provisional: requested too soon to be final"],
  w: ["waived", "denied, waived"], n: ["unrequested", "not requested"],
  d: ["bad", "GAP: denied"], x: ["bad", "GAP: failed"],
};
const GAP_STATES = "ndx";
const ROW_HEIGHT = 18;
const LABEL_HEIGHT = 19; // of a label above its row, where the page is too narrow for labels beside the rows
const NARROW_WIDTH = 560;
const ROWS_PER_PAGE = 24;

/** Parse a pattern such as `c6x1` into [[state, first bin, number of bins], …]. */
function readRuns(pattern) {
  let first = 0;
  return [...pattern.matchAll(/([a-z])(\d+)/g)].map(([, state, length]) => {
    const run = [state, first, Number(length)];
    first += Number(length);
    return run;
  });
}

const hasGap = (pattern) => /[ndx]/.test(pattern);

/** Describe the map in words; a target counts once, by its worst state, as in the verdict. */
function describeCoverage({ targets, targets_with_gaps: withGaps, targets_waived: waived, targets_provisional: provisional, rows_left_out: leftOut }) {
  const whole = targets - withGaps - waived;
  const inPart = provisional && whole ? `, ${provisional >= whole ? (whole === 1 ? "" : "all of them ") : `${showNumber(provisional)} of them `}provisional in part` : "";
  const answered = `${showNumber(whole)} of ${plural(targets, "target", "targets")} (region × compartment) answered for the whole range${inPart}`;
  const others = [
    withGaps ? plural(withGaps, "target has gaps and comes first", "targets have gaps and come first") : "",
    waived ? plural(waived, "target is denied and waived", "targets are denied and waived") : "",
  ].filter(Boolean);
  const cut = leftOut ? ` ${plural(leftOut, "target is", "targets are")} not shown; none of them is in a worse state than those shown.` : "";
  return `${[answered, ...others].join("; ")}.${cut}`;
}

/** Draw the coverage map: a row for each target, a column for each bin; rows with gaps come first. */
function drawCoverage(container, map) {
  const timeOf = (bin) => map.start + bin * map.step;
  const inRange = (time) => Math.max(map.range_start, Math.min(map.range_end, time));
  const nameOf = ([id, name]) => name || `…${id.slice(-10)}`;
  const targets = map.rows.map(([region, compartment, pattern]) => ({
    region: map.regions[region], compartment: map.compartments[compartment], pattern: map.patterns[pattern],
  }));
  for (const target of targets) {
    target.name = nameOf(target.compartment);
    target.label = `${target.name} · ${target.region}`;
  }
  const controls = make("div", "controls");
  const search = make("input");
  search.type = "search";
  search.placeholder = "Find a compartment or region";
  search.setAttribute("aria-label", "Find a compartment or region in the coverage");
  const previous = makeButton("", "Previous", () => turn(-1));
  const next = makeButton("", "Next", () => turn(1));
  const position = make("span");
  const pager = make("div", "pager", null, position, previous, next);
  const readout = make("p", "readout");
  readout.setAttribute("aria-live", "polite");
  const panel = make("div", "panel");
  panel.setAttribute("role", "application");
  panel.setAttribute("aria-roledescription", "chart");
  panel.setAttribute("aria-label", "Coverage by target and time. Arrow keys move from column to column and from target to target.");
  panel.tabIndex = 0;
  controls.append(search);
  if (targets.length > ROWS_PER_PAGE) container.append(controls);
  const used = new Set(map.patterns.flatMap((pattern) => readRuns(pattern).map(([state]) => state)));
  container.append(drawLegend(Object.keys(STATES).filter((key) => used.has(key)).map((key) => [key, STATES[key][1]])));
  container.append(readout, panel, pager);

  let found = targets;
  let page = 0;
  let chart = null;
  let cell = null;
  const shownRows = () => found.slice(page * ROWS_PER_PAGE, (page + 1) * ROWS_PER_PAGE);
  const showCell = () => {
    const rows = shownRows();
    if (!cell || !rows[cell.row]) {
      readout.textContent = `Each column covers ${showDuration(map.step)} and shows the worst state in it.`;
      return;
    }
    const target = rows[cell.row];
    const run = readRuns(target.pattern).find(([, first, bins]) => cell.bin >= first && cell.bin < first + bins);
    const [from, until] = [inRange(timeOf(cell.bin)), inRange(timeOf(cell.bin + 1))];
    const isWhole = until - from === map.step && map.step % DAY === 0;
    const when = isWhole && map.step === DAY ? showTime(from * 1000, 10) : showSpan(from * 1000, until * 1000, isWhole ? 10 : 16);
    readout.replaceChildren(makeWhole("span", "", `${when}   ${target.label}   ${STATES[run[0]][1]}`));
  };

  const drawCells = (u) => {
    const { ctx } = u;
    const ratio = uPlot.pxRatio;
    ctx.save();
    const isNarrow = widthOf(container) < NARROW_WIDTH;
    shownRows().forEach((target, row) => {
      const above = u.valToPos(-row, "y", true);
      const top = above + ratio + (isNarrow ? LABEL_HEIGHT * ratio : 0);
      if (isNarrow) {
        ctx.fillStyle = readColor("ink");
        ctx.font = FONT.replace("12px", `${12 * ratio}px`);
        ctx.textAlign = "left";
        ctx.textBaseline = "alphabetic";
        ctx.fillText(fitLabel(target, u.bbox.width / ratio), u.bbox.left, above + 15 * ratio);
      }
      const height = u.valToPos(-row - 1, "y", true) - top - ratio;
      for (const [state, first, bins] of readRuns(target.pattern)) drawRun(u, ctx, ratio, state, first, bins, top, height);
    });
    ctx.restore();
  };
  const drawRun = (u, ctx, ratio, state, first, bins, top, height) => {
    const left = u.valToPos(inRange(timeOf(first)), "x", true);
    const right = u.valToPos(inRange(timeOf(first + bins)), "x", true);
    const isGap = GAP_STATES.includes(state);
    const width = Math.max(right - left, isGap ? 4 * ratio : 0);
    ctx.fillStyle = readColor(STATES[state][0]);
    ctx.fillRect(left, top, width, height);
    if (isGap) hatch(ctx, ratio, state, left, top, width, height);
    const each = u.valToPos(timeOf(1), "x", true) - u.valToPos(timeOf(0), "x", true);
    if (each >= 6 * ratio) {
      ctx.fillStyle = readColor("paper");
      for (let bin = first + 1; bin <= first + bins; bin += 1) ctx.fillRect(u.valToPos(inRange(timeOf(bin)), "x", true) - ratio, top, ratio, height);
    }
    if (isGap && state !== "n" && width > 90 * ratio) {
      const text = state === "d" ? "GAP · denied" : "GAP · failed";
      ctx.font = `700 ${10.5 * ratio}px sans-serif`;
      const middle = left + width / 2;
      const room = ctx.measureText(text).width + 12 * ratio;
      ctx.fillStyle = readColor("bad");
      ctx.fillRect(middle - room / 2, top, room, height);
      ctx.fillStyle = readColor("card");
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.fillText(text, middle, top + height / 2);
    }
  };
  const hatch = (ctx, ratio, state, left, top, width, height) => {
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.strokeStyle = readColor(state === "n" ? "bad" : "card");
    ctx.lineWidth = ratio;
    ctx.beginPath();
    for (let x = left - height; state !== "x" && x < left + width; x += 7 * ratio) {
      ctx.moveTo(x, top + height);
      ctx.lineTo(x + height, top);
    }
    ctx.stroke();
    if (state === "n") ctx.strokeRect(left, top, width, height);
    ctx.restore();
  };

  const fitLabel = (() => {
    const context = document.createElement("canvas").getContext("2d");
    context.font = FONT;
    return ({ name, region, pattern }, room) => {
      const mark = hasGap(pattern) ? "⚠ " : "";
      const shown = showHidden(name);
      let end = shown.length;
      const cut = () => (shown.includes("/") ? `…${shown.slice(-end)}` : `${shown.slice(0, end)}…`); // a path says most at its end
      const write = () => `${mark}${end < shown.length ? cut() : shown} · ${showHidden(region)}`;
      while (end > 2 && context.measureText(write()).width > room) end -= 1;
      return write();
    };
  })();

  const draw = () => {
    chart?.destroy();
    const rows = shownRows();
    const width = widthOf(container);
    const isNarrow = width < NARROW_WIDTH;
    const gutter = isNarrow ? 0 : Math.min(330, Math.floor(width * 0.4));
    const height = Math.max(1, rows.length) * (ROW_HEIGHT + (isNarrow ? LABEL_HEIGHT : 0));
    chart = new uPlot({
      width, height: height + 40, legend: { show: false }, padding: [0, 20, 0, isNarrow ? 20 : 0], tzDate: toUtc,
      scales: {
        x: { time: true, range: () => [timeOf(0), timeOf(map.bins)] },
        y: { range: () => [-Math.max(1, rows.length), 0] },
      },
      axes: [makeTimeAxis(true), {
        show: !isNarrow, stroke: () => readColor("ink"), font: FONT, size: gutter, gap: 8, grid: { show: false }, ticks: { show: false },
        splits: () => rows.map((_, row) => -row - 0.5),
        values: () => rows.map((target) => fitLabel(target, gutter - 12)),
      }],
      series: [{}, { points: { show: false }, paths: () => null }],
      cursor: { points: { show: false }, y: false, drag: { x: false, y: false } },
      hooks: {
        draw: [drawCells],
        setCursor: [(u) => {
          if (u.cursor.left < 0) return;
          cell = {
            bin: Math.max(0, Math.min(map.bins - 1, Math.floor((u.posToVal(u.cursor.left, "x") - map.start) / map.step))),
            row: Math.max(0, Math.min(rows.length - 1, Math.floor(-u.posToVal(u.cursor.top, "y")))),
          };
          showCell();
        }],
      },
    }, [[timeOf(0), timeOf(map.bins)], [0, 0]], panel);
    const first = page * ROWS_PER_PAGE;
    position.textContent = `Targets ${showNumber(rows.length ? first + 1 : 0)} to ${showNumber(first + rows.length)} of ${showNumber(found.length)}`;
    previous.disabled = page === 0;
    next.disabled = first + rows.length >= found.length;
    pager.hidden = targets.length <= ROWS_PER_PAGE;
    showCell();
  };
  const turn = (by) => {
    page += by;
    cell = null;
    draw();
  };
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = targets.filter(({ label, compartment }) => words.every((word) => `${label} ${compartment[0]}`.toLowerCase().includes(word)));
    page = 0;
    cell = null;
    draw();
  });
  panel.addEventListener("keydown", (event) => {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [];
    if (x === undefined) return;
    event.preventDefault();
    const rows = shownRows().length;
    cell = cell
      ? { bin: Math.max(0, Math.min(map.bins - 1, cell.bin + x)), row: Math.max(0, Math.min(rows - 1, cell.row + y)) }
      : { bin: 0, row: 0 };
    chart.setCursor({ left: chart.valToPos(timeOf(cell.bin + 0.5), "x"), top: chart.valToPos(-cell.row - 0.5, "y") }, false);
    showCell();
  });
  charts.push({ draw });
  draw();
}
