"""The report's style sheet."""

from __future__ import annotations

from msdet.plots.theme import DARK, LIGHT, css_variables

_RULES = """
* { box-sizing: border-box; }
html { color-scheme: light dark; scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--surface); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, main, footer { max-width: 1168px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; margin: 56px 0 6px; padding-top: 12px; border-top: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 32px 0 4px; }
p { margin: 6px 0 14px; max-width: 46rem; }
.about, .note, figcaption { color: var(--muted); font-size: 0.9rem; }
nav { margin: 18px 0 0; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 22px; list-style: none; margin: 0; padding: 0; }
a { color: var(--blue); text-underline-offset: 0.2em; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -9999px; }
.skip:focus { left: 12px; top: 12px; background: var(--surface); padding: 6px 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 14px;
  margin: 18px 0 28px; padding: 0; list-style: none; }
.tiles li { background: var(--shade); border-radius: 8px; padding: 14px 18px; }
.tiles strong { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 650; }
.tiles .name { font-size: 0.9rem; }
.tiles small { display: block; color: var(--muted); font-size: 0.8rem; }
.tiles small span { white-space: nowrap; }
.wide { position: relative; overflow-x: auto; margin: 10px 0 14px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.84rem; }
caption { text-align: left; font-weight: 600; padding: 6px 0; }
th, td { padding: 7px 11px 7px 0; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--grid); }
th:last-child, td:last-child { padding-right: 2px; }
th { font-weight: 600; }
thead th { vertical-align: bottom; }
thead tr:last-child th { border-bottom-color: var(--muted); }
th[colspan] { text-align: center; border-left: 12px solid var(--surface); }
th small, td small { display: block; color: var(--muted); font-weight: 400; font-size: 0.92em; }
th:first-child, th.text { text-align: left; }
.mark { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 50%; margin-right: 0.5em; }
.mark ~ small { margin-left: 1.35em; }
ul.notes { color: var(--muted); font-size: 0.85rem; padding-left: 1.2em; margin: 4px 0 14px; }
figure { margin: 14px 0 22px; }
figure svg { display: block; width: 100%; min-width: 640px; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: 6px; max-width: 46rem; }
details { margin: 6px 0 18px; }
summary { cursor: pointer; color: var(--blue); font-size: 0.9rem; width: fit-content; }
.players td, .players th { vertical-align: middle; text-align: left; }
audio { display: block; width: 222px; height: 36px; }
button, select, input { font: inherit; color: var(--ink); background: var(--surface);
  border: 1px solid var(--muted); border-radius: 4px; padding: 2px 7px; }
button { cursor: pointer; }
button:hover { background: var(--shade); }
button.sort { all: unset; box-sizing: border-box; cursor: pointer; display: inline-block; font-weight: 600;
  white-space: nowrap; }
button.sort:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; border-radius: 2px; }
button.sort:hover { text-decoration: underline; text-underline-offset: 0.2em; }
button.sort::after { content: "\\2195"; color: var(--slate); margin-left: 0.25em; font-size: 0.85em; }
[aria-sort="ascending"] > button.sort::after { content: "\\25B2"; color: var(--ink); }
[aria-sort="descending"] > button.sort::after { content: "\\25BC"; color: var(--ink); }
.copy { display: flex; gap: 8px; align-items: center; margin: -8px 0 18px; font-size: 0.8rem;
  color: var(--muted); }
.choices { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; margin: 12px 0;
  font-size: 0.85rem; }
.choices[hidden], [hidden] { display: none; }
#scene-count { color: var(--muted); }
tr > th:first-child { position: sticky; left: 0; background: var(--surface); z-index: 1; }
.scenes { max-height: 32rem; overflow: auto; border-bottom: 1px solid var(--grid); }
.scenes table { min-width: 100%; }
.scenes thead th { position: sticky; top: 0; background: var(--surface); z-index: 2;
  box-shadow: inset 0 -1px var(--muted); }
.scenes thead th:first-child { z-index: 3; }
.scenes tfoot td, .scenes tfoot th { position: sticky; bottom: 0; background: var(--shade); z-index: 2;
  font-weight: 600; border-top: 1px solid var(--muted); box-shadow: 0 4px var(--shade); }
.sign { font-size: 0.85em; margin-left: 0.2em; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
.crossed caption { white-space: nowrap; }
.heat { position: relative; }
.crossed td, .crossed thead th:not(:first-child) { padding-left: 12px; min-width: 5rem; }
.heat::before { content: ""; position: absolute; inset: 0; background: var(--blue);
  opacity: calc(0.05 + 0.4 * var(--share)); print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.heat > span { position: relative; }
footer { color: var(--muted); font-size: 0.85rem; padding-top: 28px; padding-bottom: 48px; }
@media (max-width: 640px) { header, main, footer { padding-left: 16px; padding-right: 16px; } }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
"""

_PRINT = """
  html { color-scheme: light; }
  body { font-size: 10.5pt; }
  header, main, footer { max-width: none; padding: 0; }
  nav, .skip, audio, .sound, .choices, .copy, details:not([open]), .sort::after { display: none !important; }
  .scenes { max-height: none; }
  .scenes tbody tr:nth-child(n + 26) { display: none; }
  .scenes::after { content: "On paper, no more than the first 25 of these scenes; the mean is of all.";
    font-size: 8pt; color: var(--muted); }
  .scenes table { break-inside: auto; }
  tr { break-inside: avoid; }
  .scenes tfoot { display: table-row-group; }
  .wide th, .wide tfoot td { position: static !important; }
  .mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2, h3, h3 + .about { break-after: avoid; }
  figure, table, .tiles li { break-inside: avoid; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: 8px; }
  .tiles li { padding: 8px 10px; border: 1px solid var(--grid); }
  .wide { overflow: visible; }
  .tiles strong { font-size: 1.3rem; }
  table { font-size: 7.5pt; }
  th, td { padding-right: 8px; }
  figure svg { min-width: 0; }
"""


def style_sheet() -> str:
    """CSS of the page: light, dark where the reader's system asks for it, and light on paper."""
    light, dark = css_variables(LIGHT), css_variables(DARK)
    return (
        f":root {{ {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"{_RULES}"
        f"@media print {{\n  :root {{ {light} }}{_PRINT}}}\n"
    )
