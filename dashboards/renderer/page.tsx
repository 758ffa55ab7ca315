// A dashboard as a page: its panels in their places, drawn by Grafana's own components.
import { createTheme, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome, PanelContextProvider } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import 'uplot/dist/uPlot.min.css';

import { draw } from './panels';

const { DATA } = window as any;
const theme = createTheme({ colors: { mode: DATA.mode } });
const GAP = 8;

function Panel({ panel }: any) {
  const column = DATA.width / 24;
  const { x, y, w, h } = panel.gridPos;
  const width = Math.floor(w * column) - GAP, height = h * DATA.row - GAP;
  const place = { position: 'absolute' as const, left: Math.floor(x * column) + GAP / 2, top: y * DATA.row + 56, width, height };
  if (panel.type === 'row') {
    const mark = panel.collapsed ? '›' : '⌄';
    return <div style={{ ...place, color: theme.colors.text.primary, font: '500 16px Inter, sans-serif' }}>{mark} {panel.title}</div>;
  }
  return (
    <div style={place}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(width, height) => draw({ panel, results: DATA.results[panel.id] ?? {}, width, height, theme, data: DATA })}
      </PanelChrome>
    </div>
  );
}

function Page() {
  const variables = Object.entries(DATA.variables).map(([name, value]) => `${name}: ${/[.[]/.test(String(value)) ? 'All' : value}`);
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={{ eventBus: { subscribe: () => ({ unsubscribe() {} }), getStream: () => ({ subscribe: () => ({ unsubscribe() {} }), pipe: () => ({ subscribe: () => ({ unsubscribe() {} }) }) }), publish() {} } as any, sync: () => 0 } as any}>
        <div style={{ padding: '14px 8px', color: theme.colors.text.primary, font: '500 20px Inter, sans-serif' }}>
          {DATA.dashboard.title}
          <span style={{ font: '14px Inter, sans-serif', color: theme.colors.text.secondary, marginLeft: 24 }}>{variables.join('   ')}</span>
        </div>
        {DATA.dashboard.panels.map((panel: any) => <Panel key={panel.id} panel={panel} />)}
      </PanelContextProvider>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')!).render(<Page />);
