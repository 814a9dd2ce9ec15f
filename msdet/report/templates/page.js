// What the report does beyond showing: sorts and copies tables, saves figures, filters scenes, chooses what a table holds.
// Everything here is an addition: without scripts the page shows the same numbers, pictures and players.
"use strict";

(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const number = (value, decimals) => value.toFixed(decimals).replace(/^-(?=[0.]*$)/, "").replace("-", "\u2212");

  // Sorting -----------------------------------------------------------------------------------------------

  // A cell sorts by its data-value, else by its text; what has neither comes last in both directions.
  const sortKey = (row, column) => {
    const { value } = row.cells[column].dataset;
    const text = value ?? row.cells[column].textContent.trim();
    if (text === "" || text === "\u2013") return null;
    return Number.isNaN(Number(text)) ? text : Number(text);
  };

  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(b));

  const sortBy = (table, column, descending) => {
    const keyed = (table.allRows ?? Array.from(table.tBodies[0].rows)).map((row) => [sortKey(row, column), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return descending ? compare(b, a) : compare(a, b);
    });
    const rows = keyed.map(([, row]) => row);
    if (table.allRows) table.allRows = rows;
    table.tBodies[0].append(...rows.filter((row) => row.isConnected));
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    table.tHead.rows[0].cells[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  };

  // The first press puts the best on top: the largest number, unless the column's data-first says otherwise.
  const makeSortable = (table) => {
    for (const head of table.tHead.rows[0].cells) {
      const button = make("button", { type: "button", class: "sort" });
      const small = head.querySelector("small");
      button.append(...Array.from(head.childNodes).filter((node) => node !== small));
      head.prepend(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        sortBy(table, head.cellIndex, now ? now === "ascending" : head.dataset.first === "largest");
      });
    }
  };

  // Copying -----------------------------------------------------------------------------------------------

  const plain = (text) => text.replace(/\s+/g, " ").trim().replaceAll("\u2212", "-");

  const cellText = (cell) => plain(Array.from(cell.childNodes, (node) =>
    node.nodeType === Node.ELEMENT_NODE && node.classList.contains("unseen") ? "" : node.textContent).join(" "));

  const rowsOf = (table) => [table.tHead.rows[0], ...table.tBodies[0].rows];

  const asMarkdown = (table) => {
    const [head, ...body] = rowsOf(table).map((row) => Array.from(row.cells, cellText));
    const rule = Array.from(table.tHead.rows[0].cells, (cell) => (cell.classList.contains("text") ? "---" : "---:"));
    return [head, rule, ...body].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
  };

  // Intervals become columns of their own: "low" and "high" behind the value.
  const csvCells = (cell, hasInterval) => {
    const { value, low, high } = cell.dataset;
    if (!hasInterval) return [value ?? cellText(cell)];
    if (cell.tagName === "TH") return [cellText(cell), "low", "high"];
    return [value ?? "", low ?? "", high ?? ""];
  };

  const asCsv = (table) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    return rowsOf(table).map((row) => Array.from(row.cells).flatMap((cell, column) =>
      csvCells(cell, "interval" in heads[column].dataset)).map(quoted).join(",") + "\n").join("");
  };

  const LATEX = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\u00b0": "\\textdegree{}",
    "\u2265": "$\\geq$", "\u2013": "--", "<": "$<$", ">": "$>$", "\u25b2": "", "\u25bc": "",
  };

  const latexText = (text) => text.replace(/[\\~^\u00b0\u2265\u2013<>\u25b2\u25bc&%$#_{}]/g, (sign) => LATEX[sign] ?? `\\${sign}`)
    .replace(/(^|[\s[])-(?=\d)/g, (_, before) => `${before}$-$`);

  // Rows begin with an empty group: a bracket at their start would be an argument of the row before.
  const asLatex = (table) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    const align = heads.map((cell) => (cell.classList.contains("text") ? "l" : "r")).join("");
    const [head, ...body] = rowsOf(table).map((row) =>
      `{}${Array.from(row.cells, (cell) => latexText(cellText(cell))).join(" & ")} \\\\\n`);
    return `% needs \\usepackage{booktabs}\n\\begin{tabular}{${align}}\n\\toprule\n${head}\\midrule\n`
      + `${body.join("")}\\bottomrule\n\\end{tabular}\n`;
  };

  // Pages opened from a file may not use the clipboard's own interface in every browser.
  const toClipboard = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = make("textarea", { class: "unseen", "aria-hidden": "true" });
      field.value = text;
      const before = document.activeElement;
      document.body.append(field);
      field.select();
      const copied = document.execCommand("copy");
      field.remove();
      before?.focus();
      return copied;
    }
  };

  const makeCopyable = (box) => {
    const table = box.querySelector("table");
    const status = make("span", { role: "status" });
    const bar = make("div", { class: "copy" });
    for (const [name, write] of [["Markdown", asMarkdown], ["LaTeX", asLatex], ["CSV", asCsv]]) {
      const button = make("button", { type: "button" }, `Copy as ${name}`);
      button.addEventListener("click", async () => {
        status.textContent = (await toClipboard(write(table))) ? "copied" : "the browser did not allow it";
        setTimeout(() => { status.textContent = ""; }, 2500);
      });
      bar.append(button);
    }
    bar.append(status);
    box.after(bar);
  };

  // Figures -----------------------------------------------------------------------------------------------

  // What is saved is light, whatever the page is.
  const svgFile = (svg) => {
    const style = getComputedStyle(document.documentElement);
    return new XMLSerializer().serializeToString(svg)
      .replace(/var\(--(\w+)\)/g, (_, role) => style.getPropertyValue(`--light-${role}`).trim())
      .replaceAll("system-ui", "sans-serif");
  };

  const makeSavable = (figure, n) => {
    const button = make("button", { type: "button" }, "Save as SVG");
    button.addEventListener("click", () => {
      const url = URL.createObjectURL(new Blob([svgFile(figure.querySelector("svg"))], { type: "image/svg+xml" }));
      make("a", { href: url, download: `figure${n + 1}.svg` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    });
    figure.append(make("div", { class: "copy" }, button));
  };

  // Scenes ------------------------------------------------------------------------------------------------

  const sceneTable = (box) => {
    const table = box.querySelector("table");
    const { metrics, values } = JSON.parse(document.getElementById("scene-scores").textContent);
    const form = document.getElementById("scene-filters");
    const status = document.getElementById("scene-count");
    const scoreColumns = all("th[data-score]", table.tHead).map((head) => head.cellIndex);
    table.allRows = Array.from(table.tBodies[0].rows);
    const place = new Map(table.allRows.map((row, n) => [row, n]));
    let metric = metrics[0];

    const showMeans = (shown) => {
      scoreColumns.forEach((column, system) => {
        const found = shown.map((row) => values[metric.key][place.get(row)][system]).filter((v) => v !== null);
        const mean = found.reduce((sum, value) => sum + value, 0) / found.length;
        table.tFoot.rows[0].cells[column].textContent = found.length ? number(mean, metric.decimals) : "\u2013";
      });
    };

    const showScores = () => {
      for (const row of table.allRows) {
        scoreColumns.forEach((column, system) => {
          const value = values[metric.key][place.get(row)][system];
          const cell = row.cells[column];
          cell.textContent = value === null ? "\u2013" : number(value, metric.decimals);
          cell.dataset.value = value ?? "";
        });
      }
      for (const column of scoreColumns) {
        const head = table.tHead.rows[0].cells[column];
        head.dataset.first = metric.better === "higher" ? "largest" : "smallest";
        head.removeAttribute("aria-sort");
        head.querySelector("small").textContent = metric.label;
      }
    };

    const filter = () => {
      const text = form.elements.text.value.trim().toLowerCase();
      const wanted = all("select[data-breakdown]", form).filter((select) => select.value !== "")
        .map((select) => [select.dataset.breakdown, select.value]);
      const holds = (row) => wanted.every(([breakdown, bin]) => row.dataset[breakdown].split(" ").includes(bin))
        && (text === "" || row.textContent.toLowerCase().includes(text));
      const shown = table.allRows.filter(holds);
      table.tBodies[0].replaceChildren(...shown);
      status.textContent = `${shown.length} of ${table.allRows.length} scenes`;
      showMeans(shown);
    };

    form.elements.metric.addEventListener("change", () => {
      metric = metrics.find(({ key }) => key === form.elements.metric.value);
      showScores();
      filter();
    });
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => {
      form.elements.metric.value = metric.key;
      filter();
    }));
    form.hidden = false;
    filter();
  };

  // Crossed conditions ------------------------------------------------------------------------------------

  const crossings = (form) => {
    const { first, second, metric } = form.elements;
    const show = () => {
      for (const option of second.options) option.disabled = option.value === first.value;
      if (second.value === first.value) second.value = Array.from(second.options).find((o) => !o.disabled).value;
      for (const table of all("[data-crossing]", form.parentElement)) {
        table.hidden = table.dataset.crossing !== `${metric.value} ${first.value} ${second.value}`;
      }
    };
    form.addEventListener("change", show);
    form.hidden = false;
    show();
  };

  // Players -----------------------------------------------------------------------------------------------

  // One at a time; if wished, the next of the same scene goes on where the last one was.
  const makePlayers = (form) => {
    let last = null;
    document.addEventListener("play", ({ target }) => {
      if (last && last !== target) {
        last.pause();
        const together = last.closest("table") === target.closest("table");
        if (form.elements.together.checked && together) target.currentTime = last.currentTime;
      }
      last = target;
    }, true);
    form.hidden = false;
  };

  all("table.sortable").forEach(makeSortable);
  all("[data-copy]").forEach(makeCopyable);
  all("figure").forEach(makeSavable);
  all("#scene-table").forEach(sceneTable);
  all("#crossing-choice").forEach(crossings);
  all("#player-choice").forEach(makePlayers);
})();
