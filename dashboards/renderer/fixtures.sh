#!/bin/bash
# Makes tests/fixtures/grafana again from the npm packages: for a new version of Grafana. npm install comes first (pictures.sh).
set -euo pipefail
here=$(dirname "$(realpath "$0")")
cd "$here"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
types=node_modules/@grafana/schema/dist/types/raw
schema() { npx --no-install ts-json-schema-generator --path "$1" --type "$2" --no-type-check -o "$work/$3.json"; }
schema $types/dashboard/x/types.gen.d.ts Dashboard dashboard
for panel in timeseries stat table heatmap statetimeline; do
  file=$(echo $types/composable/$panel/panelcfg/x/*types.gen.d.ts)
  for type in Options FieldConfig; do
    ! grep -qE "export (interface|type) $type\b" "$file" || schema "$file" $type $panel.$type
  done
done
node schemas.mjs "$work" ../../tests/fixtures/grafana/schemas.json
cat >"$work/units.tsx" <<'X'
import { getValueFormats } from '@grafana/data';
document.body.innerText = getValueFormats().flatMap(group => (group.submenu ?? []).map(unit => unit.value)).join(' ');
X
NODE_PATH=node_modules node_modules/.bin/esbuild "$work/units.tsx" --bundle --outfile="$work/units.js" --log-level=error \
  '--define:process.env.NODE_ENV="production"'
echo '<body><script src="units.js"></script></body>' >"$work/units.html"
chromium --headless --no-sandbox --disable-gpu --dump-dom "file://$work/units.html" 2>/dev/null |
  sed -E 's/<[^>]*>//g' | tr -s ' \n' '\n' | sed '/^$/d' >../../tests/fixtures/grafana/units.txt
