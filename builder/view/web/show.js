// Elements, and how things are written. What strangers named goes into text nodes, and nowhere else.

// Control, format (bidirectional ones among them), private and unassigned-surrogate characters, odd separators.
const ODD = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

function shown(text) {
  return String(text).replace(ODD, (character) => {
    const code = character.codePointAt(0);
    if (code === 0x09) return '\\t';
    if (code === 0x0a) return '\\n';
    if (code >= 0xdc80 && code <= 0xdcff) return '\\x' + (code - 0xdc00).toString(16);  // a byte that is no UTF-8
    if (code < 0x100) return '\\x' + code.toString(16).padStart(2, '0');
    return code < 0x10000 ? '\\u' + code.toString(16).padStart(4, '0') : `\\u{${code.toString(16)}}`;
  });
}

const oneLine = (text) => shown(String(text).split(/\s+/).join(' ').trim());

function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'style') for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

// A name of a stranger's, kept from turning round what stands beside it.
const named = (text, attributes) => el('bdi', attributes, shown(text));

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

function size(bytes) {
  let value = bytes, unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit++; }
  const digits = unit === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}\u00a0${UNITS[unit]}`;
}

const signed = (bytes) => (bytes > 0 ? '+' : bytes < 0 ? '\u2212' : '±') + size(Math.abs(bytes));
const number = (count) => count.toLocaleString('en');
const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many || one + 's'}`;

function percent(part, whole) {
  if (!whole) return '–';
  const value = 100 * part / whole;
  if (value === 0 || value === 100) return value + '\u202f%';
  return (value < 0.1 ? '<0.1' : value < 10 || value > 99 ? Math.min(value, 99.9).toFixed(1) : Math.round(value)) + '\u202f%';
}

function seconds(value) {
  if (value < 0.95) return value.toFixed(2) + '\u00a0s';
  if (value < 99.5) return value.toFixed(1) + '\u00a0s';
  return `${Math.floor(value / 60)}\u00a0min ${Math.round(value % 60)}\u00a0s`;
}

function when(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? shown(text) : date.toISOString().slice(0, 16).replace('T', ' ') + ' UTC';
}

const shortId = (digest) => digest.replace(/^sha256:/, '').slice(0, 12);
const KINDS = { f: 'file', d: 'directory', l: 'symbolic link', c: 'character device', b: 'block device', p: 'fifo' };
const CHANGES = { A: 'added', C: 'changed', M: 'mode or owner', D: 'deleted' };
const SIGNS = { A: '+', C: '~', M: '~', D: '\u2212' };

// What the history says made a layer: the keyword apart, without the shell and what builders add.
function instruction(text) {
  let line = oneLine(text).replace(/\s#\s?(pybuild|buildkit)$/, '').replace(/^\/bin\/sh -c #\(nop\)\s*/, '');
  line = line.replace(/^\/bin\/sh -c /, 'RUN ').replace(/^RUN (\|\d+ )?(.*?)\/bin\/sh -c /, 'RUN $2');
  const match = /^([A-Z]+)(\s|$)(.*)$/.exec(line);
  return match ? { keyword: match[1], rest: match[3] } : { keyword: '', rest: line };
}

function lineLabel(line, fallback) {
  if (!line || !line.text) return el('span', { class: 'line none' }, fallback);
  const { keyword, rest } = instruction(line.text);
  return el('code', { class: 'line' }, keyword ? el('b', {}, keyword) : null, keyword ? ' ' : null, el('bdi', {}, rest));
}

function lineText(line, fallback) {
  if (!line || !line.text) return fallback;
  const { keyword, rest } = instruction(line.text);
  return keyword ? `${keyword} ${rest}` : rest;
}

// Ten colours that are told apart in light and in dark, then the same ones paler and deeper.
const HUES = ['#4269d0', '#efb118', '#ff725c', '#6cc5b0', '#3ca951', '#ff8ab7', '#a463f2', '#97bbf5', '#9c6b4e', '#9498a0'];

function layerColor(layer) {
  const round = Math.floor(layer / HUES.length) % 3;
  const hue = HUES[layer % HUES.length];
  return round === 0 ? hue : mix(hue, round === 1 ? '#ffffff' : '#000000', 0.35);
}

// Of a tile: a little towards the page's own colour, and not quite as its neighbour's.
const tileColor = (layer, node) => mix(layerColor(layer), dark() ? '#161b22' : '#ffffff', 0.16 + 0.08 * (node % 4));

const dark = () => getComputedStyle(document.documentElement).colorScheme === 'dark';

function mix(one, other, share) {
  const parts = [1, 3, 5].map((at) => {
    const [a, b] = [one, other].map((color) => parseInt(color.slice(at, at + 2), 16));
    return Math.round(a + (b - a) * share).toString(16).padStart(2, '0');
  });
  return '#' + parts.join('');
}

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A layer's number on its colour.
function chip(layer) {
  const color = layerColor(layer);
  return el('span', { class: 'chip', style: { background: color, color: isPale(color) ? '#18202b' : '#ffffff' } }, el('span', { class: 'unseen' }, 'layer '), String(layer + 1));
}

function isPale(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
}

const swatch = (color) => el('span', { class: 'swatch', style: { background: color }, 'aria-hidden': 'true' });

function bar(part, whole, color) {
  const width = whole ? Math.max(100 * part / whole, part ? 0.6 : 0) : 0;
  return el('span', { class: 'bar', 'aria-hidden': 'true' }, el('span', { style: { width: `${width}%`, background: color || 'var(--accent)' } }));
}
