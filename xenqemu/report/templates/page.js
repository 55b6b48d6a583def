"use strict";
// Sorting by a column's button, filtering of tables and of the series. Without it the page says all the same.
(() => {
  const fold = (text) => text.trim().toLowerCase();

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? fold(cell.textContent) : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = button.closest("table").tBodies[0];
      // Numbers are looked at from the largest, words from the first.
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const cell of head.parentElement.cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort((a, b) => sign * compare(key(a, head.cellIndex), key(b, head.cellIndex))));
    });
  }

  const filter = (input, entries, noun) => {
    const output = document.querySelector(`output[for="${input.id}"]`);
    const said = entries.map((entry) => fold(entry.textContent));
    input.addEventListener("input", () => {
      const words = fold(input.value).split(/\s+/);
      const shown = entries.filter((entry, place) => {
        entry.hidden = !words.every((word) => said[place].includes(word));
        return !entry.hidden;
      });
      output.value = shown.length === entries.length ? `${entries.length} ${noun}` : `${shown.length} of ${entries.length}`;
    });
  };
  for (const input of document.querySelectorAll("input[data-rows]")) {
    // Sorting moves rows and makes no new ones, so what they say stays theirs.
    filter(input, [...document.getElementById(input.dataset.rows).tBodies[0].rows], "rows");
  }
  for (const input of document.querySelectorAll("input[data-items]")) {
    filter(input, [...document.getElementById(input.dataset.items).children], "patches");
  }

  for (const button of document.querySelectorAll("button[data-open]")) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(open));
      for (const entry of document.getElementById(button.dataset.open).children) entry.open = open;
    });
  }

  // A link, or a bookmark, to what is inside of a closed part opens it.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (let part = target && target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  };
  window.addEventListener("hashchange", reveal);
  reveal();
})();
