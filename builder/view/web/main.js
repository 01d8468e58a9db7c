// The page as a whole.

const THEMES = ['auto', 'light', 'dark'];

function store(key, value) {  // where a browser keeps nothing for files, the page forgets
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
  } catch { /* not kept */ }
  return null;
}

function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  redraw();
}

let drawn = [];
const redraw = () => drawn.forEach((treemap) => { if (treemap.state) treemap.draw(); });

function themeChooser() {
  const theme = THEMES.includes(store('pybuild-theme')) ? store('pybuild-theme') : 'auto';
  setTheme(theme);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  return chooser('Colours', THEMES.map((value) => ({ value, label: value })), theme, (value) => { store('pybuild-theme', value); setTheme(value); });
}

function cards(image) {
  const card = (title, value, note, href) => el('a', { class: 'card', href }, el('span', { class: 'title' }, title), el('strong', {}, value), el('span', { class: 'note' }, note));
  const tar = image.layers.reduce((sum, layer) => sum + layer.size, 0);
  const steps = image.timeline ? image.timeline.steps : [];
  const hits = steps.filter((step) => step.outcome === 'cached').length;
  return el('div', { class: 'cards' },
    card('size', size(image.total), `${size(tar)} as tars`, '#files'),
    card('files', number(image.files), `in ${plural(image.layers.length, 'layer')}`, '#files'),
    card('efficiency', percent(image.total - image.wasted, image.total), `${size(image.wasted)} wasted`, '#waste'),
    card('lines', number(image.lines.length), `${image.lines.filter((line) => line.layer === null).length} of the config alone`, '#steps'),
    steps.length ? card('build', seconds(image.timeline.seconds), `${steps.length - hits} ran, ${hits} hit`, '#build')
      : card('created', image.created ? when(image.created).slice(0, 10) : '–', shown(image.platform), '#config'));
}

function header(images) {
  const titles = images.map((image) => named(image.name));
  const about = images.length === 1 ? [el('code', {}, shortId(images[0].id)), shown(images[0].platform), images[0].created ? `created ${when(images[0].created)}` : null]
    : images.map((image) => el('code', {}, shortId(image.id)));
  return el('header', {},
    el('div', { class: 'brand' }, el('span', { class: 'logo', 'aria-hidden': 'true' }, el('i'), el('i'), el('i')), 'pybuild view'),
    themeChooser(),
    el('div', {}, el('h1', {}, titles.length === 2 ? [titles[0], el('span', { class: 'to', 'aria-label': 'compared with' }, ' → '), titles[1]] : titles),
      el('p', { class: 'about' }, about.filter((part) => part).flatMap((part, at) => (at ? [' · ', part] : [part])))));
}

function parts(image) {
  const files = new Files(image);
  return { files, elements: [cards(image), files.element, stepsSection(image), wasteSection(image), timelineSection(image), configSection(image)] };
}

function links(comparing) {
  const names = [['files', 'Files'], ['steps', 'Lines'], ['waste', 'Wasted'], ['build', 'Build'], ['config', 'Config']];
  if (comparing) names.unshift(['differences', 'Differences']);
  return el('nav', { class: 'contents', 'aria-label': 'Page' }, names.map(([id, name]) => el('a', { href: `#${id}` }, name)));
}

function show(value) {
  const images = value.images.map((facts) => new ImageTree(facts));
  const head = header(images);
  const body = el('div', { class: 'image' });
  const main = el('main', {});
  let current = null;
  const choose = (image) => {
    current = parts(image);
    drawn = [current.files.treemap, ...(differences ? differences.treemaps : [])];
    body.replaceChildren(...current.elements);
  };
  const differences = value.comparison ? new Differences(images, value.comparison) : null;
  if (differences) {
    main.append(differences.element, el('div', { class: 'which-image' }, el('h2', {}, 'Each by itself'),
      chooser('Image', images.map((image, at) => ({ value: at, label: `${at ? 'second' : 'first'}: ${shown(image.name)}` })), 0, (at) => choose(images[at]))));
  }
  choose(images[0]);
  main.append(body);
  document.getElementById('app').replaceChildren(head, links(differences !== null), main,
    el('footer', {}, `pybuild ${shown(value.version)}. This page holds all that it shows; it loads and sends nothing.`));
  document.addEventListener('keydown', (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      current.files.search.focus();
    } else if (event.key === 'Escape' && event.target === current.files.search) {
      current.files.search.value = '';
      current.files.look();
    }
  });
}

async function start() {
  const library = document.createElement('script');
  library.textContent = await unpack('library');
  document.head.append(library);
  if (typeof Plotly === 'undefined') throw new Error('the plotting library did not run');
  show(JSON.parse(await unpack('document')));
  document.documentElement.dataset.ready = 'yes';
}

start().catch((error) => {
  const wait = document.getElementById('wait') || document.body.appendChild(el('p'));
  wait.textContent = `This browser cannot show the page: ${error.message}`;
  console.error(error);
});
