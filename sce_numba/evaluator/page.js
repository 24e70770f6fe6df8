// Tables are sorted by the column whose head is pressed: first the greatest on top, then the least.
const number = (cell) => cell.querySelector("data")?.value;
// NaN is greater than any number.
const rank = (text) => (text === "NaN" ? [1, 0] : [0, Number(text)]);

function compare(one, other) {
  if (number(one) === undefined) {
    return one.textContent.localeCompare(other.textContent, undefined, { numeric: true });
  }
  const [a, b] = [rank(number(one)), rank(number(other))];
  return Math.sign(a[0] - b[0]) || (a[1] > b[1]) - (a[1] < b[1]);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      const [body] = table.tBodies;
      const rows = [...body.rows];
      rows.sort((one, other) => sign * compare(one.cells[column], other.cells[column]));
      body.append(...rows);
    });
  });
}
