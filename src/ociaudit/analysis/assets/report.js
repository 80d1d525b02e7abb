/* The page: puts the data into pictures and tables, and ties them to the search. */

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const SIGN_IN = 1;
  const CHANGE = 2;

  /* Light and dark: what the system says, until somebody chooses. */
  const system = matchMedia("(prefers-color-scheme: dark)");
  const themeButton = find("theme");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; };
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
    redrawCharts();
  });
  system.addEventListener("change", () => { nameTheme(); redrawCharts(); });
  nameTheme();

  /* Events: the table, and what narrows it. */
  const EVENT = { time: 0, name: 1, outcome: 2, principal: 3, address: 4, compartment: 5, kinds: 6, raw: 7 };
  const wanted = { words: [], outcome: "", kind: 0, range: null };
  const searchField = make("input");
  searchField.type = "search";
  searchField.placeholder = "Search in everything an event says";
  searchField.setAttribute("aria-label", "Search the events");
  const haystacks = new Map();
  const haystackOf = (row) => {
    if (!haystacks.has(row)) haystacks.set(row, row.join(" ").toLowerCase());
    return haystacks.get(row);
  };
  const isWanted = (row) =>
    (!wanted.outcome || OUTCOMES[row[EVENT.outcome]] === wanted.outcome) &&
    (!wanted.kind || row[EVENT.kinds] & wanted.kind) &&
    (!wanted.range || (row[EVENT.time] !== null && row[EVENT.time] >= wanted.range[0] && row[EVENT.time] < wanted.range[1])) &&
    wanted.words.every((word) => haystackOf(row).includes(word));

  function makeSelect(label, choices, onChoice) {
    const select = make("select");
    select.setAttribute("aria-label", label);
    for (const [value, text] of choices) {
      const option = make("option", "", text);
      option.value = value;
      select.append(option);
    }
    select.addEventListener("change", () => onChoice(select.value));
    return select;
  }

  let table = null;
  const narrow = () => table.filter(isWanted);
  const rangeButton = makeButton("", "", () => timeline.zoom(null));
  rangeButton.hidden = true;
  const controls = make("div", "controls", null,
    searchField,
    makeSelect("Outcome", [["", "Any outcome"], ...OUTCOMES.map((name) => [name, name])], (value) => { wanted.outcome = value; narrow(); }),
    makeSelect("Kind", [["0", "Any kind"], [SIGN_IN, "Sign-ins"], [CHANGE, "Changes to IAM"]], (value) => { wanted.kind = Number(value); narrow(); }),
    rangeButton,
  );
  const search = (text, isJump = false) => {
    searchField.value = text;
    wanted.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    narrow();
    if (isJump) {
      find("events").scrollIntoView();
      searchField.focus({ preventScroll: true });
    }
  };
  const pick = (text) => search(text, true);
  searchField.addEventListener("input", () => search(searchField.value));
  find("event-table").append(controls);
  find("events-lead").textContent = data.is_sampled
    ? `A sample of ${plural(data.sample.length, "event", "events")} out of ${showNumber(data.events)}: changes to IAM, failed sign-ins, failures and rare types first, then others by chance. The search below sees the sample only; the file has them all.`
    : `All ${plural(data.events, "event", "events")}. Open one to see its JSON as it was served.`;
  table = new SortedTable(find("event-table"), {
    label: "Events",
    pageSize: 25,
    sortBy: 0,
    rows: data.sample,
    columns: [
      { title: "Time", className: "time", width: "14.5em", value: (row) => row[EVENT.time] ?? -Infinity, show: (cell, row) => put(cell, showTime(row[EVENT.time])) },
      { title: "Event", value: (row) => row[EVENT.name].toLowerCase(), show: (cell, row) => put(cell, shortenType(row[EVENT.name])) },
      { title: "Outcome", width: "7em", value: (row) => row[EVENT.outcome], show: (cell, row) => putTag(cell, row[EVENT.outcome]) },
      { title: "Principal", value: (row) => row[EVENT.principal].toLowerCase(), show: (cell, row) => put(cell, row[EVENT.principal]) },
      { title: "Address", width: "11.5em", value: (row) => row[EVENT.address], show: (cell, row) => put(cell, row[EVENT.address]) },
      { title: "Compartment", width: "11em", value: (row) => row[EVENT.compartment].toLowerCase(), show: (cell, row) => put(cell, shortenId(row[EVENT.compartment])) },
    ],
    flag: (row) => row[EVENT.outcome] === 1 && row[EVENT.kinds] > 0,
    open: (row) => {
      const pre = make("pre");
      if (row[EVENT.raw]) layOutJson(pre, row[EVENT.raw]);
      else pre.append("This event is too long to be shown here; the file has it.");
      return pre;
    },
  });

  /* Worth a look. */
  const marks = [];
  data.findings.forEach(([severity, principal, address, reasons, first, last, events, steps], index) => {
    const mark = String(index + 1);
    const who = [principal, address].filter(Boolean);
    const title = make("span", "", null, make("bdi", "", who[0] || "(unknown)"), ...(who[1] ? [" from ", make("bdi", "", who[1])] : []));
    const heading = make("h3", "", null, make("span", "mark", mark), title);
    const head = make("div", "finding-head", null, heading);
    if (who.length) head.append(makeButton("link", "Show its events", () => pick(who.join(" "))));
    const list = make("ol", "steps");
    for (const [time, text, tone] of steps) {
      const [, what, rest] = /^(.*?)((?:: |; | by | with | within ).*)?$/s.exec(text);
      list.append(make("li", tone, null, make("time", "", showTime(time, 16)), make("bdi", "", null, make("b", "", what), make("span", "", rest || ""))));
    }
    const why = make("p", "why", `${reasons} · ${plural(events, "event", "events")}, ${showSpan(first, last)}`);
    find("findings").querySelector(".findings").append(make("li", severity, null, head, why, list));
    if (severity === "high" && first !== null) {
      const times = steps.map(([time]) => time).filter((time) => time !== null);
      const isShort = last - first < 3 * 86400000;
      marks.push({ first: Math.min(first, ...times), last: Math.max(isShort ? last : first, ...times), label: mark, color: "bad" });
    }
  });
  if (data.findings_left_out) find("findings").append(make("p", "notes", `And ${showNumber(data.findings_left_out)} more, of less weight: oci-audit summary --json lists them.`));
  find("findings").hidden = data.findings.length === 0;

  /* Time. */
  const timeline = drawBars(find("timeline"), {
    series: data.timeline, title: "Events over time", height: 170, marks,
    panels: [
      { names: ["unknown", "success", "failure"], label: "All events" },
      { names: ["failure"], label: "Failures alone, on a scale of their own", panelHeight: 80 },
    ],
    onZoom: (range) => {
      wanted.range = range;
      rangeButton.hidden = !range;
      if (range) rangeButton.textContent = `${showSpan(range[0], range[1])} ×`;
      narrow();
    },
  });
  if (data.timeline.outside) {
    find("timeline-lead").textContent = `${plural(data.timeline.outside, "event", "events")} lie outside the range that is shown: it is a range of processed time, and an event's own time may differ.`;
  }
  const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
  const signIns = data.sign_ins;
  const counted = OUTCOMES.map((name) => sum(signIns[name]));
  if (sum(counted)) {
    find("sign-ins-lead").textContent = `${showNumber(counted[0])} succeeded, ${showNumber(counted[1])} failed${counted[2] ? `, ${showNumber(counted[2])} do not say` : ""}.`;
    drawBars(find("sign-ins"), { series: signIns, title: "Sign-ins over time", height: 120, marks, panels: [{ names: ["unknown", "success", "failure"] }] });
  } else {
    find("sign-ins-lead").textContent = "None in this file.";
  }

  /* Coverage. */
  if (data.coverage) {
    const { targets, targets_with_gaps: withGaps, rows_left_out: leftOut } = data.coverage;
    find("coverage-lead").textContent = `${showNumber(targets - withGaps)} of ${plural(targets, "target", "targets")} (region × compartment) answered for the whole range${withGaps ? `; ${plural(withGaps, "one has", "have")} gaps, and come first` : ""}.${leftOut ? ` ${plural(leftOut, "target", "targets")} without worse news are left out of the picture.` : ""}`;
    drawCoverage(find("coverage"), data.coverage);
  }

  /* Changes to IAM. */
  const CHANGES = { time: 0, name: 1, outcome: 2, principal: 3, address: 4, target: 5, id: 6 };
  const left = data.all_changes - data.changes.length;
  const changesLead = () => data.all_changes
    ? `Users, groups, policies, credentials and second factors.${first}${left ? ` The latest ${showNumber(data.changes.length)} of ${showNumber(data.all_changes)}.` : ""}`
    : "None in this file.";
  const suspects = new Set(data.findings.filter(([severity]) => severity === "high").map(([, , address]) => address));
  const isSuspect = (address) => address.split(/\s*,\s*/).some((each) => suspects.has(each));
  const flaggedFirst = (rows, isFlagged) => [...rows.filter(isFlagged), ...rows.filter((row) => !isFlagged(row))];
  const first = suspects.size ? " Those of what is worth a look stand first." : "";
  find("changes-lead").textContent = changesLead();
  if (data.changes.length) {
    new SortedTable(find("changes"), {
      label: "Changes to IAM",
      pageSize: 15,
      rows: flaggedFirst(data.changes, (row) => isSuspect(row[CHANGES.address])),
      columns: [
        { title: "Time", className: "time", width: "13.5em", value: (row) => row[CHANGES.time] ?? -Infinity, show: (cell, row) => put(cell, showTime(row[CHANGES.time])) },
        { title: "What", value: (row) => row[CHANGES.name].toLowerCase(), show: (cell, row) => cell.append(makeButton("link", shortenType(row[CHANGES.name]), () => pick(row[CHANGES.id]))) },
        { title: "Outcome", width: "7em", value: (row) => row[CHANGES.outcome], show: (cell, row) => putTag(cell, row[CHANGES.outcome]) },
        { title: "Who", value: (row) => row[CHANGES.principal].toLowerCase(), show: (cell, row) => put(cell, row[CHANGES.principal]) },
        { title: "From", width: "11.5em", value: (row) => row[CHANGES.address], show: (cell, row) => put(cell, row[CHANGES.address]) },
        { title: "On", value: (row) => row[CHANGES.target], show: (cell, row) => { put(cell, shortenId(row[CHANGES.target])); cell.title = showHidden(row[CHANGES.target]); } },
      ],
      flag: (row) => isSuspect(row[CHANGES.address]),
    });
  }

  /* The most frequent. */
  listRanking(find("types"), data.types, { shorten: shortenType, onPick: pick });
  listRanking(find("principals"), data.principals, { onPick: pick });
  listRanking(find("top-addresses"), data.top_addresses, { onPick: pick });

  /* Source addresses. */
  const ADDRESS = { address: 0, first: 1, last: 2, events: 3, failures: 4, failedSignIns: 5, changes: 6, principals: 7 };
  const more = data.top_addresses.distinct - data.addresses.length;
  find("addresses-lead").textContent = data.addresses.length
    ? `When each address was first and last seen in this file, the newest first.${first}${more ? ` ${showNumber(data.addresses.length)} of ${showNumber(data.top_addresses.distinct)}: those with failed sign-ins or changes to IAM, then the newest.` : ""}`
    : "None in this file.";
  const length = Math.max(1, (data.end - data.start) * 1000);
  const clamp = (share) => Math.max(0, Math.min(1, share));
  const drawSpan = (cell, row) => {
    const bar = make("i");
    if (row[ADDRESS.first] !== null) {
      const from = clamp((row[ADDRESS.first] - data.start * 1000) / length);
      const to = clamp((row[ADDRESS.last] - data.start * 1000) / length);
      bar.style.left = `min(${from * 100}%, 100% - 4px)`;
      bar.style.width = `${(to - from) * 100}%`;
    }
    const track = make("div", "span-track", null, bar);
    track.setAttribute("role", "img");
    track.setAttribute("aria-label", showSpan(row[ADDRESS.first], row[ADDRESS.last]));
    cell.append(track);
  };
  const countColumn = (title, key, isBad) => ({
    title, isNumber: true, width: "6.5em", value: (row) => row[key],
    show: (cell, row) => { cell.textContent = row[key] ? showNumber(row[key]) : "–"; if (isBad && row[key]) cell.className = "bad-text"; },
  });
  if (data.addresses.length) {
    new SortedTable(find("addresses"), {
      label: "Source addresses",
      pageSize: 15,
      rows: flaggedFirst([...data.addresses].reverse(), (row) => suspects.has(row[ADDRESS.address])),
      columns: [
        { title: "Address", width: "11.5em", value: (row) => row[ADDRESS.address], show: (cell, row) => cell.append(makeButton("link", row[ADDRESS.address], () => pick(row[ADDRESS.address]))) },
        { title: "First seen", className: "time", width: "11.5em", value: (row) => row[ADDRESS.first] ?? -Infinity, show: (cell, row) => put(cell, showTime(row[ADDRESS.first], 16)) },
        { title: "Seen", value: (row) => (row[ADDRESS.last] ?? 0) - (row[ADDRESS.first] ?? 0), show: drawSpan },
        countColumn("Events", ADDRESS.events),
        countColumn("Failures", ADDRESS.failures),
        countColumn("Failed sign-ins", ADDRESS.failedSignIns, true),
        countColumn("IAM changes", ADDRESS.changes),
        { title: "Who", value: (row) => row[ADDRESS.principals].join().toLowerCase(), show: (cell, row) => put(cell, row[ADDRESS.principals].join(", ")) },
      ],
      flag: (row) => suspects.has(row[ADDRESS.address]),
    });
  }

  /* The pictures follow the window and the paper. */
  let waiting = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redrawCharts);
  });
  matchMedia("print").addEventListener("change", redrawCharts);
  window.addEventListener("beforeprint", redrawCharts);
  window.addEventListener("afterprint", redrawCharts);
  document.documentElement.dataset.ready = "true";
})();
