/**
 * The page's one style sheet. Series colours are Okabe and Ito's (2008), which all kinds of colour vision tell
 * apart; yellow is left out, as it vanishes on white paper. On paper the page is always light.
 */
export const STYLESHEET = `
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f23; --soft: #5c6470; --rule: #d9dde3; --grid: #e9ecf0;
  --shade: #f5f6f8; --bad: #a8320a; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #e69f00;
  --c5: #56b4e9; --c6: #1c1f23; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #16181c; --ink: #e4e7eb; --soft: #9aa3af;
  --rule: #3a4048; --grid: #2a2f36; --shade: #1e2126; --bad: #ff9d73; --c0: #3d9fdc; --c1: #f0833a; --c2: #2cc295;
  --c6: #e4e7eb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 924px; margin: 0 auto; padding: 48px 32px 72px; }
h1 { font-size: 27px; line-height: 1.25; font-weight: 600; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; font-weight: 600; margin: 56px 0 12px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; font-weight: 600; margin: 32px 0 8px; }
p, ul, dl { margin: 8px 0; max-width: 74ch; overflow-wrap: anywhere; }
ul { padding-left: 20px; }
li { margin: 4px 0; }
.meta, .legend, figcaption, caption { color: var(--soft); font-size: 13px; }
.answer { font-size: 17px; margin-top: 24px; padding: 0; list-style: none; }
.answer li { margin: 8px 0; }
a { color: inherit; }
.failure { color: var(--bad); fill: var(--bad); font-weight: 600; }
.about { font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin: 12px 0; }
.figures { min-width: 60%; }
caption { text-align: left; padding: 0 0 8px; }
th, td { padding: 4px 12px; text-align: right; vertical-align: top; white-space: nowrap; font-weight: normal; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
thead th { font-weight: 600; border-bottom: 1px solid var(--ink); }
tbody th[colspan] { font-weight: 600; padding-top: 14px; }
tbody tr + tr td, tbody tr + tr th[scope=row] { border-top: 1px solid var(--grid); }
tbody th[scope=row] { color: var(--soft); }
.words td { white-space: normal; overflow-wrap: break-word; }
.words code { overflow-wrap: break-word; }
.best { font-weight: 700; }
.best::after { content: ' *'; }
.figures td, .figures thead th { padding-right: 20px; }
.figures thead th:first-child, .figures tr > :first-child { padding-right: 12px; }
.figures td.best { padding-right: 8px; }
.void { color: var(--soft); font-style: italic; }
figure { margin: 28px 0 40px; }
figure h3 { margin: 0 0 8px; }
figcaption { max-width: 78ch; margin-top: 8px; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
svg text { fill: var(--soft); }
svg .name { fill: var(--ink); }
svg .axis-label { fill: var(--soft); }
svg .failure { fill: var(--bad); }
.axis { fill: none; stroke: var(--soft); }
.grid { fill: none; stroke: var(--grid); }
.leader { fill: none; stroke: var(--soft); stroke-width: 0.75; stroke-dasharray: 1 2; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
.mark { fill: var(--c); stroke: var(--paper); }
.column { fill: var(--c); }
.outline { fill: var(--paper); stroke: var(--c); stroke-width: 1.5; }
.quiet { fill: var(--soft); }
.band { fill: var(--soft); opacity: 0.1; }
.s0 { --c: var(--c0); } .s1 { --c: var(--c1); } .s2 { --c: var(--c2); } .s3 { --c: var(--c3); }
.s4 { --c: var(--c4); } .s5 { --c: var(--c5); } .s6 { --c: var(--c6); }
pre { background: var(--shade); padding: 12px 16px; overflow-x: auto; font-size: 12.5px; line-height: 1.5;
  white-space: pre-wrap; overflow-wrap: anywhere; }
code, .digest { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.9em; overflow-wrap: anywhere; }
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h2, h3, h2 + p, caption { break-after: avoid; }
  .size ~ .size { break-before: page; }
  figure, tr, .answer li { break-inside: avoid; }
  tbody { break-inside: avoid; }
  .words tbody { break-inside: auto; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  table { font-size: 9pt; }
  th, td { padding: 2px 8px; }
  pre { font-size: 8pt; }
}
`;
