// Joins JSON schemas into one file, without their descriptions: node schemas.mjs FOLDER OUT
import fs from 'node:fs';
import path from 'node:path';

const [folder, out] = process.argv.slice(2);
const strip = value => {
  if (Array.isArray(value)) return value.map(strip);
  if (value === null || typeof value !== 'object') return value;
  const kept = Object.entries(value).filter(([key, inner]) => key !== 'description' || typeof inner !== 'string');
  return Object.fromEntries(kept.map(([key, inner]) => [key, strip(inner)]));
};
const names = { timeseries: 'timeseries', stat: 'stat', table: 'table', heatmap: 'heatmap', 'state-timeline': 'statetimeline' };
const schemas = { dashboard: 'dashboard' };
for (const [type, file] of Object.entries(names)) for (const what of ['Options', 'FieldConfig']) schemas[`${type} ${what}`] = `${file}.${what}`;
const lines = Object.entries(schemas)
  .map(([name, file]) => [name, path.join(folder, `${file}.json`)])
  .filter(([, file]) => fs.existsSync(file))
  .map(([name, file]) => `${JSON.stringify(name)}:${JSON.stringify(strip(JSON.parse(fs.readFileSync(file))))}`);
fs.writeFileSync(out, `{\n${lines.join(',\n')}\n}\n`);
