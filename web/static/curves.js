// Draws the two charts that the server describes, and keeps their data fresh.
(async () => {
  const box = document.getElementById("curves");
  if (!box || !window.Bokeh) return;
  Bokeh.set_log_level("error");
  const table = document.querySelector("#points tbody");
  const none = document.getElementById("no-points");
  const waiting = document.getElementById("waiting");
  const answer = await fetch(box.dataset.charts);
  if (!answer.ok) return;
  for (const item of await answer.json()) await Bokeh.embed.embed_item(item);
  const { models, paint } = trainyardCharts;
  paint();
  document.addEventListener("themechange", paint);

  const show = (state) => {
    for (const model of models()) {
      if (model.type === "ColumnDataSource" && state.columns[model.name]) model.data = state.columns[model.name];
      if (model.type === "Span" && state.fine_tune_from !== null) { model.location = state.fine_tune_from; model.visible = true; }
    }
    none.hidden = state.rows.length > 0;
    waiting.textContent = state.waiting;
    waiting.hidden = !state.waiting;
    table.replaceChildren(...state.rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, i) => {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (i) cell.className = "number";
        row.append(cell);
      });
      return row;
    }));
  };
  let last = "";
  const refresh = async () => {
    const answer = await fetch(box.dataset.points, { cache: "no-cache" });
    if (!answer.ok) return;
    const text = await answer.text();
    if (text === last) return;
    last = text;
    show(JSON.parse(text));
  };
  await refresh();
  while (box.dataset.live) {
    await new Promise((done) => setTimeout(done, 2000));
    if (!document.hidden) try { await refresh(); } catch { /* the next one may work */ }
  }
})();
