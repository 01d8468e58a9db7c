// The files of an image: layers beside a treemap, the directory as a table, search.

const FOUND = 300;
const LARGEST = 6;

class Files {
  constructor(image) {
    this.image = image;
    this.scope = 'image';
    this.node = -1;
    this.treemap = new Treemap({
      label: 'Files by size',
      colour: (node) => tileColor(Math.max(0, image.mainLayer(node, this.wanted)), node),
      tell: (node, bytes) => this.tell(node, bytes),
      opened: (node) => this.open(node),
    });
    this.crumbs = el('div');
    this.details = el('div', { class: 'details', 'aria-live': 'polite' });
    this.listing = el('div');
    this.largest = el('ol', { class: 'largest' });
    this.layers = el('ol', { class: 'layers' }, image.layers.map((layer, at) => this.layerButton(layer, at)));
    this.everything = el('button', { type: 'button', class: 'layer all', onclick: () => this.setScope('image') },
      el('span', { class: 'line' }, 'What the image shows'), el('span', { class: 'size' }, size(image.total - image.wasted)));
    this.lost = el('button', { type: 'button', class: 'layer all', onclick: () => this.setScope('wasted') },
      el('span', { class: 'line' }, 'What later layers hide'), el('span', { class: 'size' }, size(image.wasted)));
    this.search = el('input', {
      type: 'search', id: 'search', placeholder: `Search ${plural(image.count, 'path')}`, 'aria-label': 'Search paths', spellcheck: 'false',
      autocomplete: 'off', autocapitalize: 'off', oninput: () => this.look(),
    });
    this.element = el('section', { id: 'files', 'aria-labelledby': 'files-title' },
      el('div', { class: 'head' }, el('h2', { id: 'files-title' }, 'Files'), el('div', { class: 'searching' }, this.search, el('kbd', { 'aria-hidden': 'true' }, '/'))),
      el('div', { class: 'split' },
        el('div', { class: 'side' }, el('h3', {}, 'Layers'), el('div', { class: 'pair' }, this.everything, this.lost), this.layers, el('h3', {}, 'Largest files'), this.largest),
        el('div', { class: 'map' }, this.crumbs, this.treemap.element, this.details)),
      this.listing);
    this.setScope('image');
  }

  layerButton(layer, at) {
    const { image } = this;
    const most = Math.max(1, ...image.layers.map((each) => each.bytes));
    return el('li', {}, el('button', { type: 'button', class: 'layer', onclick: () => this.setScope(this.scope === at ? 'image' : at) },
      chip(at), lineLabel(image.lineOf[at], `layer ${at + 1}`), el('span', { class: 'size' }, size(layer.bytes)),
      bar(layer.bytes, most, layerColor(at))));
  }

  setScope(scope) {
    const { image } = this;
    this.scope = scope;
    this.wanted = scope === 'image' ? (v) => image.hidden[v] === SHOWN
      : scope === 'wasted' ? (v) => image.hidden[v] !== SHOWN
      : (v) => image.layer[v] === scope;
    this.sums = image.sums(this.wanted);
    this.largest.replaceChildren(...this.largestFiles().map((v) => el('li', {}, this.nameButton(image.node[v], image.labels[image.node[v]], image.path(image.node[v])), el('span', { class: 'size' }, size(image.bytes[v])))));
    this.everything.setAttribute('aria-pressed', String(scope === 'image'));
    this.lost.setAttribute('aria-pressed', String(scope === 'wasted'));
    [...this.layers.querySelectorAll('button')].forEach((button, at) => button.setAttribute('aria-pressed', String(at === scope)));
    this.layers.classList.toggle('chosen', typeof scope === 'number');
    this.open(this.sums.at[this.node] > 0 ? this.node : -1);
  }

  largestFiles() {
    const { image } = this;
    const best = [];
    for (let v = 0; v < image.versions; v++) {
      if (!image.bytes[v] || !this.wanted(v) || (best.length === LARGEST && image.bytes[v] <= image.bytes[best[LARGEST - 1]])) continue;
      best.push(v);
      best.sort((a, b) => image.bytes[b] - image.bytes[a]);
      best.length = Math.min(best.length, LARGEST);
    }
    return best;
  }

  open(node, chosen = -1) {
    const { image } = this;
    if (node >= 0 && image.end[node] === node + 1) {  // nothing below: show where it is
      chosen = node;
      node = this.search.value ? image.parent[node] : this.node;
      if (node >= 0 && !(chosen > node && chosen < image.end[node])) node = image.parent[chosen];
    }
    const moved = node !== this.node || !this.shown || this.shown !== this.scope;
    this.node = node;
    this.shown = this.scope;
    this.crumbs.replaceChildren(crumbs(image, node, (each) => this.open(each)));
    if (moved || !this.treemap.state) this.treemap.show(image, this.sums, node);
    this.choose(chosen);
    this.look();
  }

  tell(node, bytes) {
    const { image } = this;
    const lines = [node < 0 ? '/' : image.path(node), `${size(bytes)} · ${percent(bytes, this.sums.all)}`];
    if (node < 0) return lines;
    if (image.isDirectory(node)) lines.push(plural(this.sums.files[node], 'file'));
    const layer = image.mainLayer(node, this.wanted);
    if (layer >= 0) lines.push(`${image.isDirectory(node) ? 'mostly ' : ''}layer ${layer + 1}: ${lineText(image.lineOf[layer], '').slice(0, 60)}`);
    return lines;
  }

  // What is to be said of one path: all that the layers had there.
  choose(node) {
    const { image } = this;
    if (node < 0) { this.details.replaceChildren(); return; }
    const rows = [];
    for (let v = image.first[node]; v < image.first[node + 1]; v++) {
      rows.push(el('li', {}, chip(image.layer[v]), `${CHANGES[image.change(v)]} by `,
        lineLabel(shortened(image.lineOf[image.layer[v]]), `layer ${image.layer[v] + 1}`), el('span', { class: 'facts' }, facts(image, v))));
    }
    this.details.replaceChildren(
      el('h3', {}, named(image.path(node))), el('ul', {}, rows),
      el('button', { type: 'button', class: 'close', 'aria-label': 'Close', onclick: () => this.choose(-1) }, '×'));
  }

  look() {
    const query = this.search.value;
    this.listing.replaceChildren(query.trim() ? this.results(query.trim().toLowerCase()) : this.directory());
  }

  directory() {
    const { image, sums, node } = this;
    const all = node < 0 ? sums.all : sums.at[node];
    const rows = [...image.children(node)].filter((child) => sums.files[child] > 0 || (this.scope === 'image' && image.current[child] >= 0));
    const where = node < 0 ? '/' : image.path(node);
    return new Table({
      caption: `In ${shown(where)}`, rows, sort: 1, text: (child) => image.labels[child], page: 12, empty: 'Nothing.',
      columns: [
        { title: 'name', style: 'path', order: (child) => image.labels[child], cell: (child) => this.nameButton(child, image.labels[child] + (image.isDirectory(child) ? '/' : '')) },
        { title: 'size', right: true, descending: true, order: (child) => sums.at[child], cell: (child) => size(sums.at[child]) },
        { title: 'share', style: 'wide', cell: (child) => [bar(sums.at[child], all, layerColor(Math.max(0, image.mainLayer(child, this.wanted)))), el('span', { class: 'unseen' }, percent(sums.at[child], all))] },
        { title: 'files', right: true, descending: true, order: (child) => sums.files[child], cell: (child) => number(sums.files[child]) },
        { title: 'layer', right: true, order: (child) => image.mainLayer(child, this.wanted), cell: (child) => layerMark(image.mainLayer(child, this.wanted)) },
      ],
    }).element;
  }

  results(query) {
    const { image } = this;
    this.paths = this.paths || lowerPaths(image);
    const found = [];
    let count = 0, bytes = 0;
    const words = query.split(/\s+/);
    for (let node = 0; node < image.count; node++) {
      const path = this.paths[node];
      if (!words.every((word) => path.includes(word))) continue;
      count++;
      if (!image.isDirectory(node)) for (let v = image.first[node]; v < image.first[node + 1]; v++) bytes += image.hidden[v] === SHOWN ? image.bytes[v] : 0;
      if (found.length < FOUND) found.push(node);
    }
    const total = image.sums((v) => image.hidden[v] === SHOWN);
    const table = new Table({
      caption: 'Paths found', rows: found, sort: 0, page: 20, empty: 'No path has that in it.',
      controls: [el('strong', { role: 'status' }, `${plural(count, 'path')}, ${size(bytes)}${count > FOUND ? `; the first ${FOUND}` : ''}`)],
      columns: [
        { title: 'path', style: 'path', order: (node) => node, cell: (node) => this.nameButton(node, image.path(node)) },
        { title: 'size', right: true, descending: true, order: (node) => total.at[node], cell: (node) => (image.current[node] < 0 ? el('span', { class: 'tag gone' }, 'hidden') : size(total.at[node])) },
        { title: 'layers', right: true, cell: (node) => layerMarks(image, node) },
      ],
    });
    table.element.classList.add('found');
    return table.element;
  }

  nameButton(node, label, path) {
    return el('button', { type: 'button', class: 'name', title: path ? shown(path) : null, onclick: () => this.reveal(node) }, named(label));
  }

  // Go to a path, whatever is shown now.
  reveal(node) {
    const { image } = this;
    if (image.end[node] > node + 1) {
      this.search.value = '';
      this.open(node);
    } else {
      this.open(image.parent[node], node);
    }
    this.element.querySelector('.map').scrollIntoView({ block: 'nearest' });
  }
}

const shortened = (line) => (line && line.text.length > 160 ? { ...line, text: line.text.slice(0, 160) + '…' } : line);

function facts(image, v) {
  const parts = [];
  if (image.kind(v) === 'f') parts.push(size(image.size[v]));
  else parts.push(KINDS[image.kind(v)]);
  parts.push(image.mode[v].toString(8).padStart(4, '0'), `${image.uid[v]}:${image.gid[v]}`);
  if (image.kind(v) === 'f' && image.size[v] && !image.bytes[v]) parts.push('a hard link: its bytes count elsewhere');
  if (image.hidden[v] !== SHOWN) parts.push(`hidden by layer ${image.hidden[v] + 1}`);
  return parts.join(' · ');
}

function lowerPaths(image) {
  const paths = new Array(image.count);
  for (let node = 0; node < image.count; node++) {
    const parent = image.parent[node];
    paths[node] = (parent < 0 ? '/' : paths[parent] + '/') + image.labels[node].toLowerCase();
  }
  return paths;
}

function layerMark(layer) {
  return layer < 0 ? '–' : el('span', { class: 'mark' }, chip(layer));
}

function layerMarks(image, node) {
  const layers = [];
  for (let v = image.first[node]; v < image.first[node + 1]; v++) if (!layers.includes(image.layer[v])) layers.push(image.layer[v]);
  return layers.map(layerMark);
}
