// Draws the two charts that the server describes, and keeps their data fresh.
(async () => {
  const box = document.getElementById("curves");
  if (!box || !window.Bokeh) return;
  Bokeh.set_log_level("error");
  const table = document.querySelector("#points tbody");
  const none = document.getElementById("no-points");
  const waiting = document.getElementById("waiting");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const answer = await fetch(box.dataset.charts);
  if (!answer.ok) return;
  for (const item of await answer.json()) await Bokeh.embed.embed_item(item);
  const models = () => Bokeh.documents.flatMap((d) => [...d._all_models.values()]);

  // The page's colours, so that charts read well in light and dark.
  const paint = () => {
    const ink = css("--bs-body-color"), quiet = css("--ty-quiet"), grid = css("--ty-grid");
    const lines = { train: css("--ty-train"), val: css("--ty-val") };
    for (const model of models()) {
      if (model.type === "Title") model.text_color = ink;
      if (model.type.endsWith("Axis")) {
        Object.assign(model, { axis_label_text_color: quiet, major_label_text_color: quiet, axis_line_color: grid, major_tick_line_color: grid, minor_tick_line_color: null });
      }
      if (model.type === "Grid") model.grid_line_color = grid;
      if (model.type === "Legend") Object.assign(model, { label_text_color: ink, background_fill_color: css("--ty-card"), background_fill_alpha: 0.85, border_line_color: grid });
      if (model.type === "Span") model.line_color = quiet;
      for (const tag of model.tags || []) {
        if (!lines[tag]) continue;
        if (model.type === "Line") model.line_color = lines[tag];
        if (model.type === "Scatter") { model.line_color = lines[tag]; model.fill_color = lines[tag]; }
      }
    }
  };
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
