// A table that is sorted, filtered, and filled as far as it is looked at.

const PAGE = 60;

// columns: { title, cell(row) -> content, order(row) -> what to sort by, right, descending }
class Table {
  constructor({ caption, columns, rows, text, sort = 0, controls = [], empty = 'None.', page = PAGE }) {
    Object.assign(this, { columns, rows, text, empty, page });
    this.sorted = sort;
    this.down = Boolean(columns[sort].descending);
    this.wanted = '';
    this.keep = () => true;
    this.limit = page;
    this.body = el('tbody');
    this.heads = columns.map((column, at) => this.head(column, at));
    this.more = el('button', { type: 'button', class: 'more', onclick: () => this.showMore() });
    this.count = el('span', { class: 'count', role: 'status' });
    const filter = text && rows.length > 8 ? this.filter(caption) : null;
    this.tools = el('div', { class: 'tools' }, filter, controls, this.count);
    this.table = el('table', {}, el('caption', { class: 'unseen' }, caption), el('thead', {}, el('tr', {}, this.heads)), this.body);
    this.element = el('div', { class: 'table' }, this.tools, el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption }, this.table), this.more);
    this.draw();
  }

  head(column, at) {
    if (!column.order) return el('th', { scope: 'col', class: column.right ? 'right' : null }, column.title);
    const button = el('button', { type: 'button', onclick: () => this.sortBy(at) }, column.title);
    return el('th', { scope: 'col', class: column.right ? 'right' : null }, button);
  }

  filter(caption) {
    return el('input', {
      type: 'search', placeholder: 'filter', 'aria-label': `Filter: ${caption}`, spellcheck: 'false', autocomplete: 'off',
      oninput: (event) => { this.wanted = event.target.value.toLowerCase(); this.limit = this.page; this.draw(); },
    });
  }

  sortBy(at) {
    this.down = this.sorted === at ? !this.down : Boolean(this.columns[at].descending);
    this.sorted = at;
    this.limit = this.page;
    this.draw();
  }

  showMore() {
    const had = this.body.rows.length;
    this.limit = this.limit + 10 * this.page;
    this.draw();
    const row = this.body.rows[had];
    const next = row && row.querySelector('button');
    if (next) next.focus();
  }

  replace(rows) {
    this.rows = rows;
    this.limit = this.page;
    this.draw();
  }

  draw() {
    const { order } = this.columns[this.sorted];
    const sign = this.down ? -1 : 1;
    let rows = this.rows.filter(this.keep);
    if (this.wanted) rows = rows.filter((row) => this.text(row).toLowerCase().includes(this.wanted));
    if (order) {
      const keyed = rows.map((row) => [order(row), row]);
      keyed.sort(([a], [b]) => sign * (typeof a === 'string' ? (a < b ? -1 : a > b ? 1 : 0) : a - b));
      rows = keyed.map(([, row]) => row);
    }
    this.heads.forEach((head, at) => {
      if (at === this.sorted) head.setAttribute('aria-sort', this.down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    const seen = rows.slice(0, this.limit);
    this.body.replaceChildren(...seen.map((row) => el('tr', {}, this.columns.map((column) =>
      el('td', { class: [column.right ? 'right' : '', column.style || ''].join(' ').trim() || null }, column.cell(row))))));
    if (!seen.length) this.body.append(el('tr', {}, el('td', { colspan: String(this.columns.length), class: 'none' }, this.empty)));
    this.count.textContent = this.wanted ? `${number(rows.length)} of ${number(this.rows.length)}` : '';
    const left = rows.length - seen.length;
    this.more.hidden = left <= 0;
    this.more.textContent = `Show ${number(Math.min(left, 10 * this.page))} more of ${number(left)}`;
  }
}

// Buttons of which any number may be on.
function toggles(label, choices, changed) {
  const on = new Set(choices.map((choice) => choice.value));
  return el('span', { class: 'toggles', role: 'group', 'aria-label': label }, choices.map((choice) =>
    el('button', {
      type: 'button', class: `toggle ${choice.style || ''}`, 'aria-pressed': 'true',
      onclick: (event) => {
        if (on.has(choice.value)) on.delete(choice.value); else on.add(choice.value);
        event.currentTarget.setAttribute('aria-pressed', String(on.has(choice.value)));
        changed(on);
      },
    }, choice.label)));
}

// Buttons of which one is on.
function chooser(label, choices, value, changed) {
  const buttons = choices.map((choice) => el('button', {
    type: 'button', 'aria-pressed': String(choice.value === value),
    onclick: () => {
      buttons.forEach((button, at) => button.setAttribute('aria-pressed', String(choices[at].value === choice.value)));
      changed(choice.value);
    },
  }, choice.label));
  return el('span', { class: 'chooser', role: 'group', 'aria-label': label }, buttons);
}
