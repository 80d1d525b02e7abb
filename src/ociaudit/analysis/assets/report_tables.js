/* Tables that can be sorted, filtered and paged, and lists of the most frequent names. All work with the keyboard. */

/**
 * A table. A column is {title, value(row), show(cell, row), isNumber, width, className}; `value` is its sort key.
 * Rows keep the given order until the user sorts, unless `sortBy` names a column. `open(row)` returns the element
 * that an opened row shows.
 */
class SortedTable {
  constructor(container, { columns, rows, pageSize = 25, sortBy = null, isDescending = false, flag = () => false, open = null, label }) {
    Object.assign(this, { columns, rows, pageSize, sortBy, isDescending, flag, open, page: 0 });
    this.found = rows;
    this.body = make("tbody");
    this.heads = columns.map((column, index) => {
      const head = make("th", column.isNumber ? "number" : "", null, makeButton("", column.title, () => this.sort(index)));
      head.scope = "col";
      setRoles("columnheader", head);
      if (column.width) head.style.width = column.width;
      return head;
    });
    const headRow = make("tr", "", null, ...this.heads);
    const head = make("thead", "", null, headRow);
    const table = make("table", "cards", null, head, this.body);
    setRoles("row", headRow);
    setRoles("rowgroup", head, this.body);
    setRoles("table", table);
    table.setAttribute("aria-label", label);
    this.position = make("span");
    this.position.setAttribute("aria-live", "polite");
    this.previous = makeButton("", "Previous", () => this.turn(-1));
    this.next = makeButton("", "Next", () => this.turn(1));
    this.pager = make("div", "pager", null, this.position, this.previous, this.next);
    container.append(table, this.pager);
    this.body.addEventListener("keydown", (event) => this.moveFocus(event));
    this.arrange();
  }

  sort(index) {
    this.isDescending = index === this.sortBy ? !this.isDescending : Boolean(this.columns[index].isNumber);
    this.sortBy = index;
    this.arrange();
  }

  filter(isWanted) {
    this.found = this.rows.filter(isWanted);
    this.arrange();
  }

  turn(by) {
    this.page += by;
    this.show();
  }

  arrange() {
    if (this.sortBy !== null) {
      const { value } = this.columns[this.sortBy];
      const sign = this.isDescending ? -1 : 1;
      const keyed = this.found.map((row, index) => [value(row), index, row]);
      keyed.sort(([a, i], [b, j]) => sign * (a < b ? -1 : a > b ? 1 : 0) || i - j);
      this.found = keyed.map(([, , row]) => row);
    }
    this.heads.forEach((head, index) => {
      if (index === this.sortBy) head.setAttribute("aria-sort", this.isDescending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.page = 0;
    this.show();
  }

  show() {
    const first = this.page * this.pageSize;
    const rows = this.found.slice(first, first + this.pageSize);
    this.body.replaceChildren(...rows.map((row) => this.makeRow(row)));
    if (!rows.length) {
      const cell = make("td", "", "No matching rows.");
      cell.colSpan = this.columns.length;
      const line = make("tr", "", null, cell);
      setRoles("cell", cell);
      setRoles("row", line);
      this.body.append(line);
    }
    const total = showNumber(this.found.length);
    this.position.textContent = rows.length ? `${showNumber(first + 1)}–${showNumber(first + rows.length)} of ${total}` : `0 of ${showNumber(this.rows.length)}`;
    this.previous.disabled = this.page === 0;
    this.next.disabled = first + rows.length >= this.found.length;
    this.pager.hidden = this.rows.length <= this.pageSize;
  }

  makeRow(row) {
    const line = make("tr", this.flag(row) ? "flagged" : "");
    setRoles("row", line);
    this.columns.forEach((column, index) => {
      const cell = make("td", column.isNumber ? "number" : column.className || "");
      cell.dataset.label = column.title;
      setRoles("cell", cell);
      const inside = make("div");
      cell.append(inside);
      if (index === 0 && this.open) {
        const button = makeButton("open-row", "", () => this.toggle(line, button, row));
        button.setAttribute("aria-expanded", "false");
        inside.append(button);
        column.show(button, row);
      } else {
        column.show(inside, row);
      }
      line.append(cell);
    });
    return line;
  }

  toggle(line, button, row) {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) {
      line.nextElementSibling.remove();
      return;
    }
    const cell = make("td", "", null, this.open(row));
    cell.colSpan = this.columns.length;
    const detail = make("tr", "detail", null, cell);
    setRoles("cell", cell);
    setRoles("row", detail);
    line.after(detail);
  }

  moveFocus(event) {
    if (!event.target.classList.contains("open-row")) return;
    if (event.key === "Escape" && event.target.getAttribute("aria-expanded") === "true") event.target.click();
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const buttons = [...this.body.querySelectorAll(".open-row")];
    const index = buttons.indexOf(event.target) + by;
    if (buttons[index]) buttons[index].focus();
    else if (by > 0 && !this.next.disabled) this.turnAndFocus(1, 0);
    else if (by < 0 && !this.previous.disabled) this.turnAndFocus(-1, this.pageSize - 1);
  }

  turnAndFocus(by, index) {
    this.turn(by);
    this.body.querySelectorAll(".open-row")[index]?.focus();
  }
}

/** State roles, which browsers drop where a narrow screen shows the rows of a table as cards. */
function setRoles(role, ...elements) {
  for (const element of elements) element.setAttribute("role", role);
}

const put = (cell, text) => cell.append(makeWhole("span", "", text));
const putTag = (cell, outcome) => cell.append(make("span", outcome === 1 ? "tag bad" : "tag", OUTCOMES[outcome]));

/** Show the most frequent names as bars; each name is a button that searches for it. */
function listRanking(container, { rows, distinct }, { shorten = (name) => name, onPick }) {
  const most = rows.length ? rows[0][1] : 1;
  const list = make("ol", "rank");
  const shown = 10;
  const items = rows.map(([name, events, failures], index) => {
    const button = makeButton("", shorten(name), () => onPick(name.replace(/…$/, "")));
    button.title = showHidden(name);
    const count = make("span", "count");
    if (failures) count.append(make("span", "failed", `${showNumber(failures)} failed`));
    count.append(make("span", "", showNumber(events)));
    const good = make("i");
    const bad = make("i", "failure");
    good.style.width = `${((events - failures) / most) * 100}%`;
    bad.style.width = failures ? `max(2px, ${(failures / most) * 100}%)` : "0";
    const item = make("li", "", null, make("div", "row", null, button, count), make("div", "bar", null, bad, good));
    item.hidden = index >= shown;
    return item;
  });
  list.append(...items);
  container.append(list);
  if (!rows.length) container.append(make("p", "lead", "None."));
  if (rows.length > shown) {
    const more = makeButton("link", `Show ${rows.length} of ${showNumber(distinct)}`, () => {
      items.forEach((item) => { item.hidden = false; });
      more.remove();
    });
    container.append(more);
  }
}
