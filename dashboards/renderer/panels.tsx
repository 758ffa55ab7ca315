// The panel types. Time series, stats and tables are Grafana's components; its npm packages lack the heatmap and the
// state timeline, which are drawn here after their pattern.
import { dateTime, getFieldDisplayValues } from '@grafana/data';
import { BigValue, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

import { frames } from './frames';

export function draw(props: any) {
  const made = frames(props);
  const nothing = made.every((frame: any) => frame.length === 0);
  const { panel, width, height } = props;
  if (nothing && panel.type !== 'stat') {
    const text = panel.fieldConfig.defaults.noValue ?? 'No data';
    return <div style={{ width, height, display: 'flex', alignItems: 'center', justifyContent: 'center', color: props.theme.colors.text.secondary, fontSize: 16 }}>{text}</div>;
  }
  switch (panel.type) {
    case 'timeseries': return <Lines {...props} frames={made} />;
    case 'stat': return <Stats {...props} frames={made} />;
    case 'table': return <TableNG data={made[0]} width={width} height={height} theme={props.theme} initialSortBy={panel.options.sortBy} cellHeight={panel.options.cellHeight} {...({} as any)} />;
    case 'heatmap': return <Heatmap {...props} frames={made} />;
    case 'state-timeline': return <States {...props} frames={made} />;
    default: throw new Error(panel.type);
  }
}

function Lines({ frames, panel, width, height, data, theme }: any) {
  const range = { from: dateTime(data.from), to: dateTime(data.to), raw: { from: 'now-3h', to: 'now' } };
  const marks = (builder: any) => {
    builder.addHook('draw', (u: any) => {
      for (const { time, color } of data.annotations) {
        const x = Math.round(u.valToPos(time, 'x', true));
        u.ctx.save();
        u.ctx.strokeStyle = theme.visualization.getColorByName(color);
        u.ctx.setLineDash([4, 4]);
        u.ctx.beginPath();
        u.ctx.moveTo(x, u.bbox.top);
        u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
        u.ctx.stroke();
        u.ctx.restore();
      }
    });
    return null;
  };
  return <TimeSeries frames={frames} timeRange={range as any} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={panel.options}>{marks}</TimeSeries>;
}

function values({ frames, panel, theme }: any) {
  return getFieldDisplayValues({
    data: frames, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: text => text,
    sparkline: panel.options.graphMode === 'area', theme, timeZone: 'utc',
  });
}

function Stats(props: any) {
  const { panel, width, height, theme } = props;
  const all = values(props);
  const one = Math.floor(width / all.length);
  return (
    <div style={{ display: 'flex', width, height }}>
      {all.map((value, index) => (
        <BigValue key={index} value={value.display} sparkline={value.sparkline} width={one} height={height} theme={theme}
          colorMode={panel.options.colorMode} graphMode={panel.options.graphMode} justifyMode={panel.options.justifyMode}
          textMode={panel.options.textMode} count={all.length} />
      ))}
    </div>
  );
}

function Heatmap({ frames, width, height, data, theme }: any) {
  const rows = frames.map((frame: any) => ({ le: Number(frame.name === '+Inf' ? Infinity : frame.name), field: frame.fields[1] })).sort((a: any, b: any) => a.le - b.le);
  // Buckets of Prometheus count all below them; the difference to the one before is what fell into it.
  const cells = rows.map(({ le, field }: any, row: number) => ({
    le, values: field.values.map((value: any, at: number) => value == null ? null : Math.max(0, value - (row ? rows[row - 1].field.values[at] ?? 0 : 0))),
  }));
  const most = Math.max(1e-9, ...cells.flatMap((cell: any) => cell.values.filter((value: any) => value != null)));
  const left = 70, bottom = 22, h = (height - bottom) / cells.length, w = (width - left) / cells[0].values.length;
  const name = (le: number) => le === Infinity ? '+Inf' : le >= 1 ? `${le} s` : le >= 1e-3 ? `${Number((le * 1e3).toPrecision(3))} ms` : `${Number((le * 1e6).toPrecision(3))} µs`;
  return (
    <svg width={width} height={height} style={{ font: '12px Inter, sans-serif' }}>
      {cells.map(({ le, values }: any, row: number) => {
        const y = height - bottom - (row + 1) * h;
        return (
          <g key={le}>
            <text x={left - 8} y={y + h / 2 + 4} textAnchor="end" fill={theme.colors.text.primary}>{name(le)}</text>
            {values.map((value: any, at: number) => value ? <rect key={at} x={left + at * w} y={y + 1} width={w + 0.5} height={h - 2} shapeRendering="crispEdges" fill="#ff9830" opacity={0.12 + 0.88 * Math.sqrt(value / most)} /> : null)}
          </g>
        );
      })}
      <Clock theme={theme} data={data} left={left} width={width} y={height - 6} />
    </svg>
  );
}

function States({ frames, width, height, data, theme }: any) {
  const left = 220, bottom = 22, h = (height - bottom) / frames.length;
  return (
    <svg width={width} height={height} style={{ font: '12px Inter, sans-serif' }}>
      {frames.map((frame: any, row: number) => {
        const field = frame.fields[1], w = (width - left) / field.values.length;
        return (
          <g key={row}>
            <text x={left - 8} y={row * h + h / 2 + 4} textAnchor="end" fill={theme.colors.text.primary}>{frame.name}</text>
            {field.values.map((value: any, at: number) => value == null ? null : <rect key={at} x={left + at * w} y={row * h + 1} width={w + 0.5} height={h - 2} shapeRendering="crispEdges" fill={field.display(value).color} opacity={0.7} />)}
            <text x={left + 8} y={row * h + h / 2 + 4} fill={theme.colors.text.primary}>{field.display(field.values.find((value: any) => value != null)).text}</text>
          </g>
        );
      })}
      <Clock theme={theme} data={data} left={left} width={width} y={height - 6} />
    </svg>
  );
}

function Clock({ theme, data, left, width, y }: any) {
  const at = [0, 0.25, 0.5, 0.75, 1];
  return (
    <>
      {at.map(part => {
        const anchor = part === 0 ? 'start' : part === 1 ? 'end' : 'middle';
        const time = new Date(data.from + part * (data.to - data.from)).toISOString().slice(11, 16);
        return <text key={part} x={left + part * (width - left)} y={y} textAnchor={anchor} fill={theme.colors.text.secondary}>{time}</text>;
      })}
    </>
  );
}
