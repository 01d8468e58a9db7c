// What each line did to the files; what is wasted; how the build went; the config.

function stepsSection(image) {
  const items = image.lines.map((line, at) => stepItem(image, line, at));
  return el('section', { id: 'steps', 'aria-labelledby': 'steps-title' },
    el('h2', { id: 'steps-title' }, 'Lines'),
    el('p', { class: 'about' }, 'What each line of the recipe added, changed and deleted, and how many bytes of the layers below it hid. The oldest is first.'),
    el('ol', { class: 'steps' }, items));
}

function stepItem(image, line, at) {
  if (line.layer === null) {
    return el('li', { class: 'step plain' }, el('div', { class: 'summary' }, el('span', { class: 'chip empty', 'aria-hidden': 'true' }), lineLabel(line, '(no line)')));
  }
  const layer = image.layers[line.layer];
  const numbers = [
    el('span', { class: 'sign A', title: 'added' }, `+${number(layer.added)}`),
    el('span', { class: 'sign C', title: 'changed' }, `~${number(layer.changed)}`),
    el('span', { class: 'sign D', title: 'deleted' }, `\u2212${number(layer.deleted)}`),
  ];
  const base = image.base !== null && line.layer < image.base;
  const summary = el('summary', { class: 'summary' }, chip(line.layer), lineLabel(line, `(no line) layer ${line.layer + 1}`),
    el('span', { class: 'numbers' }, base ? el('span', { class: 'tag' }, 'base') : null, numbers,
      layer.hid ? el('span', { class: 'tag gone' }, `hides ${size(layer.hid)}`) : null,
      layer.seconds !== null ? el('span', { class: 'took' }, seconds(layer.seconds)) : null,
      el('strong', { class: 'size' }, size(layer.bytes))));
  const body = el('div', { class: 'body' });
  const details = el('details', { ontoggle: () => { if (details.open && !body.firstChild) body.append(...stepBody(image, line, layer)); } }, summary, body);
  return el('li', { class: 'step' }, details);
}

function stepBody(image, line, layer) {
  const rows = changesOf(image, line.layer);
  const kinds = new Map();
  for (const row of rows) kinds.set(row.change, (kinds.get(row.change) || 0) + 1);
  const choices = ['A', 'C', 'M', 'D'].filter((change) => kinds.has(change))
    .map((change) => ({ value: change, style: change, label: `${SIGNS[change]} ${CHANGES[change]} ${number(kinds.get(change))}` }));
  const table = new Table({
    caption: `What line ${image.lines.indexOf(line) + 1} did`, rows, sort: 2, text: (row) => row.path, empty: 'It changed no file.',
    controls: choices.length > 1 ? [toggles('Show', choices, (on) => { table.keep = (row) => on.has(row.change); table.draw(); })] : [],
    columns: [
      { title: 'what', order: (row) => row.change, cell: (row) => el('span', { class: `sign ${row.change}`, title: CHANGES[row.change] }, SIGNS[row.change], el('span', { class: 'unseen' }, CHANGES[row.change])) },
      { title: 'path', style: 'path', order: (row) => row.path, cell: (row) => [named(row.path + (row.kind === 'd' ? '/' : '')), row.note ? el('span', { class: 'note' }, row.note) : null] },
      { title: 'size', right: true, descending: true, order: (row) => row.bytes, cell: (row) => (row.change === 'D' ? '–' : size(row.bytes)) },
      { title: 'hides', right: true, descending: true, order: (row) => row.hides, cell: (row) => (row.hides ? size(row.hides) : '–') },
    ],
  });
  const about = [];
  if (line.created) about.push(`made ${when(line.created)}`);
  about.push(`${size(layer.size)} as a tar`, `DiffID ${shortId(layer.diff)}`, `ChainID ${shortId(layer.chain)}`);
  return [
    el('pre', { class: 'whole' }, el('bdi', {}, line.text.split('\n').map(shown).join('\n').trim() || '(the history has no line for this layer)')),
    el('p', { class: 'about' }, about.join(' · ')), table.element,
  ];
}

function changesOf(image, layer) {
  const rows = [];
  for (let v = 0; v < image.versions; v++) {
    if (image.layer[v] !== layer) continue;
    const node = image.node[v], before = v > image.first[node] ? v - 1 : -1;
    const hides = before >= 0 && image.hidden[before] === layer ? image.bytes[before] : 0;
    const change = image.change(v);
    let note = '';
    if (image.hidden[v] !== SHOWN) note = `hidden by layer ${image.hidden[v] + 1}`;
    else if (change === 'M' && image.bytes[v]) note = 'its bytes are there again, only mode or owner differ';
    rows.push({ change, path: image.path(node), kind: image.kind(v), bytes: image.bytes[v], hides, note });
  }
  for (const gone of image.deletions) {
    if (gone.layer !== layer) continue;
    const directory = image.end[gone.node] > gone.node + 1;
    rows.push({ change: 'D', path: image.path(gone.node), kind: directory ? 'd' : 'f', bytes: 0, hides: gone.bytes, note: directory ? plural(gone.files, 'file') : '' });
  }
  return rows;
}

function wasteSection(image) {
  const rows = [];
  for (let node = 0; node < image.count; node++) {
    let bytes = 0;
    const layers = [], hiders = [];
    for (let v = image.first[node]; v < image.first[node + 1]; v++) {
      if (image.hidden[v] === SHOWN || !image.bytes[v]) continue;
      bytes += image.bytes[v];
      layers.push(image.layer[v]);
      hiders.push(image.hidden[v]);
    }
    if (bytes) rows.push({ path: image.path(node), bytes, layers, hiders, gone: image.current[node] < 0 });
  }
  const table = new Table({
    caption: 'Wasted bytes', rows, sort: 1, text: (row) => row.path, page: 10, empty: 'Nothing: no layer hides bytes of another.',
    columns: [
      { title: 'path', style: 'path', order: (row) => row.path, cell: (row) => named(row.path) },
      { title: 'wasted', right: true, descending: true, order: (row) => row.bytes, cell: (row) => size(row.bytes) },
      { title: 'in', right: true, order: (row) => row.layers[0], cell: (row) => row.layers.map(layerMark) },
      { title: 'hidden by', right: true, order: (row) => row.hiders[0], cell: (row) => row.hiders.map(layerMark) },
      { title: 'now', order: (row) => Number(row.gone), cell: (row) => (row.gone ? 'deleted' : 'replaced') },
    ],
  });
  return el('section', { id: 'waste', 'aria-labelledby': 'waste-title' },
    el('h2', { id: 'waste-title' }, 'Wasted'),
    el('p', { class: 'about' }, image.wasted
      ? `${size(image.wasted)} of ${size(image.total)} lie in layers that later ones hide: they are stored and pulled, and nobody sees them. The image is ${percent(image.total - image.wasted, image.total)} efficient.`
      : 'Every byte of every layer is one that the image shows.'),
    rows.length ? table.element : null);
}

const OUTCOMES = {
  ran: 'ran', passed: 'test passed', same: 'ran, with the result of an earlier layer', cached: 'hit', empty: 'config alone', failed: 'failed',
};

function timelineSection(image) {
  const timeline = image.timeline;
  const section = el('section', { id: 'build', 'aria-labelledby': 'build-title' }, el('h2', { id: 'build-title' }, 'Build'));
  if (!timeline || !timeline.steps.length) {
    section.append(el('p', { class: 'about' }, 'This store does not know how the image was built: it was made elsewhere, or long ago.'));
    return section;
  }
  const all = Math.max(timeline.seconds, 0.001);
  const ran = timeline.steps.filter((step) => step.outcome !== 'cached').length;
  const waited = timeline.steps.reduce((sum, step) => sum + step.waited, 0);
  const saved = timeline.steps.reduce((sum, step) => sum + (step.took || 0), 0);
  section.append(el('p', { class: 'about' },
    `Built ${when(timeline.started * 1000)} in ${seconds(timeline.seconds)}: ${plural(ran, 'step')} ran, ${timeline.steps.length - ran} hit${saved > 0.05 ? ` (they took ${seconds(saved)} when they ran)` : ''}${waited > 0.05 ? `, ${seconds(waited)} waited` : ''}.`));
  const rows = timeline.steps.map((step) => {
    const left = Math.min(100 * step.at / all, 99.4);
    const width = (value) => `${Math.max(100 * value / all, 0.5)}%`;
    const state = step.outcome === 'cached' ? 'hit' : step.outcome === 'failed' ? 'failed' : step.outcome === 'passed' ? 'passed' : 'ran';
    const track = el('div', { class: 'track', 'aria-hidden': 'true' },
      step.waited ? el('span', { class: 'piece waited', style: { left: `${left}%`, width: width(step.waited) } }) : null,
      el('span', { class: `piece ${state}`, style: { left: `${left + 100 * step.waited / all}%`, width: width(Math.max(0, step.seconds - step.waited)) } }));
    const why = [OUTCOMES[step.outcome] || step.outcome, step.took ? `took ${seconds(step.took)} when it ran` : '', step.waited ? `waited ${seconds(step.waited)}` : '', shown(step.reason)].filter((text) => text).join('; ');
    const { keyword, rest } = instruction(step.text);
    return el('tr', {},
      el('th', { scope: 'row' }, el('code', { class: 'line' }, el('b', {}, keyword), ' ', el('bdi', {}, rest)),
        el('span', { class: 'why' }, `${shown(step.stage)} ${step.number}/${step.of} · ${why}`)),
      el('td', { class: 'gantt' }, track),
      el('td', { class: 'right' }, el('span', { class: `state ${state}` }, state), ' ', seconds(step.seconds)));
  });
  const legend = el('p', { class: 'legend', 'aria-hidden': 'true' }, ['ran', 'passed', 'hit', 'waited'].map((state) => el('span', {}, el('i', { class: `piece ${state}` }), state === 'passed' ? 'test passed' : state)));
  section.append(legend, el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Steps of the build' },
    el('table', { class: 'timeline' }, el('caption', { class: 'unseen' }, 'Steps of the build, as they began'),
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'step'), el('th', { scope: 'col' }, el('span', { class: 'axis' }, [0, 0.5, 1].map((part) => el('span', {}, seconds(part * all))))), el('th', { scope: 'col', class: 'right' }, 'took'))),
      el('tbody', {}, rows))));
  return section;
}

// The config as rows of [name, text], in the order in which people ask for them.
function configRows(image) {
  const config = image.config, rows = [];
  const put = (name, text) => { if (text !== undefined && text !== null && text !== '') rows.push([name, String(text)]); };
  const words = (list) => (list ? list.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))).join(' ') : undefined);
  put('entrypoint', words(config.Entrypoint));
  put('cmd', words(config.Cmd));
  put('user', config.User);
  put('workdir', config.WorkingDir);
  put('ports', Object.keys(config.ExposedPorts || {}).join(' '));
  put('volumes', Object.keys(config.Volumes || {}).join(' '));
  put('stop signal', config.StopSignal);
  put('shell', words(config.Shell));
  if (config.Healthcheck) put('health check', words(config.Healthcheck.Test || []));
  for (const text of config.Env || []) { const at = text.indexOf('='); put(`env ${text.slice(0, at)}`, text.slice(at + 1) || '""'); }
  for (const [key, value] of Object.entries(config.Labels || {})) put(`label ${key}`, value || '""');
  (config.OnBuild || []).forEach((line, at) => put(`onbuild ${at + 1}`, line));
  const known = ['Entrypoint', 'Cmd', 'User', 'WorkingDir', 'ExposedPorts', 'Volumes', 'StopSignal', 'Shell', 'Healthcheck', 'Env', 'Labels', 'OnBuild'];
  for (const [key, value] of Object.entries(config)) if (!known.includes(key)) put(key, JSON.stringify(value));
  put('platform', image.platform);
  put('author', image.author);
  put('created', image.created ? when(image.created) : '');
  image.names.forEach((name) => put('name', name));
  put('image id', image.id);
  return rows;
}

function configSection(image) {
  return el('section', { id: 'config', 'aria-labelledby': 'config-title' }, el('h2', { id: 'config-title' }, 'Config'),
    el('dl', { class: 'config' }, configRows(image).map(([name, text]) => el('div', {}, el('dt', {}, configName(name)), el('dd', {}, named(text))))));
}

function configName(name) {
  const match = /^(env|label) (.*)$/s.exec(name);
  return match ? [el('span', { class: 'kind' }, match[1]), ' ', el('bdi', {}, shown(match[2]))] : shown(name);
}
