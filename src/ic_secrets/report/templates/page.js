"use strict";
// The page is whole without this: it adds a search over names, opens what a filter has found, and counts what is shown.
(() => {
  const root = document.documentElement;
  const form = document.getElementById("filters");
  const query = document.getElementById("q");
  const shown = document.getElementById("shown");
  const owners = [...document.querySelectorAll("details.owner")].map((element) => ({
    element,
    name: element.querySelector("h3").textContent.toLowerCase(),
    tokens: new Set(element.dataset.f.split(" ")),
    rows: [...element.querySelectorAll("tbody tr")].map((row) => ({
      row,
      name: row.cells[0].textContent.toLowerCase(),
      tokens: new Set(row.dataset.f.split(" ")),
    })),
  }));
  const FEW = 20;
  const number = new Intl.NumberFormat("en");

  const chosen = () => ({
    flags: [...form.querySelectorAll("[id^=f-]:checked")].map((box) => box.id.slice(2)),
    type: form.querySelector("[id^=t-]:checked").id.slice(2),
    words: query.value.trim().toLowerCase(),
  });

  const fits = (tokens, { flags, type }) =>
    (type === "any" || tokens.has(type)) && (!flags.length || flags.some((flag) => tokens.has(flag)));

  // What CSS hides stays hidden; only the search hides by itself.
  const update = () => {
    const wanted = chosen();
    const left = [];
    let names = 0;
    for (const owner of owners) {
      const whole = !wanted.words || owner.name.includes(wanted.words);
      let here = 0;
      for (const { row, name, tokens } of owner.rows) {
        const found = whole || name.includes(wanted.words);
        row.hidden = !found;
        here += found && fits(tokens, wanted);
      }
      owner.element.hidden = Boolean(wanted.words) && !here && !(whole && !owner.rows.length);
      if (here) left.push(owner.element);
      names += here;
    }
    const filtered = wanted.flags.length || wanted.type !== "any" || wanted.words;
    if (filtered && left.length <= FEW) for (const element of left) element.open = true;
    shown.textContent = names ? `${number.format(names)} shown` : "nothing fits";
  };

  const setAll = (open) => {
    for (const { element } of owners) element.open = open;
  };

  let waiting = 0;
  query.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 80);
  });
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  document.getElementById("open").addEventListener("click", () => setAll(true));
  document.getElementById("close").addEventListener("click", () => setAll(false));
  addEventListener("beforeprint", () => setAll(true));
  root.classList.add("scripted");
  update();
})();
