"""The look of a report page: one stylesheet, light and dark, for screens of any width and for paper."""

STYLESHEET = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2430; --muted: #5f6b7a; --rule: #d9dee5; --accent: #2563a8;
  --on-accent: #fffffe;
  --soft: #f5f7f9; --warn: #a45a00; --warn-soft: #fff6e8; --hatch: #a8a8a8; --hatch-ground: #7a7a7a;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", "Source Serif 4", Georgia,
    "Liberation Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161c; --ink: #e4e8ee; --muted: #98a3b1; --rule: #2d3540; --accent: #6ba6e8;
    --on-accent: #0c1118;
    --soft: #1a2028; --warn: #f0b35e; --warn-soft: #2a2216;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 var(--sans);
  font-variant-numeric: lining-nums;
}
main, header, footer { max-width: 1160px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 56px; }
.kicker {
  margin: 0 0 10px; color: var(--accent); font-size: 13px; font-weight: 600; letter-spacing: .09em;
  text-transform: uppercase;
}
h1 { margin: 0; font: 600 40px/1.15 var(--serif); letter-spacing: -.01em; overflow-wrap: anywhere; }
.subtitle {
  margin: 12px 0 0; max-width: 74ch; color: var(--muted); font-size: 17px; overflow-wrap: anywhere;
}
.date { margin: 4px 0 0; color: var(--muted); font-size: 14px; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 0; margin: 34px 0 0;
  padding: 0;
  border-top: 2px solid var(--ink); border-bottom: 1px solid var(--rule);
}
.tile { padding: 16px 18px 16px 0; }
.tile dt { color: var(--muted); font-size: 13px; }
.tile dd { margin: 0; }
.tile .value {
  white-space: nowrap; font: 600 34px/1.25 var(--serif); font-variant-numeric: lining-nums tabular-nums;
}
.tile .note { color: var(--muted); font-size: 13px; line-height: 1.4; }
.notice {
  margin: 22px 0 0; padding: 12px 16px; border-left: 4px solid var(--warn); background: var(--warn-soft);
  overflow-wrap: anywhere;
}
.notice b { color: var(--warn); }
section { margin: 52px 0 0; }
h2 { margin: 0 0 14px; font: 600 25px/1.25 var(--serif); }
h3 { margin: 26px 0 8px; font-size: 14px; font-weight: 600; }
p { margin: 0 0 14px; max-width: 74ch; overflow-wrap: anywhere; }
section > p { font-family: var(--serif); font-size: 17.5px; }
figure { margin: 22px 0 30px; }
figcaption, caption { color: var(--muted); font-size: 14px; line-height: 1.5; text-align: left; }
figcaption { margin-top: 10px; max-width: 84ch; }
figcaption b, caption b { color: var(--ink); }
figcaption a { color: var(--accent); margin-left: 6px; white-space: nowrap; }
.scroll { overflow-x: auto; }
.chart svg {
  display: block; width: 100%; height: auto; min-width: calc(var(--natural) * .66);
  max-width: var(--natural);
}
.chart svg text { font-family: var(--sans) !important; }
.chart.wide { grid-column: 1 / -1; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 500px), 1fr)); gap: 0 48px;
  align-items: start;
}
table { border-collapse: collapse; font-size: 15px; width: 100%; max-width: 940px; margin: 20px 0 28px; }
caption { caption-side: top; padding-bottom: 10px; max-width: min(84ch, calc(100vw - 36px)); }
thead th {
  border-top: 2px solid var(--ink); border-bottom: 1px solid var(--ink); padding: 7px 14px 7px 0;
  font-weight: 600;
  font-size: 13.5px; text-align: left; vertical-align: bottom;
}
tbody td { border-bottom: 1px solid var(--rule); padding: 6px 14px 6px 0; white-space: nowrap; }
td a { color: var(--accent); }
td .fine {
  display: block; max-width: 46ch; color: var(--muted); font-size: 12.5px; line-height: 1.35;
  white-space: normal;
}
tbody tr:last-child td { border-bottom: 2px solid var(--ink); }
.scroll tr > :first-child { position: sticky; left: 0; background: var(--paper); }
th.number, td.number { text-align: right; font-variant-numeric: lining-nums tabular-nums; }
th.number:last-child, td.number:last-child { padding-right: 2px; }
.swatch {
  display: inline-block; width: 13px; height: 13px; margin-right: 9px; border-radius: 3px;
  vertical-align: -1px;
  border: 1px solid color-mix(in srgb, var(--ink) 40%, transparent); -webkit-print-color-adjust: exact;
  print-color-adjust: exact;
}
.swatch.hatched {
  background: repeating-linear-gradient(135deg, var(--hatch) 0 2px, var(--hatch-ground) 2px 5px);
}
.legend {
  display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 0 0 14px; padding: 0; list-style: none;
  font-size: 14px;
}
.panels {
  display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 10px;
  align-items: end;
}
.panel { display: block; margin: 0; cursor: zoom-in; }
.panel span { display: block; margin-bottom: 3px; color: var(--muted); font-size: 13px; }
.panel img { display: block; width: 100%; height: auto; background: var(--soft); }
.panel input { position: absolute; opacity: 0; pointer-events: none; }
.panel input:focus-visible ~ img { outline: 3px solid var(--accent); outline-offset: 2px; }
.panel:has(input:checked) { grid-column: 1 / -1; cursor: zoom-out; }
.panel:has(input:checked) img { max-width: 1104px; }
.commands { margin: 0; padding: 0; list-style: none; max-width: 860px; }
.commands li { margin: 0 0 16px; }
.commands code, pre { font: 14px/1.5 var(--mono); }
.commands code {
  display: block; margin-top: 4px; padding: 9px 14px; background: var(--soft);
  border: 1px solid var(--rule);
  border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
}
footer {
  margin-top: 64px; padding-top: 14px; padding-bottom: 48px; color: var(--muted); font-size: 13px;
  overflow-wrap: anywhere;
}
footer p { border-top: 1px solid var(--rule); padding-top: 14px; max-width: none; }
@media (max-width: 720px) {
  body { font-size: 15px; }
  main, header, footer { padding-left: 18px; padding-right: 18px; }
  header { padding-top: 30px; }
  h1 { font-size: 29px; }
  section { margin-top: 40px; }
  section > p { font-size: 16px; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .tile .value { font-size: 27px; }
  .panels { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  table.long { font-size: 12px; }
  table.long :is(th, td) { padding-right: 7px; font-size: inherit; }
  table.long td:first-child { min-width: 15ch; white-space: normal; }
  table.long td .fine { max-width: 26ch; font-size: 11px; }
}
@media print {
  :root {
    color-scheme: light; --paper: #fff; --ink: #000; --muted: #444; --rule: #ccc; --accent: #1d4f87;
    --on-accent: #fff;
    --soft: #fff; --warn: #7a4300; --warn-soft: #fff;
  }
  @page { margin: 16mm 14mm; }
  body { font-size: 10.5pt; }
  main, header, footer { max-width: none; padding: 0; }
  section { margin-top: 22pt; }
  section > p { font-size: 10.5pt; }
  h2, h3 { break-after: avoid; }
  figure, .row, table, .notice, .tile { break-inside: avoid; }
  figure.gallery, table.long { break-inside: auto; }
  tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  .scroll tr > :first-child { position: static; }
  .chart svg { min-width: 0; }
  table { max-width: none; }
  table.long { font-size: 7.5pt; }
  table.long :is(th, td) { padding: 2pt 5pt 2pt 0; font-size: inherit; }
  table.long td .fine { font-size: 6.5pt; }
  .panels { grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); }
  figcaption a { display: none; }
}
"""
