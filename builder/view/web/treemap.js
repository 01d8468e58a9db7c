// A treemap of one directory, as deep as there is room, drawn by plotly.

const SMALLEST = 90;      // square pixels of a tile that is worth a tile of its own
const ROOMY = 6000;       // of a directory that is looked into, the more of them the deeper it is
const DEEPEST = 6;
const MOST = 700;

// Plotly's texts know some tags and entities.
const quoted = (text) => shown(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

class Treemap {
  // colour(node) -> of a tile; tell(node, bytes) -> lines of plain text; opened(node) when a tile is clicked
  constructor({ label, colour, tell, opened }) {
    Object.assign(this, { label, colour, tell, opened });
    this.element = el('div', { class: 'tiles', role: 'img' });
    this.plot = el('div', { class: 'plot', 'aria-hidden': 'true' });
    this.element.append(this.plot);
    this.state = null;
    new ResizeObserver(() => {
      const width = Math.round(this.element.clientWidth), height = Math.round(this.element.clientHeight);
      if (this.state && width && (width !== this.width || height !== this.height)) this.draw();
    }).observe(this.element);
  }

  show(image, sums, node) {
    this.state = { image, sums, node };
    this.draw();
  }

  draw() {
    const { image, sums, node } = this.state;
    this.width = Math.round(this.element.clientWidth);
    this.height = Math.round(this.element.clientHeight);
    if (!this.width || !this.height) return;
    const all = node < 0 ? sums.all : sums.at[node];
    const where = node < 0 ? '/' : image.path(node);
    this.element.setAttribute('aria-label', `${this.label}: ${shown(where)}, ${size(all)}. The table has the same in words.`);
    if (!all) {
      if (this.drawn) Plotly.purge(this.plot);
      this.drawn = false;
      this.plot.replaceChildren(el('p', { class: 'none' }, 'No bytes here.'));
      return;
    }
    if (!this.drawn) this.plot.replaceChildren();
    const tiles = this.tiles(all);
    const surface = variable('--surface'), text = variable('--text'), edge = variable('--tile-edge');
    const trace = {
      type: 'treemap', branchvalues: 'total', sort: true, ids: tiles.ids, labels: tiles.labels, parents: tiles.parents,
      values: tiles.values, text: tiles.texts, customdata: tiles.hovers,
      texttemplate: '%{label}<br>%{text}', hovertemplate: '%{customdata}<extra></extra>', textposition: 'top left',
      marker: { colors: tiles.colours, line: { width: 1, color: edge }, pad: { t: 19, l: 3, r: 3, b: 3 }, cornerradius: 3 },
      tiling: { packing: 'squarify', squarifyratio: 1.4, pad: 1 }, pathbar: { visible: false }, maxdepth: -1,
      outsidetextfont: { color: text }, root: { color: 'rgba(0,0,0,0)' },
    };
    const layout = {
      width: this.width, height: this.height, margin: { t: 0, l: 0, r: 0, b: 0 },
      paper_bgcolor: 'rgba(0,0,0,0)', font: { family: variable('--font'), size: 12, color: text },
      uniformtext: { minsize: 10, mode: 'hide' },
      hoverlabel: { bgcolor: surface, bordercolor: variable('--border'), font: { color: text, size: 12, family: variable('--font') }, align: 'left', namelength: -1 },
    };
    Plotly.react(this.plot, [trace], layout, { displayModeBar: false, responsive: false, showTips: false });
    if (!this.drawn) {
      const tester = document.getElementById('js-plotly-tester');  // what plotly measures texts with
      if (tester) tester.setAttribute('aria-hidden', 'true');
      this.plot.on('plotly_treemapclick', (event) => {
        const id = event.points[0].id;
        if (id && !id.startsWith('+')) this.opened(id === 'root' ? this.state.node : Number(id));
        return false;
      });
      this.drawn = true;
    }
  }

  tiles(all) {
    const { image, sums, node: top } = this.state;
    const scale = this.width * this.height / all;
    const inside = [variable('--inner-even'), variable('--inner-odd')], others = variable('--tile-rest');
    const tiles = { ids: [], labels: [], parents: [], values: [], colours: [], texts: [], hovers: [] };
    const put = (id, label, parent, bytes, colour, hover, inner) => {
      tiles.ids.push(id);
      tiles.labels.push(quoted(inner ? `${label}  ${size(bytes)}` : label));  // of a header, plotly shows the label alone
      tiles.parents.push(parent);
      tiles.values.push(bytes);
      tiles.colours.push(colour);
      tiles.texts.push(size(bytes));
      tiles.hovers.push(hover.map(quoted).join('<br>'));
    };
    const filled = (node) => [...image.children(node)].filter((child) => sums.at[child] > 0);
    const expand = (node, id, depth) => {
      const children = filled(node).sort((a, b) => sums.at[b] - sums.at[a]);
      let rest = 0, left = 0;
      for (const child of children) {
        const bytes = sums.at[child];
        if (bytes * scale < SMALLEST || tiles.ids.length > MOST) { rest += bytes; left++; continue; }
        let label = image.labels[child], last = child;
        for (let only = filled(last); only.length === 1 && image.end[only[0]] > only[0] + 1; only = filled(last)) {
          last = only[0];  // a directory with but one in it: one tile
          label += '/' + image.labels[last];
        }
        const name = String(last);
        const inner = image.end[last] > last + 1 && depth < DEEPEST && bytes * scale > ROOMY * depth;
        put(name, label + (image.isDirectory(last) ? '/' : ''), id, bytes, inner ? inside[depth % 2] : this.colour(last), this.tell(last, bytes), inner);
        if (inner) expand(last, name, depth + 1);
      }
      if (rest > 0) put('+' + id, plural(left, 'smaller one'), id, rest, others, [plural(left, 'smaller one'), size(rest)]);
    };
    put('root', top < 0 ? '/' : image.path(top), '', all, inside[0], this.tell(top, all), true);
    expand(top, 'root', 1);
    return tiles;
  }
}

// The directories above a name, as a way back.
function crumbs(image, node, open) {
  const above = [];
  for (let each = node; each >= 0; each = image.parent[each]) above.unshift(each);
  const steps = [-1, ...above].map((each) => {
    const label = each < 0 ? '/' : shown(image.labels[each]);
    const last = each === node;
    return el('li', {}, el('button', { type: 'button', 'aria-current': last ? 'location' : null, onclick: () => open(each) }, el('bdi', {}, label)));
  });
  return el('nav', { class: 'crumbs', 'aria-label': 'Directory' }, el('ol', {}, steps));
}
