// The page's colours for every chart that BokehJS draws on it, in light and dark.
const trainyardCharts = (() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const models = () => Bokeh.documents.flatMap((d) => [...d._all_models.values()]);
  const paint = () => {
    const ink = css("--bs-body-color"), quiet = css("--ty-quiet"), grid = css("--ty-grid");
    const lines = { train: css("--ty-train"), val: css("--ty-val"), test: css("--ty-test"), quiet };
    for (let place = 0; place < 6; place += 1) lines[`line-${place}`] = css(`--ty-line-${place}`);
    for (const model of models()) {
      if (model.type === "Title") model.text_color = ink;
      if (model.type.endsWith("Axis")) {
        Object.assign(model, { axis_label_text_color: quiet, major_label_text_color: quiet, axis_line_color: grid, major_tick_line_color: grid, minor_tick_line_color: null });
      }
      if (model.type === "Grid") model.grid_line_color = grid;
      if (model.type === "Legend") Object.assign(model, { label_text_color: ink, background_fill_color: css("--ty-card"), background_fill_alpha: 0.85, border_line_color: grid });
      if (model.type === "Span" || model.type === "Slope") model.line_color = quiet;
      for (const tag of model.tags || []) {
        if (!lines[tag]) continue;
        if (model.type === "Line" || model.type === "Segment") model.line_color = lines[tag];
        if (model.type === "VArea") model.fill_color = lines[tag];
        if (model.type === "Scatter") { model.line_color = lines[tag]; model.fill_color = lines[tag]; }
      }
    }
  };
  return { models, paint };
})();
