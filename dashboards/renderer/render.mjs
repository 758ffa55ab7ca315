// Draws dashboards from a Prometheus, dark and light: node render.mjs PROMETHEUS OUT_DIR ['NAME|VARIABLE=VALUE,...|all or ROW,ROW']...
//
// Asks Prometheus what Grafana would ask, writes the answers beside the bundled page, and has Chromium take a picture of it.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const [prometheus, out, ...wanted] = process.argv.slice(2);
const here = path.dirname(new URL(import.meta.url).pathname);
const modules = process.env.RENDERER_MODULES ?? path.join(here, 'node_modules');
const minutes = Number(process.env.RENDERER_MINUTES ?? 8);
const WIDTH = 1600, ROW = 38;

const bundle = path.join(out, 'page.js');
execFileSync(path.join(modules, '.bin/esbuild'), [path.join(here, 'page.tsx'), '--bundle', `--outfile=${bundle}`, '--jsx=automatic',
  '--define:process.env.NODE_ENV="production"', '--loader:.svg=dataurl', '--loader:.ttf=dataurl', '--loader:.woff2=dataurl', '--log-level=error'], { env: { ...process.env, NODE_PATH: modules } });

// Grafana's components fetch their icons.
fs.cpSync(path.join(modules, '@grafana/ui/dist/public'), path.join(out, 'public/build'), { recursive: true });

const get = async (what, parameters) => {
  const answer = await fetch(`${prometheus}/api/v1/${what}?${new URLSearchParams(parameters)}`);
  const body = await answer.json();
  if (body.status !== 'success') throw new Error(`${what} ${JSON.stringify(parameters)}: ${body.error}`);
  return body.data.result;
};
const to = Math.floor(Date.now() / 1000), from = to - minutes * 60;

for (const want of wanted) {
  const [name, assignments, rows] = want.split('|');
  const dashboard = JSON.parse(fs.readFileSync(path.join(here, '..', `${name}.json`)));
  const variables = { top: '10' };
  for (const { name, type } of dashboard.templating.list) if (type === 'query') variables[name] = '.+';
  for (const assignment of (assignments ?? '').split(',').filter(Boolean)) {
    const [variable, ...value] = assignment.split('=');
    variables[variable] = value.join('=');
  }
  const fill = expression => Object.entries(variables).reduce((text, [variable, value]) => text.replaceAll(`$${variable}`, value),
    expression.replaceAll('$__rate_interval', '16s').replaceAll('$__interval', '5s').replaceAll('$__range', `${minutes}m`));
  // Closed rows are opened, or left closed.
  const panels = [];
  let shift = 0;
  for (const panel of dashboard.panels) {
    panel.gridPos.y += shift;
    panels.push(panel);
    if (panel.type === 'row' && panel.collapsed && (rows === 'all' || rows?.split(',').includes(panel.title))) {
      panel.collapsed = false;
      for (const inner of panel.panels) panels.push(inner), (inner.gridPos.y += shift);
    } else if (panel.type === 'row' && panel.collapsed) {
      const bottom = Math.max(...panel.panels.map(inner => inner.gridPos.y + shift + inner.gridPos.h));
      shift -= bottom - panel.gridPos.y - 1;
    }
  }
  const step = Math.max(2, Math.ceil((to - from) / 240));
  const results = {};
  for (const panel of panels) {
    for (const target of panel.targets ?? []) {
      const query = fill(target.expr);
      const result = target.instant ? await get('query', { query, time: to }) : await get('query_range', { query, start: from, end: to, step });
      (results[panel.id] ??= {})[target.refId] = result;
    }
  }
  const annotations = [];
  for (const annotation of dashboard.annotations.list.filter(one => one.target)) {
    const result = await get('query_range', { query: fill(annotation.target.expr), start: from, end: to, step: 30 });
    for (const { values } of result) {
      const times = annotation.useValueForTime ? [...new Set(values.map(([, value]) => Number(value) / 1000))] : values.map(([time]) => time);
      annotations.push(...times.map(time => ({ time: time * 1000, color: annotation.iconColor })));
    }
  }
  const shown = { ...variables };
  const height = Math.max(...panels.map(panel => (panel.gridPos.y + panel.gridPos.h) * ROW)) + 70;
  const data = { dashboard: { title: dashboard.title, panels }, results, annotations, variables: shown, from: from * 1000, to: to * 1000, step, width: WIDTH, row: ROW };
  for (const mode of ['dark', 'light']) {
    const page = path.join(out, `${name}-${mode}.html`), picture = path.join(out, `${name}-${mode}.webp`);
    fs.writeFileSync(page, `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><body style="margin:0;background:${mode === 'dark' ? '#111217' : '#f4f5f5'}"><div id="root"></div>
      <script>window.DATA = ${JSON.stringify({ ...data, mode }).replaceAll('<', '\\u003c')}</script><script src="page.js"></script>`);
    execFileSync('chromium', ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--allow-file-access-from-files', '--force-color-profile=srgb',
      `--window-size=${WIDTH},${height}`, '--virtual-time-budget=8000', `--screenshot=${picture}`, `file://${page}`], { stdio: 'ignore' });
    console.log(picture);
  }
}
