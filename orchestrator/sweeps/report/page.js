// Sorting, copying, and finding the same trial in the table and in every chart. The page is whole without it.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const text = cell.textContent.trim();
    return text === "–" ? null : text;
  };
  const compare = (a, b) => {
    const numbers = typeof a === "number" && typeof b === "number";
    return numbers ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table), body = table.tBodies[0];
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      // rows without a value stay last, whichever way
      rows.sort(([a], [b]) => (a === null) - (b === null) || (down ? compare(b, a) : compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    }));
  }

  const more = document.getElementById("more");
  if (more) {
    const hidden = all("#ranking-table tr.more");
    hidden.forEach((row) => { row.hidden = true; });
    more.hidden = false;
    more.addEventListener("click", () => { hidden.forEach((row) => { row.hidden = false; }); more.hidden = true; });
    addEventListener("beforeprint", () => more.click());
  }

  for (const button of all("button[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "copied";
    });
  }

  const tip = document.body.appendChild(Object.assign(document.createElement("div"), { id: "tip", hidden: true }));
  const marks = all("[data-trial]");
  const light = (trial) => {
    const drawn = new Set();
    for (const mark of marks) {
      const lit = mark.dataset.trial === trial;
      mark.classList.toggle("lit", lit);
      if (lit && mark.closest(".drawing")) drawn.add(mark.closest(".drawing"));
    }
    all(".drawing").forEach((drawing) => drawing.classList.toggle("focus", drawn.has(drawing)));
  };
  const words = (trial) => {
    const row = marks.find((mark) => mark.tagName === "TR" && mark.dataset.trial === trial);
    if (!row) return trial;
    const heads = all("#ranking-table thead th");
    return [...row.cells].map((cell, at) => [heads[at], cell])
      .filter(([head, cell]) => head && (head.classList.contains("setting") || cell.tagName === "TH" || head.cellIndex === 3))
      .map(([head, cell]) => {
        const value = (cell.querySelector("b") || cell).textContent.trim();
        return value === "–" ? "" : cell.tagName === "TH" ? value : `${head.textContent} ${value}`;
      }).filter(Boolean).join(" · ");
  };
  document.addEventListener("mouseover", (event) => {
    const mark = event.target.closest("[data-trial]");
    light(mark ? mark.dataset.trial : null);
    tip.hidden = !(mark && mark.closest(".drawing"));
    if (!tip.hidden) tip.textContent = words(mark.dataset.trial);
  });
  document.addEventListener("mousemove", (event) => {
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 440)}px`;
    tip.style.top = `${event.clientY + 16}px`;
  });
})();
