// Two images side by side.

const TILES = { gone: '--gone', new: '--new', changed: '--changed-tile', same: '--same' };
const STATES = { gone: 'only in the first', new: 'only in the second', changed: 'different', same: 'the same' };

class Differences {
  constructor(images, comparison) {
    this.images = images;
    this.marks = images.map((image) => new Uint8Array(image.count));  // 1: only here; 2: different
    comparison.gone.forEach((node) => { this.marks[0][node] = 1; });
    comparison.new.forEach((node) => { this.marks[1][node] = 1; });
    comparison.changed.forEach(([old, now]) => { this.marks[0][old] = 2; this.marks[1][now] = 2; });
    this.sums = images.map((image) => image.sums((v) => image.hidden[v] === SHOWN));
    this.differing = images.map((image, at) => image.sums((v) => image.hidden[v] === SHOWN && this.marks[at][image.node[v]] > 0));
    this.rows = [
      ...comparison.gone.map((node) => this.row('gone', node, -1, '')),
      ...comparison.new.map((node) => this.row('new', -1, node, '')),
      ...comparison.changed.map(([old, now, how]) => this.row('changed', old, now, how)),
    ];
    this.path = '/';
    this.treemaps = images.map((image, at) => new Treemap({
      label: `Files of ${shown(image.name)} by size`,
      colour: (node) => this.colour(at, node),
      tell: (node, bytes) => [node < 0 ? '/' : image.path(node), size(bytes), node < 0 ? '' : STATES[this.state(at, node)]].filter((text) => text),
      opened: (node) => this.open(image, node),
    }));
    this.crumbs = el('div');
    this.element = this.section();
    this.open(images[0], -1);
  }

  row(state, old, now, how) {
    const [a, b] = this.images;
    const bytes = (image, node) => (node < 0 || image.current[node] < 0 ? 0 : image.size[image.current[node]]);
    const image = old >= 0 ? a : b, node = old >= 0 ? old : now;
    return { state, how, path: image.path(node) + (image.isDirectory(node) ? '/' : ''), before: bytes(a, old), after: bytes(b, now), has: [old >= 0, now >= 0] };
  }

  state(at, node) {
    const image = this.images[at];
    const differing = this.differing[at].at[node], all = this.sums[at].at[node];
    if (image.end[node] === node + 1) return ['same', at ? 'new' : 'gone', 'changed'][this.marks[at][node]];
    if (!differing) return 'same';
    return differing === all && this.marks[at][node] === 1 ? (at ? 'new' : 'gone') : 'changed';
  }

  colour(at, node) {
    return variable(TILES[this.state(at, node)]);
  }

  open(image, node) {
    if (node >= 0 && image.end[node] === node + 1) return;
    this.path = node < 0 ? '/' : image.path(node);
    this.crumbs.replaceChildren(crumbs(image, node, (each) => this.open(image, each)));
    this.images.forEach((each, at) => {
      const found = each === image ? node : each.find(this.path);
      const missing = found === null;
      this.captions[at].textContent = missing ? 'It has no such directory.' : size(found < 0 ? this.sums[at].all : this.sums[at].at[found]);
      this.treemaps[at].element.classList.toggle('missing', missing);
      if (!missing) this.treemaps[at].show(each, this.sums[at], found);
    });
  }

  section() {
    const [a, b] = this.images;
    this.captions = this.images.map(() => el('span', { class: 'size' }));
    const counts = { gone: 0, new: 0, changed: 0 };
    this.rows.forEach((row) => counts[row.state]++);
    const signs = { gone: '\u2212', new: '+', changed: '~' }, styles = { gone: 'D', new: 'A', changed: 'C' };
    const table = new Table({
      caption: 'Differences', rows: this.rows, sort: 4, text: (row) => row.path, page: 20, empty: 'No file differs.',
      controls: [toggles('Show', Object.keys(counts).map((state) => ({ value: state, style: styles[state], label: `${signs[state]} ${STATES[state]} ${number(counts[state])}` })),
        (on) => { table.keep = (row) => on.has(row.state); table.draw(); })],
      columns: [
        { title: 'what', order: (row) => row.state, cell: (row) => el('span', { class: `sign ${styles[row.state]}`, title: STATES[row.state] }, signs[row.state], el('span', { class: 'unseen' }, STATES[row.state])) },
        { title: 'path', style: 'path', order: (row) => row.path, cell: (row) => [named(row.path), row.how ? el('span', { class: 'note' }, shown(row.how)) : null] },
        { title: 'first', right: true, descending: true, order: (row) => row.before, cell: (row) => (row.has[0] ? size(row.before) : '–') },
        { title: 'second', right: true, descending: true, order: (row) => row.after, cell: (row) => (row.has[1] ? size(row.after) : '–') },
        { title: 'difference', right: true, descending: true, order: (row) => Math.abs(row.after - row.before), cell: (row) => signed(row.after - row.before) },
      ],
    });
    return el('section', { id: 'differences', 'aria-labelledby': 'differences-title' },
      el('h2', { id: 'differences-title' }, 'Differences'),
      el('p', { class: 'about' }, `What has to be done to the first to get the second: ${plural(counts.new, 'path')} more, ${number(counts.gone)} fewer, ${number(counts.changed)} changed; ${signed((b.total - b.wasted) - (a.total - a.wasted))}.`),
      this.crumbs,
      el('div', { class: 'side-by-side' }, this.images.map((image, at) => el('figure', { 'aria-label': `${at ? 'second' : 'first'}: ${shown(image.name)}` },
        el('figcaption', {}, el('span', { class: 'which' }, at ? 'second' : 'first'), ' ', named(image.name), ' ', this.captions[at]), this.treemaps[at].element))),
      el('p', { class: 'legend' }, ['same', 'changed', 'gone', 'new'].map((state) => el('span', {}, swatch(`var(${TILES[state]})`), STATES[state]))),
      table.element, this.layers(), this.config());
  }

  layers() {
    const [a, b] = this.images;
    const count = Math.max(a.layers.length, b.layers.length);
    const cell = (image, at) => (at < image.layers.length
      ? [el('td', {}, lineLabel(shortened(image.lineOf[at]), `layer ${at + 1}`)), el('td', { class: 'right' }, size(image.layers[at].bytes))]
      : [el('td', { class: 'none' }, '–'), el('td', { class: 'right' }, '–')]);
    let shared = 0;
    while (shared < Math.min(a.layers.length, b.layers.length) && a.layers[shared].chain === b.layers[shared].chain) shared++;
    const rows = Array.from({ length: count }, (_, at) => el('tr', { class: at < shared ? 'shared' : null },
      el('th', { scope: 'row' }, String(at + 1), at < shared ? el('span', { class: 'tag' }, 'shared') : null), cell(a, at), cell(b, at)));
    return el('div', { class: 'table' }, el('h3', {}, 'Layers'),
      el('p', { class: 'about' }, `They share ${shared} of ${a.layers.length} and ${b.layers.length} layers, from the lowest on: ${size(b.layers.slice(0, shared).reduce((sum, layer) => sum + layer.bytes, 0))}.`),
      el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Layers of both' },
        el('table', { class: 'both' }, el('caption', { class: 'unseen' }, 'Layers of both'), el('thead', {}, el('tr', {}, ['', 'first', 'size', 'second', 'size'].map((text, at) => el('th', { scope: 'col', class: at === 2 || at === 4 ? 'right' : null }, text)))), el('tbody', {}, rows))));
  }

  config() {
    const rows = [new Map(), new Map()];
    this.images.forEach((image, at) => configRows(image).forEach(([name, text]) => rows[at].set(name, rows[at].has(name) ? `${rows[at].get(name)}, ${text}` : text)));
    const names = [...new Set([...rows[0].keys(), ...rows[1].keys()])];
    const differ = names.filter((name) => rows[0].get(name) !== rows[1].get(name));
    const body = differ.map((name) => el('tr', {}, el('th', { scope: 'row' }, configName(name)), rows.map((map) => el('td', {}, map.has(name) ? named(map.get(name)) : '–'))));
    return el('div', { class: 'table' }, el('h3', {}, 'Config'),
      el('p', { class: 'about' }, differ.length ? `${plural(differ.length, 'setting')} of ${names.length} differ.` : 'The configs are the same.'),
      differ.length ? el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Configs of both' },
        el('table', { class: 'both configs' }, el('caption', { class: 'unseen' }, 'Configs of both'), el('thead', {}, el('tr', {}, ['', 'first', 'second'].map((text) => el('th', { scope: 'col' }, text)))), el('tbody', {}, body))) : null);
  }
}
