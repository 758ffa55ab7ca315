// Prometheus' answers as Grafana's data frames, with a panel's transformations and field configuration applied.
import { applyFieldOverrides, cacheFieldDisplayNames, createDataFrame, FieldConfigOptionsRegistry, FieldType, standardTransformers } from '@grafana/data';
import { of } from 'rxjs';

const transformations = new Map(Object.values(standardTransformers).map((one: any) => [one.id, one]));

export function frames({ panel, results, theme, data }: any) {
  const made = panel.targets.flatMap((target: any) => {
    const series = results[target.refId] ?? [];
    if (target.format === 'table') {
      return [table(series, panel.targets.length > 1 ? `Value #${target.refId}` : 'Value', target.refId)];
    }
    return series.map((one: any) => line(one, target, data));
  });
  let transformed = made;
  if (panel.transformations) {
    const operators = panel.transformations.map(({ id, options }: any) => transformations.get(id).operator(options, { interpolate: (text: string) => text }));
    const filled = made.filter((frame: any) => frame.length > 0);
    (of(filled).pipe as any)(...operators).subscribe((result: any) => (transformed = result));
  }
  const applied = applyFieldOverrides({
    data: transformed, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry(panel.fieldConfig), theme,
    replaceVariables: text => text, timeZone: 'utc',
  });
  cacheFieldDisplayNames(applied);
  return applied;
}

// What Grafana calls a line: its legend, with labels put in.
function line(one: any, target: any, data: any) {
  const name = target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_: string, label: string) => one.metric[label] ?? '');
  const points = new Map((one.values ?? [one.value]).map(([time, value]: any) => [time, Number(value)]));
  const times: number[] = [];
  if (target.instant) times.push(...(points.keys() as any));
  else for (let time = data.from / 1000; time <= data.to / 1000; time += data.step) times.push(time);
  return createDataFrame({
    refId: target.refId, name,
    fields: [
      { name: 'Time', type: FieldType.time, values: times.map(time => time * 1000), config: {} },
      { name: 'Value', type: FieldType.number, labels: one.metric, values: times.map(time => points.get(time) ?? null), config: { displayNameFromDS: name } },
    ],
  });
}

function table(series: any[], valueName: string, refId: string) {
  const labels = [...new Set(series.flatMap(one => Object.keys(one.metric)))].sort();
  return createDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: series.map(one => one.value[0] * 1000), config: {} },
      ...labels.map(label => ({ name: label, type: FieldType.string, values: series.map(one => one.metric[label] ?? ''), config: { filterable: true } })),
      { name: valueName, type: FieldType.number, values: series.map(one => Number(one.value[1])), config: {} },
    ],
  });
}

// Every property that the panel sets, taken as it is.
function registry(fieldConfig: any) {
  const ids = new Set<string>();
  for (const [id, value] of Object.entries(fieldConfig.defaults)) {
    if (id === 'custom') Object.keys(value as any).forEach(inner => ids.add(`custom.${inner}`));
    else ids.add(id);
  }
  for (const over of fieldConfig.overrides) over.properties.forEach((property: any) => ids.add(property.id));
  return new FieldConfigOptionsRegistry(() => [...ids].map(id => ({
    id, path: id.replace(/^custom\./, ''), isCustom: id.startsWith('custom.'), name: id, settings: {},
    process: (value: any) => value, shouldApply: () => true, override: (() => null) as any, editor: (() => null) as any,
  }) as any));
}
