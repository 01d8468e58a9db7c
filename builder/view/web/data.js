// The document, unpacked, as typed arrays: an image may have 100,000 files.

const SHOWN = -1;

async function unpack(id) {
  const script = document.getElementById(id);
  const text = atob(script.textContent);
  script.remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).text();
}

class ImageTree {
  constructor(facts) {
    Object.assign(this, facts);
    const tree = facts.tree;
    this.labels = tree.names === '' && !tree.depths.length ? [] : tree.names.split('/');
    this.count = this.labels.length;
    this.readTree(tree.depths);
    this.readVersions(tree);
    this.lineOf = new Array(this.layers.length).fill(null);
    this.lines.forEach((line) => { if (line.layer !== null) this.lineOf[line.layer] = line; });
  }

  readTree(depths) {
    this.parent = new Int32Array(this.count);
    this.end = new Int32Array(this.count);  // behind the last name below
    const open = [];
    for (let node = 0; node < this.count; node++) {
      while (open.length > depths[node]) this.end[open.pop()] = node;
      this.parent[node] = open.length ? open[open.length - 1] : -1;
      open.push(node);
    }
    for (const node of open) this.end[node] = this.count;
  }

  readVersions(tree) {
    this.versions = tree.node.length;
    for (const name of ['node', 'layer', 'hidden', 'mode', 'uid', 'gid']) this[name] = Int32Array.from(tree[name]);
    for (const name of ['size', 'bytes']) this[name] = Float64Array.from(tree[name]);
    this.kinds = tree.kinds;
    this.first = new Int32Array(this.count + 1);
    for (let v = 0; v < this.versions; v++) this.first[this.node[v] + 1]++;
    for (let node = 0; node < this.count; node++) this.first[node + 1] += this.first[node];
    this.current = new Int32Array(this.count).fill(-1);
    this.files = 0;
    for (let v = 0; v < this.versions; v++) {
      if (this.hidden[v] !== SHOWN) continue;
      this.current[this.node[v]] = v;
      if (this.kind(v) !== 'd') this.files++;
    }
    this.deletions = tree.deletions.map(([layer, node, files, bytes]) => ({ layer, node, files, bytes }));
  }

  change(version) { return this.kinds[2 * version]; }

  kind(version) { return this.kinds[2 * version + 1]; }

  isDirectory(node) {
    const version = this.current[node] >= 0 ? this.current[node] : this.first[node + 1] - 1;
    return version < this.first[node] ? true : this.kind(version) === 'd';
  }

  path(node) {
    const parts = [];
    for (; node >= 0; node = this.parent[node]) parts.push(this.labels[node]);
    return '/' + parts.reverse().join('/');
  }

  * children(node) {
    const end = node < 0 ? this.count : this.end[node];
    for (let child = node + 1; child < end; child = this.end[child]) yield child;
  }

  find(path) {
    let node = -1;
    for (const label of path.split('/').filter((part) => part)) {
      let found = -1;
      for (const child of this.children(node)) if (this.labels[child] === label) { found = child; break; }
      if (found < 0) return null;
      node = found;
    }
    return node;
  }

  // The bytes at and below each name, of the versions that `wanted` takes.
  sums(wanted) {
    const sums = { all: 0, at: new Float64Array(this.count), files: new Int32Array(this.count) };
    for (let v = 0; v < this.versions; v++) {
      if (!wanted(v)) continue;
      sums.at[this.node[v]] += this.bytes[v];
      if (this.kind(v) !== 'd') sums.files[this.node[v]]++;
    }
    for (let node = this.count - 1; node >= 0; node--) {
      const parent = this.parent[node];
      if (parent < 0) { sums.all += sums.at[node]; continue; }
      sums.at[parent] += sums.at[node];
      sums.files[parent] += sums.files[node];
    }
    return sums;
  }

  // The layer that most bytes at and below a name are of.
  mainLayer(node, wanted) {
    const bytes = new Map();
    let best = -1;
    const end = this.first[this.end[node]];
    for (let v = this.first[node]; v < end; v++) {
      if (!wanted(v)) continue;
      const sum = (bytes.get(this.layer[v]) || 0) + this.bytes[v];
      bytes.set(this.layer[v], sum);
      if (best < 0 || sum > bytes.get(best)) best = this.layer[v];
    }
    return best;
  }
}
