// The queue: a waiting job is moved by dragging its row, with mouse or finger.
(() => {
  const waiting = document.getElementById("waiting");
  const form = document.getElementById("move");
  waiting.classList.add("can-drag");
  const place = (row) => [row.previousElementSibling, row.nextElementSibling];

  const send = (row) => {
    const [above, below] = place(row);
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = below ? "before" : "after";
    field.value = (below || above).dataset.job;
    form.append(field);
    form.action = row.dataset.move;
    form.requestSubmit();
    field.remove(); // it has been read; a page that comes back must not send it again
  };

  const follow = (row, event) => {
    const over = document.elementFromPoint(row.getBoundingClientRect().x + 40, event.clientY);
    const other = over && over.closest("tr[data-job]");
    if (!other || other === row || other.parentNode !== row.parentNode) return;
    const box = other.getBoundingClientRect();
    other[event.clientY < box.y + box.height / 2 ? "before" : "after"](row);
  };

  waiting.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest(".drag");
    if (!handle || event.button !== 0) return;
    event.preventDefault();
    const row = handle.closest("tr");
    const [above, below] = place(row);
    waiting.dataset.held = "yes"; // not refreshed under the hand
    row.classList.add("dragged");
    const drag = new AbortController();
    const listen = (name, act) => addEventListener(name, act, { signal: drag.signal });
    const end = (keep) => {
      drag.abort();
      row.classList.remove("dragged");
      delete waiting.dataset.held;
      const [nowAbove, nowBelow] = place(row);
      if (keep && (nowAbove !== above || nowBelow !== below)) send(row);
      else if (below) below.before(row);
      else if (above) above.after(row);
    };
    listen("pointermove", (moved) => follow(row, moved));
    listen("pointerup", () => end(true));
    listen("pointercancel", () => end(false));
    listen("keydown", (pressed) => { if (pressed.key === "Escape") end(false); });
  });
})();
