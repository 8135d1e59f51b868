// Draws every chart whose address gives it with its columns: [data-chart].
(async () => {
  if (!window.Bokeh) return;
  Bokeh.set_log_level("error");
  const { models, paint } = trainyardCharts;
  for (const box of document.querySelectorAll("[data-chart]")) {
    const answer = await fetch(box.dataset.chart);
    if (!answer.ok) continue;
    const { chart, columns } = await answer.json();
    await Bokeh.embed.embed_item(chart);
    for (const model of models()) if (columns[model.name]) model.data = columns[model.name];
    paint();
  }
  document.addEventListener("themechange", paint);
})();
