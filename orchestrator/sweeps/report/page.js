// Finding the same trial in the table and in every chart. The page is whole without it.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const more = document.getElementById("more");
  if (more) {
    const hidden = all("#ranking-table tr.more");
    hidden.forEach((row) => { row.hidden = true; });
    more.hidden = false;
    more.addEventListener("click", () => { hidden.forEach((row) => { row.hidden = false; }); more.hidden = true; });
    addEventListener("beforeprint", () => more.click());
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
