/* The page: shows the data in charts and tables, and connects them with the search. */

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const SIGN_IN = 1;
  const CHANGE = 2;
  const noneHere = `None in this ${data.noun}.`;

  /* Light and dark: as in the system settings until the user chooses. */
  const system = matchMedia("(prefers-color-scheme: dark)");
  const themeButton = find("theme");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const labelThemeButton = () => {
    themeButton.textContent = isDark() ? "Light" : "Dark";
    themeButton.setAttribute("aria-label", isDark() ? "Light colors" : "Dark colors");
  };
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    labelThemeButton();
    redrawCharts();
  });
  system.addEventListener("change", () => { labelThemeButton(); redrawCharts(); });
  labelThemeButton();

  /* The table of events and its filters. */
  const EVENT = { time: 0, name: 1, outcome: 2, principal: 3, address: 4, compartment: 5, kinds: 6, raw: 7, region: 8 };
  const wanted = { words: [], outcome: "", kind: 0, range: null, rows: null };
  const searchField = make("input");
  searchField.type = "search";
  searchField.placeholder = "Search all fields of the events";
  searchField.setAttribute("aria-label", "Search the events");
  const haystacks = new Map();
  const haystackOf = (row) => {
    if (!haystacks.has(row)) haystacks.set(row, row.join(" ").toLowerCase());
    return haystacks.get(row);
  };
  const isWanted = (row) =>
    (!wanted.rows || wanted.rows.has(row)) &&
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
  const rowsButton = makeButton("", "", () => { chooseRows(null); narrow(); searchField.focus(); });
  rowsButton.hidden = true;
  const chooseRows = (rows, text = "") => {
    wanted.rows = rows && new Set(rows);
    rowsButton.hidden = !rows;
    rowsButton.textContent = rows ? `${text} ×` : "";
    rowsButton.setAttribute("aria-label", `${text}. Show all events again`);
  };
  const outcomeSelect = makeSelect("Outcome", [["", "Any outcome"], ...OUTCOMES.map((name) => [name, name])], (value) => { wanted.outcome = value; narrow(); });
  const kindSelect = makeSelect("Kind", [["0", "Any kind"], [SIGN_IN, "Sign-ins"], [CHANGE, "Changes to IAM"]], (value) => { wanted.kind = Number(value); narrow(); });
  const controls = make("div", "controls", null, searchField, outcomeSelect, kindSelect, rangeButton, rowsButton);
  const search = (text) => {
    searchField.value = text;
    wanted.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    narrow();
  };
  const jump = (element) => {
    find("events").scrollIntoView();
    element.focus({ preventScroll: true });
  };
  const pick = (text) => {
    chooseRows(null);
    search(text);
    jump(searchField);
  };
  /* Show exactly these rows of the sample, given by index: no text in an event decides, and no other filter stays. */
  const pickRows = (indices, text) => {
    chooseRows(indices.map((index) => data.sample[index]), text);
    Object.assign(wanted, { outcome: "", kind: 0 });
    outcomeSelect.value = "";
    kindSelect.value = "0";
    if (wanted.range) timeline.zoom(null);
    search("");
    jump(rowsButton);
  };
  searchField.addEventListener("input", () => search(searchField.value));
  find("event-table").append(controls);
  find("event-table").hidden = !data.events;
  find("events-lead").textContent = data.is_sampled
    ? `A sample of ${plural(data.sample.length, "event", "events")} out of ${showNumber(data.events)}. Events of the findings were chosen first, then changes to IAM, failed sign-ins, failures and rare types; the others were selected at random. The search covers only the sample; the ${data.noun} contains all events.`
    : data.events ? `All ${plural(data.events, "event", "events")}. Open one to see its JSON as served.` : noneHere;
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
      ...(data.sample.some((row) => row[EVENT.region]) ? [{ title: "Region", width: "9.5em", value: (row) => row[EVENT.region], show: (cell, row) => put(cell, row[EVENT.region]) }] : []),
    ],
    flag: (row) => row[EVENT.outcome] === 1 && row[EVENT.kinds] > 0,
    open: (row) => {
      const pre = make("pre");
      if (row[EVENT.raw]) showJson(pre, row[EVENT.raw]);
      else pre.append(`The JSON of this event is not in this page, which has a limit. The ${data.noun} contains it.`);
      return pre;
    },
  });

  /* Findings. */
  const marks = [];
  data.findings.forEach(([severity, principal, address, reasons, first, last, events, entries, inSample], index) => {
    const mark = String(index + 1);
    const who = [principal, address].filter(Boolean);
    const title = make("span", "", null, make("bdi", "", who[0] || "(unknown)"), ...(who[1] ? [" from ", make("bdi", "", who[1])] : []));
    const heading = make("h3", "", null, make("span", "mark", mark), title);
    const head = make("div", "finding-head", null, heading);
    const isWhole = inSample.length === events;
    const share = `${showNumber(inSample.length)} of ${showNumber(events)}${isWhole ? "" : inSample.length === 1 ? " is in this page" : " are in this page"}`;
    const show = makeButton("link", "Show its events", () => pickRows(inSample, `Finding ${mark}: ${share}`));
    show.setAttribute("aria-label", `Show its events, ${share}`);
    head.append(make("span", "show", null, ...(inSample.length ? [show] : []), make("span", "share", share)));
    const list = make("ol", "steps");
    for (const [time, text, tone] of entries) {
      const [, what, rest] = /^(.*?)((?:: |; | by | with | within ).*)?$/s.exec(text);
      list.append(make("li", tone, null, make("time", "", showTime(time, 16)), make("bdi", "", null, makeWhole("b", "", what), makeWhole("span", "", rest || ""))));
    }
    const why = makeWhole("p", "why", `${reasons} · ${plural(events, "event", "events")}, ${showSpan(first, last)}`);
    find("findings").querySelector(".findings").append(make("li", severity, null, head, why, list));
    if (severity === "high" && first !== null) {
      const times = entries.map(([time]) => time).filter((time) => time !== null);
      const isShort = last - first < 3 * 86400000;
      marks.push({ first: Math.min(first, ...times), last: Math.max(isShort ? last : first, ...times), label: mark, color: "bad" });
    }
  });
  if (data.findings_left_out) find("findings").append(make("p", "notes", `… and ${showNumber(data.findings_left_out)} more; oci-audit summary --json lists all of them.`));
  find("findings").hidden = data.findings.length === 0;

  /* Events and sign-ins over time. */
  const timeline = data.timeline && drawBars(find("timeline"), {
    series: data.timeline, title: "Events over time", height: 170, marks,
    panels: [
      { names: ["unknown", "success", "failure"], label: "All events" },
      { names: ["failure"], label: "Failures only, on a separate scale", panelHeight: 80 },
    ],
    onZoom: (range) => {
      wanted.range = range;
      rangeButton.hidden = !range;
      if (range) rangeButton.textContent = `${showSpan(range[0], range[1])} ×`;
      narrow();
    },
  });
  if (!data.events) find("timeline-lead").textContent = noneHere;
  else if (!data.timeline) find("timeline-lead").textContent = `No event in this ${data.noun} has a readable time.`;
  else if (data.timeline.outside) {
    const reason = data.coverage ? "the range refers to processed time, and the event time can differ" : "their times are far from those of all other events";
    find("timeline-lead").textContent = `${plural(data.timeline.outside, "event is", "events are")} outside the range shown: ${reason}.`;
  }
  const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
  const signIns = data.sign_ins;
  const counted = OUTCOMES.map((name) => (signIns ? sum(signIns[name]) : 0));
  if (sum(counted)) {
    find("sign-ins-lead").textContent = `${showNumber(counted[0])} succeeded, ${showNumber(counted[1])} failed${counted[2] ? `, ${showNumber(counted[2])} have an unknown outcome` : ""}.`;
    drawBars(find("sign-ins"), { series: signIns, title: "Sign-ins over time", height: 120, marks, panels: [{ names: ["unknown", "success", "failure"] }] });
  } else {
    find("sign-ins-lead").textContent = noneHere;
  }

  /* Coverage. */
  const isAltered = Boolean(document.querySelector(".verdict.altered"));
  if (data.coverage) {
    find("coverage-lead").textContent = `${isAltered ? "What the manifest states, which does not match this file: " : ""}${describeCoverage(data.coverage)}`;
    drawCoverage(find("coverage"), data.coverage);
  }

  /* Changes to IAM. */
  const CHANGES = { time: 0, name: 1, outcome: 2, principal: 3, address: 4, resource: 5, event: 6 };
  const suspects = new Set(data.findings.filter(([severity]) => severity === "high").map(([, , address]) => address));
  const isSuspect = (address) => address.split(/\s*,\s*/).some((each) => suspects.has(each));
  const flaggedFirst = (rows, isFlagged) => [...rows.filter(isFlagged), ...rows.filter((row) => !isFlagged(row))];
  const isChangesCut = data.all_changes > data.changes.length;
  find("changes-lead").textContent = data.all_changes
    ? `Changes to users, groups, policies, credentials and MFA devices.${suspects.size ? " Changes from the addresses of findings come first." : ""}${isChangesCut ? ` The table shows the latest ${showNumber(data.changes.length)} of ${showNumber(data.all_changes)} changes.` : ""}`
    : noneHere;
  const showChange = (cell, row) => {
    const name = shortenType(row[CHANGES.name]);
    if (row[CHANGES.event] === null) put(cell, name);
    else cell.append(makeButton("link", name, () => pickRows([row[CHANGES.event]], "This change")));
  };
  if (data.changes.length) {
    new SortedTable(find("changes"), {
      label: "Changes to IAM",
      pageSize: 15,
      rows: flaggedFirst(data.changes, (row) => isSuspect(row[CHANGES.address])),
      columns: [
        { title: "Time", className: "time", width: "13.5em", value: (row) => row[CHANGES.time] ?? -Infinity, show: (cell, row) => put(cell, showTime(row[CHANGES.time])) },
        { title: "Event", value: (row) => row[CHANGES.name].toLowerCase(), show: showChange },
        { title: "Outcome", width: "7em", value: (row) => row[CHANGES.outcome], show: (cell, row) => putTag(cell, row[CHANGES.outcome]) },
        { title: "Principal", value: (row) => row[CHANGES.principal].toLowerCase(), show: (cell, row) => put(cell, row[CHANGES.principal]) },
        { title: "Address", width: "11.5em", value: (row) => row[CHANGES.address], show: (cell, row) => put(cell, row[CHANGES.address]) },
        { title: "Resource", value: (row) => row[CHANGES.resource], show: (cell, row) => { put(cell, shortenId(row[CHANGES.resource])); cell.title = showHidden(row[CHANGES.resource]); } },
      ],
      flag: (row) => isSuspect(row[CHANGES.address]),
    });
  }

  /* Most frequent names. */
  listRanking(find("types"), data.types, { shorten: shortenType, onPick: pick });
  listRanking(find("principals"), data.principals, { onPick: pick });
  listRanking(find("top-addresses"), data.top_addresses, { onPick: pick });

  /* Source addresses. */
  const ADDRESS = { address: 0, first: 1, last: 2, events: 3, failures: 4, failedSignIns: 5, changes: 6, principals: 7 };
  const isAddressesCut = data.top_addresses.distinct > data.addresses.length;
  find("addresses-lead").textContent = data.addresses.length
    ? `When each address was first and last seen in this ${data.noun}, newest first.${suspects.size ? " Addresses of findings come before all others." : ""}${isAddressesCut ? ` The table shows ${showNumber(data.addresses.length)} of ${showNumber(data.top_addresses.distinct)} addresses: those with failed sign-ins or changes to IAM, then the newest.` : ""}`
    : noneHere;
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
        { title: "Active", value: (row) => (row[ADDRESS.last] ?? 0) - (row[ADDRESS.first] ?? 0), show: drawSpan },
        countColumn("Events", ADDRESS.events),
        countColumn("Failures", ADDRESS.failures),
        countColumn("Failed sign-ins", ADDRESS.failedSignIns, true),
        countColumn("IAM changes", ADDRESS.changes),
        { title: "Principals", value: (row) => row[ADDRESS.principals].join().toLowerCase(), show: (cell, row) => put(cell, row[ADDRESS.principals].join(", ")) },
      ],
      flag: (row) => suspects.has(row[ADDRESS.address]),
    });
  }

  /* Redraw the charts when the window is resized or printed. */
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
